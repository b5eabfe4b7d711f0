"""Compressed files of lines: whole, cut at any place, damaged, with something behind them."""

from __future__ import annotations

import gzip
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from replay.runs.open import open_source
from replay.sources import line_reader as lines_module
from replay.sources.line_reader import LineReader, count_in_file
from tests.effort import effort
from tests.fixtures.data_designer_format import content

Pack = Callable[[bytes], bytes]


def zstandard(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def noise(count: int, seed: int = 1) -> list[bytes]:
    """Lines that hardly compress, so that they spread over many blocks."""
    dice = random.Random(seed)
    return [b'{"n":%d,"x":"%s"}' % (n, dice.randbytes(40).hex().encode()) for n in range(count)]


LINES = noise(6_000)
PLAIN = b"\n".join(LINES) + b"\n"
PACKINGS: dict[str, Pack] = {"gzip": gzip.compress, "zstd": zstandard}


@pytest.fixture(params=PACKINGS)
def pack(request: pytest.FixtureRequest) -> Pack:
    return PACKINGS[request.param]


def read_all(path: Path) -> tuple[list[bytes], list[str]]:
    reader = LineReader(path, growing=False, on_restart=lambda why: None)
    whole_lines: list[bytes] = []
    while True:
        more = reader.read(500)
        whole_lines += [line for _, line in more]
        if not more and reader.at_end:
            break
    reader.close()
    return whole_lines, [problem.problem for problem in reader.problems]


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "packed"  # what it is, its name need not say
    path.write_bytes(data)
    return path


def test_a_whole_file(tmp_path: Path, pack: Pack) -> None:
    path = written(tmp_path, pack(PLAIN))
    assert read_all(path) == (LINES, [])
    assert count_in_file(path, b'"n":', 10_000) == len(LINES)


def test_several_members_and_padding(tmp_path: Path, pack: Pack) -> None:
    half = PLAIN.index(b"\n", len(PLAIN) // 2) - 7
    path = written(tmp_path, pack(PLAIN[:half]) + pack(PLAIN[half:]) + bytes(70_000))
    assert read_all(path) == (LINES, [])


@pytest.mark.parametrize("tail", [b"garbage", b"\x1f\x8bgarbage" * 9, b"\0" * 600 + b"x" * 90_000])
def test_something_else_behind_the_data(tmp_path: Path, pack: Pack, tail: bytes) -> None:
    whole_lines, problems = read_all(written(tmp_path, pack(PLAIN) + tail))
    assert whole_lines == LINES
    assert len(problems) == 1
    assert "6,000 lines were read" in problems[0]


def test_a_last_line_without_newline_before_garbage_is_whole(tmp_path: Path, pack: Pack) -> None:
    whole_lines, problems = read_all(written(tmp_path, pack(PLAIN.rstrip()) + b"garbage"))
    assert whole_lines == LINES
    assert len(problems) == 1


def possible(data: bytes) -> list[bytes]:
    """Whole lines that zlib gives when it is fed byte by byte."""
    inflate, plain = zlib.decompressobj(31), bytearray()
    try:
        for byte in data:
            plain += inflate.decompress(bytes([byte]))
    except zlib.error:
        pass
    return bytes(plain).split(b"\n")[:-1]


@pytest.mark.parametrize("seed", range(effort(6, 60)))
def test_every_whole_line_before_a_cut_or_damage_is_read(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray(gzip.compress(PLAIN, 6))
    if seed % 2:
        data = data[: dice.randrange(20, len(data))]
    else:
        data[dice.randrange(20, len(data))] ^= 1 << dice.randrange(8)
    whole_lines, problems = read_all(written(tmp_path, bytes(data)))
    assert len(problems) == 1
    whole = possible(bytes(data))
    assert whole_lines[: len(whole)] == whole
    assert len(whole_lines) - len(whole) <= (
        "checksum" in problems[0]
    )  # a last one without newline
    assert f"{len(whole_lines):,} lines were read" in problems[0]


def test_a_small_file_with_a_dirty_tail_is_read(tmp_path: Path) -> None:
    data = gzip.compress(b"\n".join(LINES[:20]) + b"\n")
    for cut in range(1, 60):
        whole_lines, problems = read_all(written(tmp_path, data[:-cut]))
        assert whole_lines == possible(data[:-cut])
        assert len(problems) == 1
        assert "ends too early" in problems[0]


def test_a_wrong_checksum_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(PLAIN))
    data[-6] ^= 1
    whole_lines, problems = read_all(written(tmp_path, bytes(data)))
    assert whole_lines == LINES
    assert "checksum" in problems[0]


@pytest.mark.parametrize("seed", range(effort(4, 40)))
def test_blocks_of_zstandard_before_a_cut_are_read(tmp_path: Path, seed: int) -> None:
    data = zstandard(PLAIN)
    size = random.Random(seed).randrange(1, len(data))
    whole_lines, problems = read_all(written(tmp_path, data[:size]))
    stream = pa.CompressedInputStream(pa.BufferReader(data[:size]), "zstd")
    plain = bytearray()
    try:
        while byte := stream.read(1):
            plain += byte
    except OSError:
        pass
    assert whole_lines == bytes(plain).split(b"\n")[:-1]
    assert "ends too early" in problems[0]


def test_what_was_decompressed_before_damage_in_zstandard_is_read(tmp_path: Path) -> None:
    first, second = PLAIN[: PLAIN.index(b"\n", 300_000) + 1], b"\n".join(noise(4_000, 2))
    damaged = bytearray(zstandard(second))
    damaged[4] ^= 0xFF
    whole_lines, problems = read_all(written(tmp_path, zstandard(first) + bytes(damaged)))
    assert whole_lines == first.splitlines()
    assert "damaged" in problems[0]


def test_a_line_that_bombs_stays_under_the_limit(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE", 100_000)
    plain = LINES[0] + b"\n" + b"x" * 3_000_000 + b"\n" + LINES[1] + b"\n"
    whole_lines, problems = read_all(written(tmp_path, pack(plain)))
    assert whole_lines == LINES[:2]
    assert problems == ["longer than 8 MB"]


def test_a_compressed_file_is_followed_while_it_is_written(tmp_path: Path) -> None:
    """As gzip writes it when its writer flushes: lines come before the member is whole."""
    path = tmp_path / "run.jsonl.gz"
    reader = LineReader(path, growing=True, on_restart=lambda why: None)
    whole_lines: list[bytes] = []
    with gzip.open(path, "wb") as packed:
        for start in range(0, 600, 100):
            packed.write(b"\n".join(LINES[start : start + 100]) + b"\n")
            packed.flush()
            whole_lines += [line for _, line in reader.read(1_000)]
            assert len(whole_lines) >= start + 99
    whole_lines += [line for _, line in reader.read(1_000)]
    with path.open("ab") as file:
        file.write(gzip.compress(LINES[600] + b"\n"))
    whole_lines += [line for _, line in reader.read(1_000)]
    reader.close()
    assert whole_lines == LINES[:601]
    assert not reader.problems


@pytest.mark.parametrize("name", ["run.jsonl.zst", "run.jsonl", "run.gz", "events.log"])
def test_a_file_is_opened_by_what_it_is(tmp_path: Path, pack: Pack, name: str) -> None:
    data = content(storm=False, rows=4, buffer_size=4, seed=1, requests=True)
    (tmp_path / name).write_bytes(pack(data))
    feed = open_source(tmp_path / name, growing=False).feed
    assert feed is not None
    assert feed.folder is None
    count = 0
    while events := feed.poll().events:
        count += len(events)
    feed.close()
    assert count == data.count(b"\n")
    assert feed.outcome == "success"


def test_a_folder_with_a_zstandard_file(tmp_path: Path) -> None:
    data = content(storm=False, rows=4, buffer_size=4, seed=1, requests=True)
    folder = tmp_path / "dataset" / "logs"
    folder.mkdir(parents=True)
    (folder / "scheduler_events.jsonl.zst").write_bytes(zstandard(data))
    opened = open_source(tmp_path)
    assert opened.feed is not None
    assert opened.feed.folder is None
    assert opened.title == "logs"
    shutil.rmtree(folder)
