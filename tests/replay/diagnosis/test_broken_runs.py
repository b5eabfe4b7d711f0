"""Runs of an engine with one bug each: its name, interval and share.

The bug is put into a part of the engine for the run; every call takes exactly as long as its
script says, so the truth is arithmetic: slots times seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

import engine.scheduling.scheduler
from engine.events import RequestEvent, SchedulerEvent
from engine.identity import SchedulerResourceKey
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import RequestReleaseResult
from engine.rows.checkpoints import Checkpoints
from engine.run.plan import RunPlan
from engine.scheduling.dispatch import Dispatch
from engine.scheduling.live_tasks import LiveTask
from engine.scheduling.scheduler import AsyncTaskScheduler
from engine.scheduling.types import SchedulerResourceRequest
from engine.virtual_time import VirtualTimeLoop
from engine.workflow.schema import CustomColumn
from tests.replay.diagnosis.simulated import (
    ALPHA,
    asks,
    calls_of,
    expect_shares,
    expect_verdict,
    fold,
    fold_until,
    hear_late,
    simulate,
    workflow,
)
from tests.replay.diagnosis.stream import facts_of

STAGE = "model_stage:alpha/gen"


def test_a_request_lease_whose_release_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call returns after 1 s and keeps 1 of 2 slots; the other makes 100 more calls.

    It is known only 1 s later that the lease does not come back; until then the slot is in use.
    """
    release = AdaptiveRequestAdmissionController.release
    lost = iter([True])

    def forget_one(admission: Any, lease: Any, outcome: Any) -> RequestReleaseResult:
        if next(lost, False):
            return RequestReleaseResult(True, "released", {})
        return release(admission, lease, outcome)

    monkeypatch.setattr(AdaptiveRequestAdmissionController, "release", forget_one)
    made = workflow(102, {"alpha": (calls_of(1.0), 2)}, asks("question", "gen"))
    output = fold(*simulate(made))
    total = 1 + 100
    expect_shares(
        output.blame,
        {"working": (2 + 100) / (2 * total), "leaked_lease": 100 / (2 * total)},
    )
    verdict = expect_verdict(output.verdicts, "leaked_lease", ALPHA, 1.0, 101.0)
    assert facts_of(verdict)["leases"] == 1


def test_a_task_lease_whose_release_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, of 2 task slots: the call slot beside the leaked one has nobody to use it."""
    release = Dispatch.release
    lost = iter([True])

    def forget_one(dispatch: Any, live: LiveTask) -> float:
        if live.item.payload.column == "question" and next(lost, False):
            return live.since
        return release(dispatch, live)

    monkeypatch.setattr(Dispatch, "release", forget_one)
    made = workflow(
        102,
        {"alpha": (calls_of(1.0), 2)},
        asks("question", "gen"),
        max_in_flight_tasks=2,
        buffer_size=102,
    )
    output = fold(*simulate(made))
    total = 1 + 100
    expect_shares(
        output.blame,
        {"working": (2 + 100) / (2 * total), "leaked_lease": 100 / (2 * total)},
    )
    expect_verdict(output.verdicts, "leaked_lease", STAGE, 1.0, 101.0)


def test_a_scheduler_that_nobody_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two task slots, calls of 1 s. At 1 s the wake-ups are lost; the next comes at 21 s."""
    wake = AsyncTaskScheduler._wake

    def oversleep(scheduler: Any) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() != pytest.approx(1.0):
            wake(scheduler)
        else:
            loop.call_at(21.0, wake, scheduler)

    monkeypatch.setattr(AsyncTaskScheduler, "_wake", oversleep)
    made = workflow(
        40, {"alpha": (calls_of(1.0), 2)}, asks("question", "gen"), max_in_flight_tasks=2
    )
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 20 / 40, "lost_wakeup": 20 / 40})
    verdict = expect_verdict(output.verdicts, "lost_wakeup", None, 1.0, 21.0)
    assert facts_of(verdict)["free"] == {"submission": 2, STAGE: 4}


