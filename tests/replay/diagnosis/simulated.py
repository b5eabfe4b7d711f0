"""Runs of the engine itself under virtual time: their events, and their diagnosis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from engine.events import Event, RunInfo
from engine.models.provider_script import Latency
from engine.request_admission.pump import RequestPump
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import (
    Column,
    LlmTextColumn,
    Model,
    RunSettings,
    SamplerColumn,
    ScriptedProvider,
    Workflow,
)
from replay.diagnosis.diagnosis import Diagnosis
from replay.diagnosis.verdicts import VerdictRow
from replay.diagnosis.verdicts.errors import DroppedRows, FailureVerdict
from replay.projections.fold import Fold, FoldOutput
from replay.state.reducer import begin, reduce
from replay.state.rows import BlameRow
from tests.engine_run import run_engine

ALPHA, BETA = "alpha/gen/chat", "beta/judge/chat"
TOLERANCE = 0.02
"""Of a share, against the truth of the construction."""


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


def simulate(workflow: Workflow | LoadedWorkflow, **how: Any) -> tuple[RunInfo, list[Event]]:
    """All events of a run; `how` is as for `run_engine`."""
    ran = run_engine(workflow, **how)
    return ran.run, ran.events


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
    """It is the only stall of the run. Returns it."""
    stalls = [row for row in rows if not isinstance(row.detail, FailureVerdict | DroppedRows)]
    reported = [(row.verdict, row.resource, row.start, row.end) for row in stalls]
    assert [item[:2] for item in reported] == [(verdict, resource)], reported
    row = stalls[0]
    assert (row.start, row.end) == pytest.approx((start, end), abs=within)
    return row


def hear_late(monkeypatch: pytest.MonkeyPatch, *, at: float, until: float) -> None:
    """A fault: request admission hears only at `until` of the slots that were freed at `at`."""
    run = RequestPump.run

    def late(pump: Any, shared: Any, now: float) -> None:
        if now != pytest.approx(at):
            run(pump, shared, now)
        else:
            asyncio.get_running_loop().call_at(until, run, pump, shared, until)

    monkeypatch.setattr(RequestPump, "run", late)
