from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import (
    Event,
    JournalEnd,
    JournalHeader,
    JournalLine,
    RunInfo,
    encode_lines,
)
from replay.recording.query import RecordingQuery
from replay.runs.materialize import materialize
from tests.fixtures.data_designer_format import generate
from tests.replay.random_engine import Play


def write_run(path: Path, run: RunInfo, events: list[Event], ended: bool = True) -> Path:
    lines: list[JournalLine] = [JournalHeader(run, 1, 1), *events]
    if ended:
        lines.append(JournalEnd("success", events[-1].captured_at_monotonic, 0, 0))
    path.write_bytes(encode_lines(lines))
    return path


@pytest.fixture(params=["ended", "lost", "foreign"])
def source(request: pytest.FixtureRequest, play: Play, tmp_path: Path) -> Path:
    """The lines of a run that ended, of one that broke off with everything open, of another's."""
    if request.param == "foreign":
        path = tmp_path / "scheduler_events.jsonl"
        generate(path, storm=True)
        return path
    run, events = play(9, row_groups=3)
    ended = request.param == "ended"
    kept = events if ended else events[: len(events) * 2 // 3]
    return write_run(tmp_path / "source.jsonl", run, kept, ended)


@pytest.fixture
def recording(source: Path) -> Iterator[Path]:
    with materialize(source, lambda _: None) as path:
        yield path


@pytest.fixture
def query(recording: Path) -> Iterator[RecordingQuery]:
    query = RecordingQuery(recording)
    yield query
    query.close()
