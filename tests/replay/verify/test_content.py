"""What must never be in a recording is found wherever it stands, and is not repeated."""

from __future__ import annotations

import gzip
import json
import os
import random
import zlib
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pytest

from engine.events import JournalEnd, JournalHeader, encode_lines
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_record import RunRecord
from replay.recording.ingest import Ingest
from replay.recording.writer import PART_BYTES
from replay.sources.base import SourceError
from replay.sources.feed import open_lines
from replay.verify.content import KEY_SHAPES, ContentSearch
from replay.verify.report import VerifyReport, render_text
from replay.verify.rules import RuleBook
from replay.verify.verify import verify_recording
from tests.replay.verify.streams import healthy

CANARY = 'a "canary"\nsings — très haut'
KEYS = {
    "an OpenAI or Anthropic key": "sk-" + "a1B2" * 8,
    "an AWS access key": "AKIAABCDEFGHIJKLMNOP",
    "a GitHub token": "ghp_" + "a1" * 18,
    "a Google API key": "AIza" + "b" * 35,
    "a Hugging Face token": "hf_" + "c" * 34,
    "a private key": "-----BEGIN RSA PRIVATE KEY-----",
    "a signed web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmN",
    "a bearer token": "Authorization: Bearer abcdefghijklmnopqrstuvwxyz",
}


def lines(*messages: str) -> bytes:
    """A small run; the messages stand in its 201st event and those behind it."""
    run, events = healthy(6)
    stream = list(events)
    for index, message in enumerate(messages, 200):
        event = stream[index]
        stream[index] = msgspec.structs.replace(
            event, diagnostics={**event.diagnostics, "message": message}
        )
    end = JournalEnd("success", 99.0, 0, 0)
    return encode_lines([JournalHeader(run, 1, 1), *stream, end])


def recorded(source: Path, target: Path) -> Path:
    feed = open_lines(source, False)
    ingest = Ingest(feed, target)
    while ingest.step():
        pass
    ingest.finish()
    ingest.close()
    feed.close()
    return target


def content(report: VerifyReport) -> dict[str, int]:
    [check] = [check for check in report.checks if check.rule == "content"]
    return {deviation.what: deviation.count for deviation in check.deviations}


def test_a_healthy_recording_is_clean_in_every_form(tmp_path: Path) -> None:
    plain = tmp_path / "run.jsonl"
    plain.write_bytes(lines())
    packed = tmp_path / "run.jsonl.gz"
    packed.write_bytes(gzip.compress(lines()))
    reports = [
        verify_recording(path, [CANARY])
        for path in (plain, packed, recorded(plain, tmp_path / "run.duckdb"))
    ]
    for report in reports:
        assert report.verdict == "fine", render_text(report)
        assert all(check.status == "ok" for check in report.checks), render_text(report)
    assert len({(report.events, report.run_id, report.outcome) for report in reports}) == 1


@pytest.mark.parametrize("form", ["jsonl", "gz", "zst", "duckdb", "folder"])
def test_a_canary_is_found_in_every_form_and_never_shown(tmp_path: Path, form: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(CANARY))
    if form == "gz":
        path = tmp_path / "run.jsonl.gz"
        path.write_bytes(gzip.compress(lines(CANARY)))
    elif form == "zst":
        path = tmp_path / "run.jsonl.zst"
        path.write_bytes(pa.compress(lines(CANARY), codec="zstd", asbytes=True))
    elif form == "duckdb":
        path = recorded(path, tmp_path / "run.duckdb")
    elif form == "folder":
        folder = RunFolder(tmp_path / "run")
        folder.journal.mkdir(parents=True)
        folder.segment(1).write_bytes(lines(CANARY))
        write_record(folder, RunRecord("run", "demo", "running"))
        path = folder.path
    report = verify_recording(path, ["something else", CANARY])
    assert report.verdict == "found"
    assert content(report)
    assert all(name.startswith("canary 2 in ") for name in content(report))
    assert "sings" not in render_text(report)
    if form == "duckdb":
        assert "event 201" in render_text(report)


def test_a_canary_in_a_field_that_no_reader_keeps_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first, *rest = lines().splitlines()
    facts = json.loads(rest[10]) | {"note_of_another_version": "the canary prompt"}
    path.write_bytes(b"\n".join([first, *rest[:10], json.dumps(facts).encode(), *rest[11:]]))
    report = verify_recording(path, ["the canary prompt"])
    assert content(report) == {"canary 1 in run.jsonl": 1}


def test_what_is_shaped_like_a_key_is_found_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines(*(f"HTTP 401 for {key} today" for key in KEYS.values())))
    in_file = verify_recording(path)
    stored = verify_recording(recorded(path, tmp_path / "run.duckdb"))
    assert content(in_file) == {f"{shape} in run.jsonl": 1 for shape in KEYS}
    assert content(stored) == {f"{shape} in events.diagnostics": 1 for shape in KEYS}
    for report in (in_file, stored):
        text = render_text(report) + msgspec.json.encode(report).decode()
        assert not any(key in text for key in KEYS.values())


def test_a_canary_on_the_edge_of_two_blocks_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.verify.content.BLOCK_BYTES", 64)
    path = tmp_path / "output.log"
    for before in range(40, 70):
        path.write_bytes(b"." * before + b"the canary" + b"." * 100)
        book = RuleBook()
        ContentSearch(book, ["the canary"]).in_file(os.open(path, os.O_RDONLY), "output.log")
        assert list(book.deviations["content"]) == ["canary 1 in output.log"]


