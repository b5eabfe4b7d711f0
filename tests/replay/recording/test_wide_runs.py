"""A run of very many columns, in small: what it costs follows what changes, not what waits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from engine.benchmark.scenario import model, sampled, scripted, text, workflow
from engine.events import Event, RunInfo
from engine.events.run_folder import RunFolder
from replay.diagnosis.attribution import Attribution
from replay.diagnosis.report.build import build_report
from replay.diagnosis.report.text import render_text
from replay.projections.fold import Fold
from replay.recording.ingest import Ingest
from replay.recording.reader import RecordingReader
from replay.sources.feed import open_journal
from replay.state.id_table import IdTable, RecordTable
from tests.engine_run import run_engine

COLUMNS, ROWS = 25, 30
WriteJournal = Callable[..., RunFolder]
TraceFunction = Callable[[FrameType, str, Any], Any]


@cache
def ran(columns: int = COLUMNS, rows: int = ROWS) -> tuple[RunInfo, list[Event]]:
    """All columns but the first need that alone: all their tasks wait at once."""
    whole = run_engine(
        workflow(
            name="wide",
            records=rows,
            seed=1,
            providers={"a": scripted(0.0005)},
            models={"m": model("a", "mod", 8)},
            columns=[sampled("t"), *(text(f"c{n}", "m", "t") for n in range(columns - 1))],
            run={"buffer_size": rows, "max_in_flight_tasks": 32},
        )
    )
    return whole.run, whole.events


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are packed, and kept by column and row, from a few on."""
    monkeypatch.setattr("replay.state.live_tasks.MOST_UNPACKED", 64)
    monkeypatch.setattr("replay.state.id_table.WIDE", 200)


def recorded(folder: RunFolder, path: Path) -> Iterator[Ingest]:
    ingest = Ingest(open_journal(folder), path)
    while ingest.step(500):
        yield ingest
    ingest.finish()
    yield ingest
    ingest.close()


def why(reader: RecordingReader) -> str:
    return render_text(build_report(reader))


@pytest.mark.parametrize("part", [1.0, 0.6], ids=["whole", "killed"])
def test_it_is_recorded_and_explained_as_any_other(
    write_journal: WriteJournal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    packed: None,
    part: float,
) -> None:
    run, events = ran()
    events = events[: int(len(events) * part)]
    folder = write_journal(run, events, ended=part == 1.0)
    texts, states = [], []
    for name in ("wide", "plain"):
        if name == "plain":
            monkeypatch.setattr("replay.state.id_table.WIDE", 10**9)
            monkeypatch.setattr("replay.state.live_tasks.MOST_UNPACKED", 10**9)
        tables = 0
        for ingest in recorded(folder, tmp_path / f"{name}.duckdb"):
            assert ingest.fold is not None
            tables += isinstance(ingest.fold.state.tasks._tasks, RecordTable)
            tables += isinstance(ingest.fold._diagnosis._parts.index.tasks, IdTable)
            if ingest.finished:
                texts.append(why(ingest.reader))
                half = ingest.reader.state_at(len(events) // 2)
                states.append((dict(half.tasks), half.progress, half.groups))
        assert (tables > 0) == (name == "wide")
    assert texts[0] == texts[1]
    assert states[0] == states[1]
    assert states[0][0]


def test_heads_that_are_alike_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five times the columns: hardly more work for each event."""
    judged = 0
    judge = Attribution._queued_blame

    def count(self: Attribution, *facts: object) -> object:
        nonlocal judged
        judged += 1
        return judge(self, *facts)  # type: ignore[arg-type]

    monkeypatch.setattr(Attribution, "_queued_blame", count)
    costs = []
    for columns in (COLUMNS // 5, COLUMNS):
        run, events = ran(columns)
        judged = 0
        Fold(run).apply(events, 1)
        costs.append(judged / len(events))
    assert 0 < costs[1] < 3 * costs[0]


def test_an_event_costs_no_more_where_very_many_queues_wait() -> None:
    """Counted in calls of functions, which every step of the fold and of its loops makes."""
    costs = []
    for columns, rows in ((10, 60), (150, 4)):
        run, events = ran(columns, rows)
        fold, calls = Fold(run), 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            fold.apply(events, 1)
        finally:
            sys.setprofile(None)
        costs.append(calls / len(events))
    assert costs[1] < 1.5 * costs[0]


def test_a_slot_that_comes_free_costs_no_more_where_very_many_queues_wait_for_it() -> None:
    """Counted in lines, each round of a loop by itself. Between two events some time passes, as it
    does in a run by the clock: so every queue is seen to wait, and to be let in, at each of them.
    """
    costs = []
    for columns, rows in ((10, 120), (120, 10)):
        run, events = ran(columns, rows)
        events = [
            msgspec.structs.replace(
                event, captured_at_monotonic=event.captured_at_monotonic + number * 0.0003
            )
            for number, event in enumerate(events)
        ]
        fold, begin, lines = Fold(run), len(events) * 2 // 3, 0
        fold.apply(events[:begin], 1)

        def count(frame: FrameType, event: str, argument: object) -> TraceFunction:
            nonlocal lines
            lines += event == "line"
            return count

        sys.settrace(count)
        try:
            fold.apply(events[begin : begin + 500], begin + 1)
        finally:
            sys.settrace(None)
        costs.append(lines)
    assert costs[1] < 1.3 * costs[0]
