"""What a refresh of a followed file costs: as much as what is new, whatever was read before."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

from replay.playback.frame import Want
from replay.playback.session import Session
from replay.recording.cursors import Cursors
from replay.sources.feed import open_lines
from replay.sources.seen import SeenLines
from tests.fixtures.data_designer_format import content

WINDOW_SECONDS = 4
"""Of what a frame shows: shorter than the shorter run."""
WANT = Want(samples=40, span=WINDOW_SECONDS, bars=50, events=30, verdicts=20, standing=True)
NEW_LINES = 60


class Counter:
    """Rows that a recording answered with, and bytes of which a checksum was made."""

    def __init__(self) -> None:
        self.rows = 0
        self.summed_bytes = 0


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counter = Counter()
    query = Cursors.rows
    crc32 = zlib.crc32

    def counted_rows(cursors: Cursors, text: str, *values: object) -> list[Any]:
        rows = query(cursors, text, *values)
        counter.rows += len(rows)
        return rows

    def counted_crc32(data: Any, value: int = 0) -> int:
        counter.summed_bytes += memoryview(data).nbytes
        return crc32(data, value)

    monkeypatch.setattr(Cursors, "rows", counted_rows)
    monkeypatch.setattr("replay.sources.seen.zlib.crc32", counted_crc32)
    monkeypatch.setattr("replay.playback.frame_builder.RATE_SECONDS", WINDOW_SECONDS)
    return counter


def cost_of_a_refresh(path: Path, lines: list[bytes], counter: Counter) -> tuple[int, int]:
    """Rows read, and bytes summed, for `NEW_LINES` lines that are added to a followed file."""
    now = 0.0
    path.write_bytes(b"".join(lines[:-NEW_LINES]))
    session = Session(open_lines(path, True, clock=lambda: now), None, path.name)
    try:
        for _ in range(8):
            now += 1.0
            session.refresh(10.0)
        before = session.frame(WANT).last_ordinal
        counter.rows = counter.summed_bytes = 0
        with path.open("ab") as file:
            file.write(b"".join(lines[-NEW_LINES:]))
        for _ in range(3):
            now += 1.0
            session.refresh(10.0)
            after = session.frame(WANT).last_ordinal
        assert after > before
        assert not session.finished
        return counter.rows, counter.summed_bytes
    finally:
        session.close()


def with_broken(lines: list[bytes]) -> list[bytes]:
    """A line in ten can't be read."""
    return [part for n, line in enumerate(lines) for part in ([b"{no\n"] * (n % 10 == 5) + [line])]


def test_a_refresh_of_a_long_foreign_file_costs_what_is_new(
    tmp_path: Path, counter: Counter
) -> None:
    costs = []
    for rows in (40, 160):
        lines = content(storm=True, rows=rows, buffer_size=10, seed=4, requests=True).splitlines(
            keepends=True
        )[:-20]  # it does not end
        path = tmp_path / f"{rows}.jsonl"
        costs.append(cost_of_a_refresh(path, with_broken(lines), counter))
    (few_rows, few_bytes), (many_rows, many_bytes) = costs
    assert many_rows < 1.5 * few_rows
    assert many_bytes < 1.5 * few_bytes


def test_the_digest_of_all_lines_is_that_of_the_sums_of_all_lines() -> None:
    lines = SeenLines()
    digests = [lines.digest(0)]
    for number in range(1, 50):
        lines.add(b"line %d" % number)
        digests.append(lines.digest(number))
    assert [lines.digest(number) for number in range(50)] == digests
    assert len(set(digests)) == len(digests)
    lines.go_back()
    for number in range(1, 21):
        assert lines.repeats(b"line %d" % number)
    assert lines.forget_rest() == 20
    assert lines.digest(20) == digests[20]
