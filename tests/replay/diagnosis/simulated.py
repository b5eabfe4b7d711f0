"""Runs of the engine itself under virtual time: their events, and their diagnosis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.clock import LoopClock
from engine.events import Event, EventStream, RunInfo
from engine.models.script import Latency
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.run import RunControl, execute_run
from engine.run_plan import RunPlan, plan_run
from engine.scheduling.config import TaskAdmissionConfig
from engine.virtual_time import run_virtual
from engine.workflow.load import LoadedWorkflow
from engine.workflow.model import (
    Column,
    CustomColumn,
    LlmTextColumn,
    Model,
    RunSettings,
    SamplerColumn,
    ScriptedProvider,
    Workflow,
)
from replay.diagnosis.engine import Diagnosis
from replay.diagnosis.verdicts import VerdictRow
from replay.fold import Fold, FoldOutput
from replay.reducer import begin, reduce
from replay.rows import BlameRow

ALPHA, BETA = "alpha/gen/chat", "beta/judge/chat"
TOLERANCE = 0.02
"""Of a share, against the truth of the construction."""
_DEFAULT_TASK_ADMISSION = TaskAdmissionConfig()


class Collected:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(events)


def calls_of(seconds: float, **script: object) -> ScriptedProvider:
    """A provider whose every call takes exactly so long."""
    latency = Latency(distribution="constant", mean=seconds)
    return ScriptedProvider.model_validate({"latency": latency, "rejection_seconds": 0, **script})


def workflow(
    records: int,
    providers: dict[str, tuple[ScriptedProvider, int]],
    *columns: Column,
    **settings: object,
) -> Workflow:
    """`providers` by name with their caps; a topic is drawn for each row before all `columns`."""
    names = {"alpha": "gen", "beta": "judge"}
    return Workflow(
        name="diagnosed",
        records=records,
        providers={name: provider for name, (provider, _) in providers.items()},
        models={
            names[name]: Model(provider=name, model=names[name], max_parallel_requests=cap)
            for name, (_, cap) in providers.items()
        },
        columns=[SamplerColumn(name="topic", values=["a", "b"]), *columns],
        run=RunSettings.model_validate(settings),
    )


def asks(name: str, model: str, *depends_on: str) -> LlmTextColumn:
    """A column that makes one call for each row."""
    return LlmTextColumn(name=name, model=model, prompt="Go on", depends_on=list(depends_on))


def simulate(
    workflow: Workflow | LoadedWorkflow,
    *,
    task_admission: TaskAdmissionConfig = _DEFAULT_TASK_ADMISSION,
    change: Callable[[RunPlan], RunPlan] | None = None,
    stop_at: float | None = None,
    keyframe_seconds: float = 1.0,
) -> tuple[RunInfo, list[Event]]:
    """All events of a run to its end, or to its drain at `stop_at` seconds."""
    loaded = workflow
    if isinstance(loaded, Workflow):
        functions = {
            column.name: column.function
            for column in loaded.columns
            if isinstance(column, CustomColumn) and callable(column.function)
        }
        loaded = LoadedWorkflow(loaded, None, functions)

    async def main() -> tuple[RunInfo, list[Event]]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        plan = plan_run(loaded, inline_functions=True, task_admission=task_admission)
        if change is not None:
            plan = change(plan)
        sink = Collected()
        stream = EventStream(clock, "run", [sink], loop.call_soon)
        info = plan.describe("run", clock.wall(), clock.monotonic())
        control = RunControl()
        if stop_at is not None:
            loop.call_at(stop_at, control.stop)
        await execute_run(
            plan, stream, clock, control=control, inline=True, keyframe_seconds=keyframe_seconds
        )
        stream.flush()
        return info, sink.events

    return run_virtual(main())


def diagnose(workflow: Workflow | LoadedWorkflow) -> FoldOutput:
    return fold(*simulate(workflow))


def fold(info: RunInfo, events: list[Event]) -> FoldOutput:
    folded = Fold(info)
    folded.apply(events, 1)
    return folded.finish(None, lost=False)


def fold_until(
    info: RunInfo, events: list[Event], until: float
) -> tuple[list[BlameRow], list[VerdictRow]]:
    """Blame and verdicts of a run that breaks off, as they are seen at `until`."""
    state, diagnosis = begin(info), Diagnosis(info)
    for ordinal, event in enumerate(events, 1):
        diagnosis.before(state, event, ordinal)
        reduce(state, event, ordinal, info)
        diagnosis.after(state, event, ordinal)
    return diagnosis.finish(state, until)


def expect_shares(rows: Sequence[BlameRow], truth: dict[str, float], scope: str = "run") -> None:
    """Each share as the construction has it, and all the rest is nothing."""
    seconds: dict[str, float] = {}
    for row in rows:
        if row.scope == scope:
            seconds[row.verdict] = seconds.get(row.verdict, 0.0) + row.seconds
    total = sum(seconds.values())
    shares = {verdict: part / total for verdict, part in seconds.items()}
    assert sum(truth.values()) == pytest.approx(1.0)
    for verdict in {*shares, *truth}:
        share, true = shares.get(verdict, 0.0), truth.get(verdict, 0.0)
        assert abs(share - true) <= TOLERANCE, (verdict, share, true, shares)


def expect_verdict(
    rows: Sequence[VerdictRow],
    verdict: str,
    resource: str | None,
    start: float,
    end: float,
    within: float = 0.01,
) -> VerdictRow:
    """It is the only one of the run. Returns it."""
    told = [(row.verdict, row.resource, row.start, row.end) for row in rows]
    assert [one[:2] for one in told] == [(verdict, resource)], told
    row = rows[0]
    assert (row.start, row.end) == pytest.approx((start, end), abs=within)
    return row


def hear_late(monkeypatch: pytest.MonkeyPatch, *, at: float, until: float) -> None:
    """A fault: request admission hears only at `until` of the slots that were freed at `at`."""
    pump = AdaptiveRequestAdmissionController._pump

    def late(admission: Any, shared: Any, now: float) -> None:
        if now != pytest.approx(at):
            pump(admission, shared, now)
        else:
            asyncio.get_running_loop().call_at(until, pump, admission, shared, until)

    monkeypatch.setattr(AdaptiveRequestAdmissionController, "_pump", late)