def test_a_blob_is_looked_into(tmp_path: Path) -> None:
    plain = tmp_path / "run.jsonl"
    plain.write_bytes(lines())
    path = recorded(plain, tmp_path / "run.duckdb")
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE resume SET fold = 'the canary'::BLOB")
    report = verify_recording(path, ["the canary"])
    assert content(report) == {"canary 1 in resume.fold": 1}


def noise(size: int) -> bytes:
    """Text that shrinks to about half, so that it is not stored as it is."""
    return random.Random(size).randbytes(size // 2).hex().encode()


def packed_canary() -> bytes:
    """A large keyframe with a canary far behind its first part, on the edge of two parts."""
    before = zlib.compress(noise(50_000), 1)
    packed = zlib.compress(noise(50_000) + b"the canary" + noise(50_000), 1)
    assert len(before) > 5 * PART_BYTES
    assert b"the canary" not in packed
    return packed


def add_parts(connection: duckdb.DuckDBPyConnection, ordinal: int, data: bytes) -> None:
    """As the writer keeps what is large, but with the last part first."""
    parts = [
        (ordinal, start // PART_BYTES, data[start : start + PART_BYTES])
        for start in range(0, len(data), PART_BYTES)
    ]
    connection.executemany("INSERT INTO keyframe_parts VALUES (?, ?, ?)", parts[::-1])


@pytest.mark.parametrize("table", ["keyframes", "keyframe_changes"])
@pytest.mark.parametrize("large", [False, True])
def test_a_canary_that_stands_in_a_keyframe_alone_is_found(
    tmp_path: Path, table: str, large: bool
) -> None:
    plain = tmp_path / "run.jsonl"
    plain.write_bytes(lines())
    path = recorded(plain, tmp_path / "run.duckdb")
    with duckdb.connect(str(path)) as connection:
        if large:
            connection.execute(f"INSERT INTO {table} VALUES (400, 1.0, ''::BLOB)")
            add_parts(connection, 200, zlib.compress(noise(40_000), 1))
            add_parts(connection, 400, packed_canary())
        else:
            packed = zlib.compress(b"x" * 9_000 + b"the canary", 1)
            connection.execute(f"INSERT INTO {table} VALUES (400, 1.0, ?)", [packed])
    book = RuleBook()
    ContentSearch(book, ["the canary"]).in_database(path)
    column = {"keyframes": "state", "keyframe_changes": "changes"}[table]
    where = "keyframe_parts.data" if large else f"{table}.{column}"
    [actual] = book.deviations["content"].values()
    assert (actual.what, actual.count) == (f"canary 1 in {where}", 1)
    assert actual.examples[0].ordinal == 400
    assert not book.unchecked["content"]


def test_what_stands_behind_the_end_of_a_keyframe_is_searched_as_well(tmp_path: Path) -> None:
    plain = tmp_path / "run.jsonl"
    plain.write_bytes(lines())
    path = recorded(plain, tmp_path / "run.duckdb")
    with duckdb.connect(str(path)) as connection:
        packed = zlib.compress(noise(1_000), 1)
        connection.execute("UPDATE resume SET fold = ?", [packed + b"the canary"])
    assert content(verify_recording(path, ["the canary"])) == {"canary 1 in resume.fold": 1}


def test_a_bomb_in_parts_is_read_in_part_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.verify.content.INFLATED_BYTES", 1 << 20)
    monkeypatch.setattr("replay.verify.content.BLOCK_BYTES", 1 << 16)
    plain = tmp_path / "run.jsonl"
    plain.write_bytes(lines())
    path = recorded(plain, tmp_path / "run.duckdb")
    with duckdb.connect(str(path)) as connection:
        add_parts(connection, 200, zlib.compress(bytes(20 << 20) + b"the canary", 1))
    book = RuleBook()
    search = ContentSearch(book, ["the canary"])
    search.in_database(path)
    assert not book.deviations["content"]
    [reason] = book.unchecked["content"]
    assert reason == "keyframe_parts.data was read in part: it inflates too far"
    assert search.inflated_bytes < 8 << 20


def test_every_shape_begins_as_it_says() -> None:
    for name, key in KEYS.items():
        assert KEY_SHAPES[name][0] in key


def test_a_canary_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(lines())
    with pytest.raises(ValueError, match="at least 4"):
        verify_recording(path, ["abc"])


def test_lines_that_cannot_be_read_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first, *rest = lines().splitlines()
    path.write_bytes(b"\n".join([first, *rest[:100], b'{"stream": "sched', *rest[100:]]))
    report = verify_recording(path)
    assert report.verdict == "damaged"
    assert report.broken_lines == 1
    assert report.damage[0].startswith("line 102: ")
    assert all(check.status != "found" for check in report.checks)


def test_a_recording_with_a_hole_is_damaged(tmp_path: Path) -> None:
    plain = tmp_path / "run.jsonl"
    plain.write_bytes(lines())
    path = recorded(plain, tmp_path / "run.duckdb")
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM events WHERE ordinal = 77")
    with pytest.raises(SourceError, match="damaged") as error:
        verify_recording(path)
    assert error.value.exit_code == 4


def test_a_run_that_was_lost_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    run, events = healthy(6)
    path.write_bytes(encode_lines([JournalHeader(run, 1, 1), *events[:300]]))
    report = verify_recording(path)
    assert (report.verdict, report.state) == ("fine", "lost")
    assert "its producer was lost" in render_text(report)
