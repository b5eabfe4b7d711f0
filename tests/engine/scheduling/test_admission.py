from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.identity import SchedulerResourceKey
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.decisions import TaskAdmissionDenied, TaskAdmissionLease
from engine.scheduling.policy import (
    ALLOWED,
    NO_CHANGE,
    PolicyStateDelta,
    StrictFairTaskAdmissionPolicy,
    TaskAdmissionPolicyDecision,
)
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.types import SchedulableTask
from engine.scheduling.views import QueueView, TaskAdmissionView
from tests.engine.scheduling.admission_bench import SLOT, Bench, HandClock, X, Y, key, task


def lease_of(admission: TaskAdmissionController, item: SchedulableTask) -> TaskAdmissionLease:
    queue = FairTaskQueue()
    decision = admission.try_acquire(item, queue.view())
    assert isinstance(decision, TaskAdmissionLease)
    return decision


def test_a_lease_books_its_resources_and_its_release_gives_them_back() -> None:
    bench = Bench({SLOT: 3, X: 2})
    bench.clock.now = 7.0
    lease = lease_of(bench.admission, task("a", 0, needs={SLOT: 2, X: 1}))
    assert (lease.lease_id, lease.acquired_at) == ("t1", 7.0)
    bench.admission.note_spawned(lease)
    view = bench.admission.view()
    assert view.leased == {SLOT: 2, X: 1}
    assert view.available == {SLOT: 1, X: 1}
    assert view.leased_by_group == view.running_by_group == {key("a"): {SLOT: 2, X: 1}}
    assert view.leases == view.running == {key("a"): 1}
    assert bench.admission.release(lease).reason == "released"
    after = bench.admission.view()
    assert after.leased == {SLOT: 0, X: 0}
    assert after.leased_by_group == after.running_by_group == {}
    assert after.leases == after.running == {}
    assert view.leased == {SLOT: 2, X: 1}


def test_a_lease_is_released_exactly_once_and_every_refusal_says_why() -> None:
    clock = HandClock()
    policy = StrictFairTaskAdmissionPolicy()
    admission = TaskAdmissionController({SLOT: 2}, policy, clock)
    lease = lease_of(admission, task("a", 0))
    other = lease_of(admission, task("a", 1))
    forged = msgspec.structs.replace(other, acquired_at=99.0)
    older = msgspec.structs.replace(other, controller_generation=0)
    unknown = msgspec.structs.replace(other, lease_id="t99")
    strange = msgspec.structs.replace(other, lease_id="x")
    assert admission.release(lease).reason == "released"
    reasons = [
        admission.release(item).reason for item in (lease, lease, forged, older, unknown, strange)
    ]
    assert reasons == [
        "duplicate",
        "duplicate",
        "stale_lease",
        "wrong_controller_generation",
        "unknown_lease",
        "unknown_lease",
    ]
    assert admission.release_diagnostics == {
        "duplicate": 2,
        "stale_lease": 1,
        "wrong_controller_generation": 1,
        "unknown_lease": 2,
    }
    assert admission.view().available == {SLOT: 1}
    assert admission.active_leases == 1


def test_no_capacity_is_denied_with_the_resource_that_is_short() -> None:
    bench = Bench({SLOT: 5, X: 1})
    lease_of(bench.admission, task("a", 0, needs={SLOT: 1, X: 1}))
    item = task("b", 0, needs={SLOT: 1, X: 1})
    verdict = bench.admission.is_eligible(item, bench.queue.view())
    assert (verdict.eligible, verdict.reason, verdict.resources) == (False, "no_capacity", (X,))
    denied = bench.admission.try_acquire(item, bench.queue.view())
    assert isinstance(denied, TaskAdmissionDenied)
    assert denied.reason == "no_capacity"
    assert denied.snapshot is not None
    assert denied.snapshot.available[X] == 0


def test_after_shutdown_everything_is_denied_and_leases_can_still_be_released() -> None:
    bench = Bench({SLOT: 5})
    lease = lease_of(bench.admission, task("a", 0))
    bench.admission.shutdown()
    denied = bench.admission.try_acquire(task("a", 1), bench.queue.view())
    assert isinstance(denied, TaskAdmissionDenied)
    assert denied.reason == "shutdown"
    assert bench.admission.release(lease).released