def test_waiting_calls_that_nobody_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, at request admission: two calls wait, and both slots are free."""
    hear_late(monkeypatch, at=1.0, until=21.0)
    made = workflow(4, {"alpha": (calls_of(1.0), 2)}, asks("question", "gen"))
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 2 / 22, "lost_wakeup": 20 / 22})
    verdict = expect_verdict(output.verdicts, "lost_wakeup", ALPHA, 1.0, 21.0)
    assert (facts_of(verdict)["waiting"], facts_of(verdict)["free"]) == (2, 2)


def test_a_function_that_holds_up_the_loop() -> None:
    """4 calls in turn, each of 9.9 s but the second: a function blocks the loop for 30 s from
    9.9 s on, and the second call is answered only then: 39.9 + 2 x 9.9 s in all."""
    blocks = iter([30.0])

    def compute(row: dict[str, Any]) -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop._set_time(loop.time() + next(blocks, 0.0))
        return "computed"

    made = workflow(
        4,
        {"alpha": (calls_of(9.9), 1)},
        asks("question", "gen"),
        CustomColumn(name="computed", function=compute, depends_on=["question"]),
    )
    output = fold(*simulate(made))
    total = 39.9 + 2 * 9.9
    expect_shares(output.blame, {"working": (total - 30) / total, "event_loop_lag": 30 / total})
    # What is late is the heartbeat: of the loop's last second nothing is known.
    expect_verdict(output.verdicts, "event_loop_lag", None, 9.9, 39.9, within=1.0)


def test_a_producer_that_is_gone() -> None:
    """A run of 20 s of which nothing is heard after 10 s."""
    made = workflow(40, {"alpha": (calls_of(1.0), 2)}, asks("question", "gen"))
    info, events = simulate(made)
    heard = [event for event in events if event.captured_at_monotonic <= 10.0]
    blame, verdicts = fold_until(info, heard, 20.0)
    expect_shares(blame, {"working": 10 / 20, "unknown": 10 / 20})
    verdict = expect_verdict(verdicts, "producer_gone", None, 10.0, 20.0)
    assert facts_of(verdict)["open_tasks"] == 20
    # A recording ends with its last event, and so does what it can say.
    recorded = fold(info, heard)
    expect_shares(recorded.blame, {"working": 1.0})
    expect_verdict(recorded.verdicts, "producer_gone", None, 10.0, 10.0)


def test_events_that_are_missing() -> None:
    """A run of 20 s, of which what happened between 5 s and 15 s is lost."""
    made = workflow(40, {"alpha": (calls_of(1.0), 2)}, asks("question", "gen"))
    info, events = simulate(made)
    kept = [event for event in events if not 5.0 < event.captured_at_monotonic < 14.999]
    output = fold(info, kept)
    expect_shares(output.blame, {"working": 10 / 20, "unknown": 10 / 20})
    lost = [event for event in events if event not in kept]
    rows_by_stream = {facts_of(row)["stream"]: row for row in output.verdicts}
    for stream, kind in (("scheduler", SchedulerEvent), ("request", RequestEvent)):
        verdict = expect_verdict([rows_by_stream.pop(stream)], "unknown", None, 5.0, 15.0)
        assert facts_of(verdict)["lost_events"] == sum(isinstance(event, kind) for event in lost)
    assert rows_by_stream == {}


def test_a_checkpoint_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls are over after 2 s, and their rows are written for 6 s."""
    write = Checkpoints._write

    async def linger(checkpoints: Any, row_group: int, dropped: frozenset[int]) -> None:
        await asyncio.sleep(6.0)
        await write(checkpoints, row_group, dropped)

    monkeypatch.setattr(Checkpoints, "_write", linger)
    made = workflow(4, {"alpha": (calls_of(2.0), 4)}, asks("question", "gen"))
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 2 / 8, "downstream_completion": 6 / 8})
    expect_verdict(output.verdicts, "downstream_completion", None, 2.0, 8.0)


def test_a_column_that_asks_for_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine refuses it before the run. Without that, its tasks would wait until the stop.

    It has the 2 call slots of beta for 20 s; alpha works on both of its own for 10 s.
    """
    made = workflow(
        20,
        {"alpha": (calls_of(1.0), 2), "beta": (calls_of(1.0), 2)},
        asks("question", "gen"),
        asks("verdict", "judge"),
    )
    stage = SchedulerResourceKey("model_stage", "beta/judge")

    def ask_for_more(plan: RunPlan) -> RunPlan:
        (column,) = [column for column in plan.columns if column.name == "verdict"]
        amounts = {**column.scheduling.resource_request.amounts, stage: 5}
        scheduling = dataclasses.replace(
            column.scheduling, resource_request=SchedulerResourceRequest(amounts)
        )
        wide = dataclasses.replace(column, scheduling=scheduling)
        columns = tuple(wide if item is column else item for item in plan.columns)
        return dataclasses.replace(plan, columns=columns)

    with pytest.raises(ValueError, match="needs 5 of model_stage:beta/judge, the limit is 4"):
        simulate(made, change=ask_for_more, stop_at=20.0)
    monkeypatch.setattr(engine.scheduling.scheduler, "check_limits", lambda columns, limits: None)
    output = fold(*simulate(made, change=ask_for_more, stop_at=20.0))
    slots = 2 * 10 + 2 * 20
    expect_shares(output.blame, {"working": 2 * 10 / slots, "unsatisfiable": 2 * 20 / slots})
    verdict = expect_verdict(output.verdicts, "unsatisfiable", stage.label, 0.0, 20.0)
    assert (facts_of(verdict)["needed"], facts_of(verdict)["limit"]) == (5, 4)
