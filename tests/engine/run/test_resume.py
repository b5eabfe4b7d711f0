"""A run under virtual time whose process is killed at any instant, and that goes on from what is on
disk then."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.clock import LoopClock
from engine.events import Event, EventStream, JournalEnd, RequestEvent, RunInfo, SchedulerEvent
from engine.events.continuation import Continuation, open_tail, read_continuation
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from engine.rows.dataset import Dataset
from engine.rows.kept_cells import DroppedRow
from engine.rows.run_store import RunStore, dropped_rows
from engine.run.execute import GoingOn, RunControl, execute_run
from engine.run.plan import RunPlan, plan_run
from engine.scheduling.plan import RunResult
from engine.virtual_time import VirtualTimeLoop, run_virtual
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import CustomColumn, Workflow
from replay.projections.fold import Fold
from replay.state.reducer import begin, reduce, to_keyframe
from tests.effort import effort
from tests.engine.events.catalogue import check_declared
from tests.verified import verify_events

RECORDS = 30


@dataclass
class Work:
    """The function of a column, which keeps count of its calls."""

    fails: bool = True
    calls: Counter[int] = field(default_factory=Counter)

    async def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.2)
        self.calls[row["n"]] += 1
        if self.fails and row["n"] % 7 == 0:
            raise ValueError("no sevens")
        return {"n": row["n"], "of": (row["q"], [None, 1.5])}


def workflow(work: Work, **changes: Any) -> Workflow:
    facts: dict[str, Any] = {
        "name": "resumed",
        "records": RECORDS,
        "seed": 5,
        "providers": {"p": {"type": "scripted", "latency": {"mean": 0.5, "spread": 0.3}}},
        "models": {
            "m": {
                "provider": "p",
                "model": "x",
                "max_parallel_requests": 3,
                "price": {"input": 1.0, "output": 2.0},
            }
        },
        "columns": [
            {"name": "n", "type": "sampler", "integers": {"low": 1, "high": 100_000}},
            {"name": "q", "type": "llm_text", "model": "m", "prompt": "Ask {{ n }}"},
            {"name": "t", "type": "expression", "template": "{{ q }}!"},
            {"name": "made", "type": "custom", "function": work, "depends_on": ["n", "q"]},
            {"name": "a", "type": "llm_text", "model": "m", "prompt": "{{ t }} {{ made.n }}"},
        ],
        "run": {"buffer_size": 7, "max_concurrent_row_groups": 2, "stop_seconds": 0.3},
    }
    return Workflow.model_validate(facts | changes)


@dataclass
class Part:
    """One part of a run: its events, and how it ended."""

    events: list[Event]
    info: RunInfo
    result: RunResult | None = None

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(events)


class Run:
    """A run in a folder, in parts."""

    def __init__(self, folder: Path, make: Callable[[], Workflow]) -> None:
        self.folder = folder
        self._make = make
        self.events: list[Event] = []
        self.parts = 0

    def go_on(
        self,
        *,
        killed_at: float | None = None,
        stopped_at: float | None = None,
        retry_dropped: bool = False,
    ) -> RunResult | None:
        """One more part, to its end, or until that many seconds after its start."""
        continuation = read_continuation(RunFolder(self.folder)) if self.parts else None
        start = 50.0 if continuation is None else continuation.restart_time
        coroutine = self._part(continuation, killed_at, stopped_at, retry_dropped)
        part = run_virtual(coroutine, start)
        self.parts += 1
        if killed_at is not None and part.result is None:
            shutil.rmtree(self.folder)
            self.folder.with_suffix(".killed").rename(self.folder)
        elif killed_at is not None:
            shutil.rmtree(self.folder.with_suffix(".killed"), ignore_errors=True)
        self.info = part.info
        self.events += part.events
        return part.result

    async def _part(
        self,
        continuation: Continuation | None,
        killed_at: float | None,
        stopped_at: float | None,
        retry_dropped: bool,
    ) -> Part:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        plan = self._plan()
        before = continuation
        start = clock.monotonic() if before is None else before.run.monotonic_start
        part = Part([], plan.describe("run", 0.0, start))
        self.folder.mkdir(exist_ok=True)
        folder = RunFolder(self.folder)
        if before is not None:
            open_tail(folder, before.segments)
        journal = JournalWriter(
            folder,
            part.info,
            loop=None,
            request_keyframe=lambda reason: None,
            segments=0 if before is None else before.segments,
            events=0 if before is None else before.events,
        )
        store = RunStore(folder.fd, loop, in_threads=False)
        stream = EventStream(
            clock,
            "run",
            [part, journal],
            loop.call_soon,
            scheduler_sequence=0 if before is None else before.scheduler_sequence,
            request_sequence=0 if before is None else before.request_sequence,
        )
        control = RunControl()
        if stopped_at is not None:
            loop.call_later(stopped_at, control.stop)
        kept = 0
        if killed_at is not None:

            def kill() -> None:
                nonlocal kept
                shutil.copytree(self.folder, self.folder.with_suffix(".killed"))
                kept = len(part.events)

            loop.call_later(killed_at, kill)
        going_on = None
        if before is not None:
            going_on = GoingOn(before, self.parts, 3600.0, retry_dropped)
        result = await execute_run(
            plan,
            stream,
            clock,
            dataset=self.folder / "dataset",
            control=control,
            inline=True,
            store=store,
            going_on=going_on,
        )
        stream.flush()
        store.close()
        end = JournalEnd(
            result.outcome, clock.monotonic(), stream.scheduler_sequence, stream.request_sequence
        )
        journal.close(end)
        if kept:
            part.events = part.events[:kept]
        else:
            part.result = result
        return part

    def _plan(self) -> RunPlan:
        made = self._make()
        functions = {
            column.name: column.function
            for column in made.columns
            if isinstance(column, CustomColumn) and callable(column.function)
        }
        return plan_run(LoadedWorkflow(made, None, functions), inline_functions=True)

    def rows(self) -> list[tuple[int, dict[str, Any]]]:
        dataset = Dataset(self.folder / "dataset")
        try:
            return list(dataset.rows())
        finally:
            dataset.close()

    def dropped(self) -> list[DroppedRow]:
        fd = os.open(self.folder, os.O_RDONLY)
        loop = VirtualTimeLoop()
        store = RunStore(fd, loop, in_threads=False)
        try:
            return sorted(dropped_rows(store))
        finally:
            store.close()
            loop.close()
            os.close(fd)


def undisturbed(folder: Path, make: Callable[[], Workflow]) -> Run:
    run = Run(folder, make)
    run.go_on()
    return run


def check_events(run: Run) -> None:
    """Each promise of the stream holds over all parts, and the fold is that of its own dump."""
    verifier = verify_events(run.info, run.events)
    assert not any(verifier.book.deviations.values()), verifier.book.deviations
    for event in run.events:
        check_declared(event)
    fold, state = Fold(run.info), begin(run.info)
    for ordinal, event in enumerate(run.events, 1):
        if ordinal % 97 == 0:
            fold = Fold.load(fold.dump())
        fold.apply([event], ordinal)
        reduce(state, event, ordinal, run.info)
    assert to_keyframe(fold.state, full=True) == to_keyframe(state, full=True)
    output = fold.finish(state.outcome, False)
    bins = Counter((row.bin, row.series, row.key) for row in output.rollup)
    assert set(bins.values()) <= {1}


@pytest.mark.parametrize("seed", range(effort(6, 150)))
def test_kills_at_random_instants(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    expected = undisturbed(tmp_path / "expected", lambda: workflow(Work()))
    work = Work()
    run = Run(tmp_path / "run", lambda: workflow(work))
    kills = 0
    for _ in range(source.randint(1, 5)):
        if source.random() < 0.3:
            if run.go_on(stopped_at=source.uniform(0, 6)) is not None:
                kills += 1
        elif run.go_on(killed_at=source.uniform(0, 6)) is None:
            kills += 1
        else:
            break
    result = run.go_on()
    assert result is not None
    assert result.outcome == "success"
    assert run.rows() == expected.rows()
    assert run.dropped() == expected.dropped()
    assert (result.rows_done, result.rows_dropped) == (
        len(expected.rows()),
        len(expected.dropped()),
    )
    calls = answers(run.events)
    assert sum(calls.values()) - len(calls) <= kills  # an answer that was not taken in yet
    check_events(run)


def test_many_kills_in_a_row(tmp_path: Path) -> None:
    times = effort(8, 30)
    run = Run(tmp_path / "run", lambda: workflow(Work()))
    for _ in range(times):
        assert run.go_on(killed_at=0.4) is None
    result = run.go_on()
    assert result is not None
    assert result.outcome == "success"
    resumed = [event for event in run.events if event.event_kind == "run_resumed"]
    assert [event.diagnostics["resumes"] for event in resumed] == list(range(1, times + 1))
    expected = undisturbed(tmp_path / "expected", lambda: workflow(Work()))
    assert run.rows() == expected.rows()
    assert run.dropped() == expected.dropped()
    check_events(run)


def test_nothing_that_is_kept_is_made_again(tmp_path: Path) -> None:
    """Killed while nothing is in flight: no call and no function is repeated."""
    work = Work(fails=False)
    run = Run(tmp_path / "run", lambda: workflow(work))
    assert run.go_on(stopped_at=1.0) is not None
    before = answers(run.events)
    run.go_on()
    calls = Counter(task for task in answers(run.events))
    assert sum(before.values()) > 0
    assert len(calls) == 2 * RECORDS
    assert set(calls.values()) == {1}
    assert set(work.calls.values()) == {1}


def answers(events: Sequence[Event]) -> Counter[str]:
    """Answered calls, by task."""
    tasks = {
        event.task_execution_id: event.task_id
        for event in events
        if isinstance(event, SchedulerEvent) and event.event_kind == "worker_spawned"
    }
    return Counter(
        str(tasks[event.captured_correlation.task_execution_id])
        for event in events
        if isinstance(event, RequestEvent)
        and event.event_kind == "model_request_completed"
        and event.reason_or_outcome == "success"
        and event.captured_correlation is not None
    )


def test_dropped_rows_are_tried_again_on_demand(tmp_path: Path) -> None:
    work = Work()
    run = Run(tmp_path / "run", lambda: workflow(work))
    run.go_on()
    dropped = run.dropped()
    assert dropped
    assert {(row.column, row.error_type, row.attempts) for row in dropped} == {
        ("made", "ValueError", 1)
    }
    calls = answers(run.events)
    again = run.go_on()
    assert again is not None
    assert again.rows_dropped == len(dropped)
    assert answers(run.events) == calls
    work.fails = False
    result = run.go_on(retry_dropped=True)
    assert result is not None
    assert (result.rows_done, result.rows_dropped) == (RECORDS, 0)
    assert [number for number, _ in run.rows()] == list(range(RECORDS))
    assert run.dropped() == []
    paid = answers(run.events)
    assert {task for task in paid if task.startswith("q/")} == {f"q/{n}" for n in range(RECORDS)}
    assert set(paid.values()) == {1}
    expected = undisturbed(tmp_path / "expected", lambda: workflow(Work(fails=False)))
    assert run.rows() == expected.rows()
    check_events(run)


def hidden(columns: list[dict[str, Any]], work: Work, *names: str) -> list[dict[str, Any]]:
    """The columns, of which these are not in the output."""
    return [
        column
        | ({"function": work} if column["name"] == "made" else {})
        | ({"drop": True} if column["name"] in names else {})
        for column in columns
    ]


def test_columns_that_are_not_in_the_output_are_not_made_again(tmp_path: Path) -> None:
    work = Work()
    columns = workflow(work).model_dump()["columns"]
    changes: dict[str, Any] = {"columns": hidden(columns, work, "n", "q", "made")}
    run = Run(tmp_path / "run", lambda: workflow(work, **changes))
    run.go_on()
    assert set(run.rows()[0][1]) == {"t", "a"}
    work.fails = False
    result = run.go_on(retry_dropped=True)
    assert result is not None
    assert (result.rows_done, result.rows_dropped) == (RECORDS, 0)
    assert len(run.rows()) == RECORDS
    assert set(answers(run.events).values()) == {1}
    check_events(run)
    added = {"name": "z", "type": "expression", "template": "{{ made.n }} {{ a }}"}
    changes["columns"] = [*hidden(columns, work, "n", "q", "made"), added]
    again = run.go_on()
    assert again is not None
    assert again.outcome == "success"
    expected = undisturbed(tmp_path / "expected", lambda: workflow(work, **changes))
    assert run.rows() == expected.rows()


def test_a_retry_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    work = Work()
    run = Run(tmp_path / "run", lambda: workflow(work))
    run.go_on()
    work.fails = False
    assert run.go_on(killed_at=0.5, retry_dropped=True) is None
    result = run.go_on(retry_dropped=True)
    assert result is not None
    assert (result.rows_done, result.rows_dropped) == (RECORDS, 0)
    assert len(run.rows()) == RECORDS
    check_events(run)


def test_columns_that_are_added_at_the_end_are_made_for_every_row(tmp_path: Path) -> None:
    columns = workflow(Work()).model_dump()["columns"]
    added = {"name": "z", "type": "llm_text", "model": "m", "prompt": "{{ a }} {{ made.n }}"}
    work = Work()
    changes: dict[str, Any] = {}
    run = Run(tmp_path / "run", lambda: workflow(work, **changes))
    assert run.go_on(stopped_at=4.0) is not None
    finished = len(run.rows())
    assert finished
    changes["columns"] = [*columns[:3], columns[3] | {"function": work}, columns[4], added]
    result = run.go_on()
    assert result is not None
    assert result.outcome == "success"
    expected = undisturbed(tmp_path / "expected", lambda: workflow(work, **changes))
    assert run.rows() == expected.rows()
    assert set(answers(run.events).values()) == {1}


def test_a_run_of_which_everything_is_made_writes_what_is_missing(tmp_path: Path) -> None:
    """Its last row group was being written when it was killed."""
    run = Run(tmp_path / "run", lambda: workflow(Work(fails=False)))
    run.go_on()
    kept = run.rows()
    last = sorted((tmp_path / "run" / "dataset").glob("*.parquet"))[-1]
    last.unlink()
    result = run.go_on()
    assert result is not None
    assert (result.outcome, result.rows_done) == ("success", RECORDS)
    assert run.rows() == kept


def test_values_are_the_same_in_whatever_order_they_are_made(tmp_path: Path) -> None:
    alone = {"buffer_size": 7, "max_concurrent_row_groups": 1, "max_in_flight_tasks": 1}
    single = undisturbed(tmp_path / "one", lambda: workflow(Work(), run=alone))
    large = undisturbed(tmp_path / "large", lambda: workflow(Work(), run={"buffer_size": 30}))
    usual = undisturbed(tmp_path / "usual", lambda: workflow(Work()))
    assert single.rows() == large.rows() == usual.rows()


def test_spending_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", lambda: workflow(Work(fails=False)))
    run.go_on(killed_at=2.0)
    run.go_on()
    state = begin(run.info)
    for ordinal, event in enumerate(run.events, 1):
        reduce(state, event, ordinal, run.info)
    progress = state.progress
    assert progress.answered_calls == progress.priced_calls >= 2 * RECORDS
    assert progress.cost == pytest.approx(
        (progress.prompt_tokens + 2 * progress.completion_tokens) / 1e6
    )
    assert progress.rows_done == RECORDS
    assert progress.completed_by_column["a"] == RECORDS
    assert pq.read_metadata(tmp_path / "run" / "dataset" / "row-group-000000.parquet").num_rows == 7