def test_a_group_alone_may_use_everything() -> None:
    bench = Bench({SLOT: 8})
    bench.enqueue("a", 20)
    assert bench.dispatch() == ["a"] * 8


def test_under_pressure_freed_slots_go_to_the_group_below_its_share() -> None:
    bench = Bench({SLOT: 8})
    bench.enqueue("a", 40)
    bench.dispatch()
    bench.enqueue("b", 40)
    for _ in range(4):
        bench.release("a")
        assert bench.dispatch() == ["b"]
    assert bench.held() == {"a": 4, "b": 4}
    for name in ("a", "b", "b", "a", "a", "b"):
        bench.release(name)
        bench.dispatch()
    assert bench.held() == {"a": 4, "b": 4}


def test_shares_go_by_weight() -> None:
    bench = Bench({SLOT: 8})
    bench.enqueue("heavy", 40, weight=3.0)
    bench.dispatch()
    bench.enqueue("light", 40, weight=1.0)
    for _ in range(20):
        bench.release("heavy")
        bench.dispatch()
    assert bench.held() == {"heavy": 6, "light": 2}


def test_a_peer_that_does_not_overlap_is_no_pressure() -> None:
    bench = Bench({X: 4, Y: 4})
    bench.enqueue("a", 10, needs={X: 1})
    bench.enqueue("b", 10, needs={Y: 1})
    bench.dispatch()
    assert bench.held() == {"a": 4, "b": 4}


def test_a_peer_that_cannot_run_is_no_pressure() -> None:
    bench = Bench({SLOT: 8, X: 1})
    bench.enqueue("stuck", 10, needs={SLOT: 1, X: 1})
    bench.dispatch()
    bench.enqueue("a", 20)
    bench.dispatch()
    assert bench.held() == {"stuck": 1, "a": 7}


def test_the_decision_itself_tells_pressure_from_a_peer_that_cannot_run() -> None:
    bench = Bench({SLOT: 4, X: 1})
    policy = StrictFairTaskAdmissionPolicy()
    for number in range(2):
        lease_of(bench.admission, task("a", 100 + number))
    bench.enqueue("a", 5)
    item = task("a", 0)
    bench.enqueue("b", 1, needs={SLOT: 1, X: 1})
    pressed = policy.evaluate(item, bench.queue.view(), bench.admission.view())
    assert (pressed.allowed, pressed.reason, pressed.resources) == (False, "group_cap", (SLOT,))
    lease_of(bench.admission, task("c", 0, needs={X: 1}))
    assert policy.evaluate(item, bench.queue.view(), bench.admission.view()).allowed


def test_a_share_grows_when_a_competitor_has_nothing_queued_any_more() -> None:
    bench = Bench({SLOT: 6})
    bench.enqueue("a", 40)
    bench.dispatch()
    bench.enqueue("b", 3)
    bench.enqueue("c", 40)
    for _ in range(20):
        bench.release("a")
        bench.dispatch()
    bench.release("b")
    bench.dispatch()
    bench.release("b")
    bench.dispatch()
    for _ in range(10):
        bench.release("c")
        bench.dispatch()
        bench.release("a")
        bench.dispatch()
    held = bench.held()
    assert held["a"] >= 2
    assert held["c"] >= 2
    assert sum(held.values()) == 6


def test_an_admitted_limit_holds_without_any_peer() -> None:
    bench = Bench({SLOT: 8})
    bench.enqueue("a", 20, limit=3)
    assert bench.dispatch() == ["a"] * 3
    summary = bench.admission.explain_blocked(bench.queue.view())
    assert summary.dominant_reasons == {"group_cap": 1}
    bench.release("a")
    assert bench.dispatch() == ["a"]


