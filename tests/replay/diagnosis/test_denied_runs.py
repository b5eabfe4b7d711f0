"""Runs in which free slots go unused: a policy denies them, or their turn comes late.

Every call takes exactly as long as its script says, so the truth is arithmetic: slots times
seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

import engine.run.execute
import engine.scheduling.policy
from engine.identity import SchedulerResourceKey
from engine.metadata import SchedulingMetadata
from engine.run.plan import RunPlan
from engine.scheduling.bounded_borrow import BoundedBorrowTaskAdmissionPolicyConfig
from engine.scheduling.config import TaskAdmissionConfig
from engine.scheduling.policy import ALLOWED, NO_CHANGE, TaskAdmissionPolicyDecision
from engine.scheduling.scheduler import AsyncTaskScheduler
from engine.workflow.schema import CustomColumn
from tests.replay.diagnosis.simulated import (
    ALPHA,
    asks,
    calls_of,
    expect_shares,
    expect_verdict,
    fold,
    hear_late,
    simulate,
    workflow,
)
from tests.replay.diagnosis.stream import facts_of


def naps(*seconds: float) -> CustomColumn:
    """Sleeps so long for the first rows, and not at all for the others; its weight is 6."""
    left = iter(seconds)

    async def nap(row: dict[str, Any]) -> None:
        await asyncio.sleep(next(left, 0.0))

    nap.get_scheduling_metadata = lambda: SchedulingMetadata(  # type: ignore[attr-defined]
        "custom_model", ("custom_model", "test", "nap", "1"), 6
    )
    return CustomColumn(name="napped", function=nap)


def test_a_group_that_may_borrow_no_more() -> None:
    """6 task slots for two groups of equal weight, so a share is 3; 1 more may be borrowed.

    For 10 s the one holds a single slot, with nothing queued; the other makes 40 calls of 1 s on
    its 4 slots, so 2 of its 6 call slots idle although a task slot is free. Nothing waits in the
    last second.
    """
    made = workflow(
        40,
        {"alpha": (calls_of(1.0), 6)},
        naps(10.0),
        asks("question", "gen"),
        max_in_flight_tasks=6,
    )
    borrow = BoundedBorrowTaskAdmissionPolicyConfig(default_borrow_ceiling=1)
    config = TaskAdmissionConfig("bounded_borrow", provider_aware=False, bounded_borrow=borrow)
    output = fold(*simulate(made, task_admission=config))
    expect_shares(
        output.blame,
        {"working": 4 / 6, "borrow_debt": 2 * 9 / (6 * 10), "dependency": 2 * 1 / (6 * 10)},
    )
    waits = [row for row in output.verdicts if row.verdict != "dependency"]
    verdict = expect_verdict(waits, "borrow_debt", "submission", 0.0, 9.0)
    facts = {name: facts_of(verdict)[name] for name in ("limit", "free", "held", "share", "debt")}
    assert facts == {"limit": 6, "free": 1, "held": 4, "share": 3.0, "debt": 1}


def test_a_group_that_is_held_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 task slots for two groups of equal weight, under a policy that does not ask whether the
    other can use what it withholds: 30 calls of 1 s, 3 at once, take 10 s.

    The other group has one slot of its own, taken for 10 s, and queues for it all the while.
    Nothing else waits for the last calls.
    """
    monkeypatch.setattr(engine.scheduling.policy, "any_contender", lambda *asked: True)
    stage = SchedulerResourceKey("model_stage", "test/nap")

    def one_at_a_time(plan: RunPlan) -> RunPlan:
        return dataclasses.replace(plan, limits={**plan.limits, stage: 1})

    made = workflow(
        30,
        {"alpha": (calls_of(1.0), 6)},
        naps(10.0),
        asks("question", "gen"),
        max_in_flight_tasks=6,
    )
    config = TaskAdmissionConfig(provider_aware=False)
    output = fold(*simulate(made, task_admission=config, change=one_at_a_time))
    expect_shares(
        output.blame,
        {"working": 3 / 6, "group_cap": 3 * 9 / (6 * 10), "dependency": 3 * 1 / (6 * 10)},
    )
    waits = [row for row in output.verdicts if row.verdict != "task_capacity"]
    verdict = expect_verdict(waits, "group_cap", "submission", 0.0, 9.0)
    facts = {name: facts_of(verdict)[name] for name in ("limit", "free", "held", "share")}
    assert facts == {"limit": 6, "free": 2, "held": 3, "share": 3.0}


class NobodyFirst:
    """Holds back any group that holds a lease while another has something queued."""

    def evaluate(self, item: Any, queue_view: Any, admission_view: Any) -> Any:
        group = item.group.key
        held = admission_view.leased_by_group.get(group)
        if held and any(queue_view.peer_demand(group, resource) for resource in held):
            return TaskAdmissionPolicyDecision(False, "policy_denial")
        return ALLOWED

    def on_acquire(self, lease: Any, decision: Any) -> Any:
        return NO_CHANGE

    def on_release(self, lease: Any) -> Any:
        return NO_CHANGE


def test_groups_that_deny_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns of 2 rows, calls of 8 s on 4 slots: each keeps the other from its second."""
    monkeypatch.setattr(engine.run.execute, "build_policy", lambda config, pressure: NobodyFirst())
    made = workflow(2, {"alpha": (calls_of(8.0), 4)}, asks("question", "gen"), asks("title", "gen"))
    output = fold(*simulate(made))
    expect_shares(
        output.blame,
        {
            "working": 2 * 16 / (4 * 16),
            "policy_mutual_denial": 2 * 8 / (4 * 16),
            "dependency": 2 * 8 / (4 * 16),
        },
    )
    denials = [row for row in output.verdicts if row.verdict != "dependency"]
    expect_verdict(denials, "policy_mutual_denial", None, 0.0, 8.0)


def test_tasks_whose_turn_comes_a_little_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task slot, 20 calls of 0.92 s, and every pass of the scheduler 0.08 s late.

    Before the first call two passes go by, one that knows of no task yet; after the last, one.
    """
    run_pass = AsyncTaskScheduler._wake

    def linger(scheduler: Any) -> None:
        asyncio.get_running_loop().call_later(0.08, run_pass, scheduler)

    monkeypatch.setattr(AsyncTaskScheduler, "_wake", linger)
    made = workflow(
        20, {"alpha": (calls_of(0.92), 1)}, asks("question", "gen"), max_in_flight_tasks=1
    )
    output = fold(*simulate(made))
    expect_shares(output.blame, {"working": 0.92, "queue_order": 0.08})
    assert output.verdicts == []


def test_calls_whose_turn_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 calls of 5 s, 3 s in which nobody hears of the free slots, 2 more calls of 5 s.

    No event tells that the loop lived meanwhile, so it is not proved that a wake-up was lost.
    """
    hear_late(monkeypatch, at=5.0, until=8.0)
    made = workflow(4, {"alpha": (calls_of(5.0), 2)}, asks("question", "gen"))
    output = fold(*simulate(made, keyframe_seconds=60.0))
    expect_shares(output.blame, {"working": 10 / 13, "request_waiters_ahead": 3 / 13})
    expect_verdict(output.verdicts, "request_waiters_ahead", ALPHA, 5.0, 8.0)
