"""JSON Lines out and in again: the same recording."""

from __future__ import annotations

from pathlib import Path

from replay.export.lines import write_lines
from replay.recording.query import RecordingQuery
from replay.recording.reader import open_recording
from replay.runs.materialize import materialize

DERIVED = ("events", "leases", "attempts", "rollup", "blame", "verdicts")
STATES = 50


def test_what_was_exported_is_the_same_recording_again(recording: Path, tmp_path: Path) -> None:
    lines = tmp_path / "again.jsonl"
    first = open_recording(recording)
    with lines.open("wb") as file:
        write_lines(first, file)
    with materialize(lines, lambda _: None) as path:
        again = open_recording(path)
        assert again.run() == first.run()
        assert again.status() == first.status()
        bounds = first.bounds()
        assert again.bounds() == bounds
        assert bounds.last_ordinal > STATES
        for ordinal in range(1, bounds.last_ordinal + 1, max(1, bounds.last_ordinal // STATES)):
            assert again.state_at(ordinal) == first.state_at(ordinal), ordinal
        again.close()
        left, right = RecordingQuery(recording), RecordingQuery(path)
        for table in DERIVED:
            sql = f"SELECT * FROM recording.{table} ORDER BY ALL"
            assert list(left.run(sql)[1]) == list(right.run(sql)[1]), table
        left.close()
        right.close()
    first.close()


def test_exporting_twice_gives_the_same_bytes(recording: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"
    for source, target in ((recording, once), (once, twice)):
        with materialize(source, lambda _: None) as path:
            reader = open_recording(path)
            with target.open("wb") as file:
                write_lines(reader, file)
            reader.close()
    assert once.read_bytes() == twice.read_bytes()