def test_what_blocks_is_explained_with_holders_and_their_ages() -> None:
    bench = Bench({SLOT: 8, X: 2})
    bench.enqueue("old", 1, needs={SLOT: 1, X: 1})
    bench.dispatch()
    bench.clock.now = 4.0
    bench.enqueue("new", 1, needs={SLOT: 1, X: 1})
    bench.enqueue("more", 2, needs={SLOT: 1, X: 1})
    bench.enqueue("capped", 2, limit=1)
    bench.dispatch()
    bench.clock.now = 10.0
    summary = bench.admission.explain_blocked(bench.queue.view())
    assert summary.queued_count == 3
    assert list(summary.dominant_reasons.items()) == [("no_capacity", 1), ("group_cap", 1)]
    assert summary.diagnostics["groups"] == {
        "local/more": "no_capacity",
        "local/capped": "group_cap",
    }
    assert summary.diagnostics["resources"][X.label] == {
        "needed": 1,
        "limit": 2,
        "free": 0,
        "holders": [
            {"group": "local/old", "leases": 1, "oldest_age": 10.0},
            {"group": "local/new", "leases": 1, "oldest_age": 6.0},
        ],
    }


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="submission"):
        TaskAdmissionController({SLOT: 0}, StrictFairTaskAdmissionPolicy(), HandClock())


class LendingPolicy:
    """Books one unit of debt with each lease and takes it back at its end."""

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision:
        if admission_view.debt_by_group.get(item.group.key, {}).get(SLOT, 0) >= 2:
            return TaskAdmissionPolicyDecision(False, "borrow_debt", (SLOT,), 30.0)
        return ALLOWED

    def on_acquire(
        self, lease: TaskAdmissionLease, decision: TaskAdmissionPolicyDecision
    ) -> PolicyStateDelta:
        return PolicyStateDelta({(lease.item.group.key, SLOT): 1})

    def on_release(self, lease: TaskAdmissionLease) -> PolicyStateDelta:
        if lease.lease_id == "t1":
            return NO_CHANGE
        return PolicyStateDelta({(lease.item.group.key, SLOT): -1})


def test_debt_of_a_policy_is_booked_with_the_lease_and_never_touches_the_ledger() -> None:
    admission = TaskAdmissionController({SLOT: 8}, LendingPolicy(), HandClock())
    view = FairTaskQueue().view()
    first, second = (admission.try_acquire(task("a", number), view) for number in range(2))
    assert isinstance(first, TaskAdmissionLease)
    assert isinstance(second, TaskAdmissionLease)
    assert admission.view().debt_by_group == {key("a"): {SLOT: 2}}
    denied = admission.try_acquire(task("a", 2), view)
    assert isinstance(denied, TaskAdmissionDenied)
    assert (denied.reason, denied.available_after) == ("borrow_debt", 30.0)
    assert admission.view().available == {SLOT: 6}
    admission.release(first)
    assert admission.view().debt_by_group == {key("a"): {SLOT: 2}}
    admission.release(second)
    assert admission.view().debt_by_group == {key("a"): {SLOT: 1}}
    assert admission.view().available == {SLOT: 8}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_leases_and_ledger_agree_no_limit_is_exceeded_and_no_slot_idles(seed: int) -> None:
    source = random.Random(seed)
    bench = Bench({SLOT: source.randint(1, 8), X: source.randint(1, 4), Y: source.randint(1, 4)})
    needs: list[dict[SchedulerResourceKey, int]] = [
        {SLOT: 1},
        {SLOT: 1, X: 1},
        {SLOT: 1, Y: 1},
        {SLOT: 1, X: 1, Y: 1},
    ]
    groups = [
        (f"g{index}", float(source.randint(1, 5)), source.choice(needs)) for index in range(6)
    ]
    number = 0
    for _ in range(80):
        if source.random() < 0.5:
            name, weight, wanted = source.choice(groups)
            count = source.randint(1, 6)
            bench.queue.enqueue(
                task(name, number + index, weight, wanted) for index in range(count)
            )
            number += count
        elif bench.leases:
            bench.release(source.choice(bench.leases).item.payload.column)
        bench.dispatch()
        view = bench.admission.view()
        held: Counter[SchedulerResourceKey] = Counter()
        for lease in bench.leases:
            held.update(lease.resources.amounts)
        for resource, limit in view.limits.items():
            assert view.leased[resource] == held[resource] <= limit
            assert view.available[resource] == limit - held[resource]
        for head in bench.queue.view().first_candidates():
            assert any(
                view.available[resource] < amount
                for resource, amount in head.resource_request.amounts.items()
            ), "a head fits and was not taken"
    while bench.leases or len(bench.queue):
        bench.dispatch()
        bench.release(bench.leases[0].item.payload.column)
    assert bench.admission.active_leases == 0
