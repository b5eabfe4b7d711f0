"""Runs of the engine itself under virtual time: the diagnosis names what the script did."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from engine.clock import LoopClock
from engine.events import Event, EventStream
from engine.models.script import ErrorWindow, FailureWindow, Latency, RateLimitWindow
from engine.run import RunControl, execute_run
from engine.run_plan import plan_run
from engine.virtual_time import run_virtual
from engine.workflow.load import LoadedWorkflow
from engine.workflow.model import (
    LlmTextColumn,
    Model,
    RunSettings,
    SamplerColumn,
    ScriptedProvider,
    Workflow,
)
from replay.fold import Fold, FoldOutput
from replay.rows import VerdictRow

ALPHA, BETA = "alpha/gen/chat", "beta/judge/chat"
LATENCY = Latency(mean=0.5, spread=0.0)


class Collected:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(events)


def diagnose(workflow: Workflow) -> FoldOutput:
    async def main() -> FoldOutput:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        plan = plan_run(LoadedWorkflow(workflow, None, {}), inline_functions=True)
        sink = Collected()
        stream = EventStream(clock, "run", [sink], loop.call_soon)
        info = plan.describe("run", clock.wall(), clock.monotonic())
        await execute_run(plan, stream, clock, control=RunControl(), inline=True)
        stream.flush()
        fold = Fold(info)
        fold.apply(sink.events, 1)
        return fold.finish(None, lost=False)

    return run_virtual(main())


def workflow(
    records: int, beta: ScriptedProvider, run: RunSettings | None = None, calls: int = 4
) -> Workflow:
    """A column of alpha and a column of beta that do not need each other."""
    return Workflow(
        name="diagnosed",
        records=records,
        providers={"alpha": ScriptedProvider(latency=LATENCY), "beta": beta},
        models={
            "writer": Model(provider="alpha", model="gen", max_parallel_requests=4),
            "judge": Model(provider="beta", model="judge", max_parallel_requests=calls),
        },
        columns=[
            SamplerColumn(name="topic", values=["a", "b"]),
            LlmTextColumn(name="question", model="writer", prompt="About {{ topic }}"),
            LlmTextColumn(name="verdict", model="judge", prompt="Judge {{ topic }}"),
        ],
        run=run or RunSettings(),
    )


def share(output: FoldOutput, verdict: str, resource: str | None = None) -> float:
    rows = [row for row in output.blame if row.scope == "run"]
    part = sum(
        row.seconds for row in rows if row.verdict == verdict and resource in (None, row.resource)
    )
    return part / sum(row.seconds for row in rows)


def named(output: FoldOutput, verdict: str) -> list[VerdictRow]:
    return [row for row in output.verdicts if row.verdict == verdict]


def test_a_healthy_run_works_and_has_no_alarming_verdict() -> None:
    output = diagnose(workflow(80, ScriptedProvider(latency=LATENCY)))
    assert share(output, "working") == pytest.approx(1.0, abs=0.02)
    assert all(row.tier in ("C", "D", "E") for row in output.verdicts)
    assert not named(output, "request_cooldown")


def test_a_storm_names_its_provider_and_its_window() -> None:
    """429s from 3 s to 8 s after beta's first call, each asking for half a second."""
    windows = (RateLimitWindow(start=3, end=8, retry_after=0.5),)
    output = diagnose(workflow(200, ScriptedProvider(latency=LATENCY, rate_limits=windows)))
    (verdict,) = named(output, "request_cooldown")
    assert verdict.resource == BETA
    assert verdict.start == pytest.approx(3.0, abs=0.5)
    assert verdict.end == pytest.approx(8.0, abs=0.5)
    assert {row.resource for row in output.verdicts if row.tier == "D"} == {BETA}
    assert share(output, "request_cooldown", ALPHA) == 0.0


def test_too_few_task_slots() -> None:
    """2 task slots serve 2 of 8 call slots."""
    settings = RunSettings(max_in_flight_tasks=2)
    output = diagnose(workflow(40, ScriptedProvider(latency=LATENCY), settings))
    assert share(output, "task_capacity") == pytest.approx(0.75, abs=0.02)
    assert {row.resource for row in named(output, "task_capacity")} <= {"submission"}


def test_errors_that_wait_to_be_tried_again() -> None:
    errors = (ErrorWindow(start=0, end=4, status=500),)
    output = diagnose(workflow(8, ScriptedProvider(latency=LATENCY, errors=errors)))
    assert {row.resource for row in named(output, "retry_backoff")} == {BETA}
    assert share(output, "retry_backoff", BETA) > 0.2
    assert share(output, "retry_backoff", ALPHA) == 0.0


def test_calls_that_hang_until_their_time_out() -> None:
    """From 10 s on beta's calls hang; 1.5 s (3 times the usual) after that they count as slow."""
    hang = (FailureWindow(start=10, end=10.4),)
    beta = ScriptedProvider(latency=LATENCY, timeouts=hang, timeout_seconds=6)
    output = diagnose(workflow(160, beta))
    (verdict,) = named(output, "provider_latency")
    assert verdict.resource == BETA
    assert verdict.end - verdict.start == pytest.approx(4.5, abs=0.1)
    assert verdict.detail["calls"] == 4
