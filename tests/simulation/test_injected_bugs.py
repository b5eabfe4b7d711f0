"""A test of the tests: one bug of each kind put into the engine is found, by the invariant that is
about it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from engine.clock import LoopClock
from engine.events import EventStream
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.ledger import RequestLeaseLedger
from engine.request_admission.limits import AdaptiveRequestLimitState, LimitTransition
from engine.request_admission.pump import RequestPump
from engine.request_admission.resources import ResourceState
from engine.rows.admission import RowGroupAdmission
from engine.scheduling import keyframe
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.bounded_borrow import BoundedBorrowTaskAdmissionPolicy
from engine.scheduling.dispatch import Dispatch
from engine.scheduling.fair_order import FairOrder
from engine.scheduling.idle import IdleReport
from engine.scheduling.ledger import TaskLedger
from engine.scheduling.plan import RetryPolicy
from engine.scheduling.policy import StrictFairTaskAdmissionPolicy, TaskAdmissionPolicyDecision
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.scheduler import AsyncTaskScheduler
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.task_outcomes import TaskOutcomes
from engine.scheduling.tracker import CompletionTracker
from tests.engine.scheduling.harness import Broken
from tests.simulation.simulate import simulate

WORLDS = 250
Patch = pytest.MonkeyPatch
Inject = Callable[[Patch], None]


def is_found_by(invariants: set[str]) -> bool:
    """Does one of the worlds break one of these?"""
    for seed in range(WORLDS):
        try:
            simulate(seed)
        except Broken as error:
            if error.invariants & invariants:
                return True
    return False


def double_release(patch: Patch) -> None:
    release = TaskAdmissionController.release

    def twice(self: TaskAdmissionController, lease: Any) -> Any:
        result = release(self, lease)
        release(self, lease)
        return result

    patch.setattr(TaskAdmissionController, "release", twice)


def capacity_back_twice(patch: Patch) -> None:
    give_back = TaskLedger.remove

    def generous(self: TaskLedger, lease: Any) -> None:
        give_back(self, lease)
        for resource, amount in lease.resources.amounts.items():
            self.available[resource] += amount

    patch.setattr(TaskLedger, "remove", generous)


def leaked_lease(patch: Patch) -> None:
    release = Dispatch.release

    def forgetful(self: Dispatch, live: Any) -> float:
        if live.lease is not None and live.lease.lease_id.endswith("7"):
            live.close_lease()
            return self._clock.monotonic()
        return release(self, live)

    patch.setattr(Dispatch, "release", forgetful)


def leaked_request_lease(patch: Patch) -> None:
    close = RequestLeaseLedger.close

    def forgetful(self: RequestLeaseLedger, attempt: Any) -> None:
        if attempt.lease is None or not attempt.lease.lease_id.endswith("7"):
            close(self, attempt)

    patch.setattr(RequestLeaseLedger, "close", forgetful)


def lost_wake_up_of_a_group(patch: Patch) -> None:
    patch.setattr(FairTaskQueue, "unpark", lambda self, resources, group=None: None)


def lost_wake_up_of_the_pass(patch: Patch) -> None:
    wake = AsyncTaskScheduler._wake

    def sleepy(self: AsyncTaskScheduler) -> None:
        if self._dispatch._executions % 5 != 3:
            wake(self)

    patch.setattr(AsyncTaskScheduler, "_wake", sleepy)


def lost_wake_up_of_waiters(patch: Patch) -> None:
    release = AdaptiveRequestAdmissionController.release

    def quiet(self: Any, lease: Any, outcome: Any) -> Any:
        run, self._pump.run = self._pump.run, lambda shared, now: None
        try:
            return release(self, lease, outcome)
        finally:
            self._pump.run = run

    patch.setattr(AdaptiveRequestAdmissionController, "release", quiet)


def lost_cooldown_timer(patch: Patch) -> None:
    patch.setattr(RequestPump, "arm", lambda self, state, now: None)


def lost_deadline(patch: Patch) -> None:
    patch.setattr(RequestPump, "_on_deadline", lambda self, attempt: None)


def over_admission(patch: Patch) -> None:
    obstacle = TaskAdmissionController._obstacle

    def blind(self: TaskAdmissionController, item: Any) -> Any:
        result = obstacle(self, item)
        return None if result is not None and result.reason == "no_capacity" else result

    patch.setattr(TaskAdmissionController, "_obstacle", blind)


def over_admission_of_requests(patch: Patch) -> None:
    patch.setattr(ResourceState, "has_room", lambda self, now: not self.limits.cooling(now))


def over_admission_of_domains(patch: Patch) -> None:
    """Each domain keeps to its own limit, and all of them together do not to the cap they share."""

    def alone(self: RequestPump, shared: Any, now: float) -> Any:
        return shared.queue.select_next(lambda key: self._resources[key].has_room(now))

    patch.setattr(RequestPump, "next_waiter", alone)


def lease_in_a_cooldown(patch: Patch) -> None:
    patch.setattr(AdaptiveRequestLimitState, "cooling", lambda self, now: False)


def unbounded_limit(patch: Patch) -> None:
    def grow(self: Any, current: int, cause: Any) -> LimitTransition:
        previous, self.limit = self.limit, self.effective_max + 1
        return LimitTransition("request_limit_increased", cause, previous, self.limit, 1)

    patch.setattr(AdaptiveRequestLimitState, "_grow", grow)


def limit_of_nothing(patch: Patch) -> None:
    limited = AdaptiveRequestLimitState.on_rate_limited

    def to_nothing(self: Any, now: float, lease_cascade: int, retry_after: float | None) -> Any:
        effect = limited(self, now, lease_cascade, retry_after)
        if effect.cut is None:
            return effect
        self.limit = 0
        return effect._replace(cut=effect.cut._replace(current=0))

    patch.setattr(AdaptiveRequestLimitState, "on_rate_limited", to_nothing)


def cascade_that_cuts_twice(patch: Patch) -> None:
    limited = AdaptiveRequestLimitState.on_rate_limited
    patch.setattr(
        AdaptiveRequestLimitState,
        "on_rate_limited",
        lambda self, now, lease_cascade, retry_after: limited(self, now, self.cascade, retry_after),
    )


def shorter_cooldown(patch: Patch) -> None:
    limited = AdaptiveRequestLimitState.on_rate_limited

    def forget(self: Any, now: float, lease_cascade: int, retry_after: float | None) -> Any:
        self.blocked_until = None
        return limited(self, now, lease_cascade, retry_after)

    patch.setattr(AdaptiveRequestLimitState, "on_rate_limited", forget)


def unfair_order(patch: Patch) -> None:
    def always_the_same(self: FairOrder[Any], group: Any) -> None:
        self._push(group, group.shape)

    patch.setattr(FairOrder, "advance", always_the_same)


def weights_that_count_for_nothing(patch: Patch) -> None:
    advance = FairOrder.advance

    def alike(self: FairOrder[Any], group: Any) -> None:
        weight, group.weight = group.weight, 1.0
        advance(self, group)
        group.weight = weight

    patch.setattr(FairOrder, "advance", alike)


def wrong_keyframe(patch: Patch) -> None:
    ledger = keyframe.ledger_keyframe

    def generous(*parts: Any) -> dict[str, Any]:
        reported = ledger(*parts)
        return reported | {
            "queued_total": reported["queued_total"] + (reported["active_leases"] > 1)
        }

    patch.setattr("engine.scheduling.scheduler.ledger_keyframe", generous)


def swallowed_number(patch: Patch) -> None:
    push = EventStream._push

    def lossy(self: EventStream, event: Any) -> None:
        if event.sequence % 50 or event.event_kind == "scheduler_job_completed":
            push(self, event)

    patch.setattr(EventStream, "_push", lossy)


def spurious_queue_empty(patch: Patch) -> None:
    def always_empty(self: IdleReport, in_flight: int, deferred: int) -> None:
        self._stream.scheduler("queue_empty", diagnostics={"ready": 0, "in_flight": in_flight})

    patch.setattr(IdleReport, "report", always_empty)


def blocked_without_work(patch: Patch) -> None:
    def always_blocked(self: IdleReport, in_flight: int, deferred: int) -> None:
        self._stream.scheduler("admission_blocked", diagnostics={"queued_count": 0})

    patch.setattr(IdleReport, "report", always_blocked)


def worker_without_lease(patch: Patch) -> None:
    spawn = Dispatch._spawn

    def early(self: Dispatch, live: Any) -> None:
        lease = live.lease
        self.release(live)
        live.lease = lease
        spawn(self, live)

    patch.setattr(Dispatch, "_spawn", early)


def lease_that_nobody_tells(patch: Patch) -> None:
    patch.setattr(TaskEvents, "leased", lambda self, live, at, debts: None)


def retry_before_its_release(patch: Patch) -> None:
    def early(self: Any, live: Any, now: float, error: Any, stop_cause: Any) -> Any:
        self._events.emit("retry_deferred", live, now, error.error_type, {"retry_at": now})
        live.attempt += 1
        self._events.ready(live, now)
        return self._drop(live, now, error.error_type, error.message)

    patch.setattr(TaskOutcomes, "_retry_later", early)


def forgotten_retry(patch: Patch) -> None:
    patch.setattr(CompletionTracker, "mark_ready_again", lambda self, task_id: None)


def readiness_that_forgets_a_cell(patch: Patch) -> None:
    complete = CompletionTracker.mark_complete

    def lossy(self: CompletionTracker, task_id: str) -> Any:
        return complete(self, task_id)[1:]

    patch.setattr(CompletionTracker, "mark_complete", lossy)


def too_many_row_groups(patch: Patch) -> None:
    admit = RowGroupAdmission.try_admit

    def eager(self: RowGroupAdmission) -> Any:
        self.target, target = self.target + 1, self.target
        try:
            return admit(self)
        finally:
            self.target = target

    patch.setattr(RowGroupAdmission, "try_admit", eager)


def waiter_left_behind(patch: Patch) -> None:
    patch.setattr(AdaptiveRequestAdmissionController, "_abandon", lambda self, attempt: None)


def debt_beyond_what_is_held(patch: Patch) -> None:
    change = TaskLedger.change_debt
    patch.setattr(
        TaskLedger,
        "change_debt",
        lambda self, changes: change(self, {key: n + 2 * (n > 0) for key, n in changes.items()}),
    )


def debt_below_nothing(patch: Patch) -> None:
    change = TaskLedger.change_debt

    def generous(self: TaskLedger, changes: Any) -> Any:
        changed = change(self, changes)
        for debts in changed.values():
            for resource, owed in debts.items():
                debts[resource] = owed or -1
        return changed

    patch.setattr(TaskLedger, "change_debt", generous)


def debt_that_nobody_tells(patch: Patch) -> None:
    change = TaskLedger.change_debt

    def quiet(self: TaskLedger, changes: Any) -> Any:
        change(self, changes)
        return {}

    patch.setattr(TaskLedger, "change_debt", quiet)


def explanation_that_is_not_renewed(patch: Patch) -> None:
    patch.setattr(TaskAdmissionController, "blocked_fingerprint", lambda self, view: "as before")


def sink_that_stops_the_run(patch: Patch) -> None:
    def bare(self: EventStream) -> None:
        self._flush_due = False
        events = list(self._pending)
        self._pending.clear()
        for sink in self._sinks:
            sink.write_events(events)

    patch.setattr(EventStream, "flush", bare)


def groups_that_deny_each_other(patch: Patch) -> None:
    for policy in (BoundedBorrowTaskAdmissionPolicy, StrictFairTaskAdmissionPolicy):
        patch.setattr(
            policy,
            "evaluate",
            lambda self, item, queue_view, admission_view: TaskAdmissionPolicyDecision(
                not admission_view.leases, "group_cap"
            ),
        )


def clock_that_goes_back(patch: Patch) -> None:
    monotonic = LoopClock.monotonic
    calls = [0]

    def skewed(self: LoopClock) -> float:
        calls[0] += 1
        return monotonic(self) - (0.05 if calls[0] % 97 == 0 else 0.0)

    patch.setattr(LoopClock, "monotonic", skewed)


BUGS: dict[str, tuple[Inject, set[str]]] = {
    "a task lease released twice": (double_release, {"left_behind", "keyframes"}),
    "capacity given back twice": (capacity_back_twice, {"keyframes", "caps", "left_behind"}),
    "a task lease leaked": (leaked_lease, {"left_behind", "deadlock"}),
    "a request lease leaked": (leaked_request_lease, {"left_behind", "keyframes"}),
    "a parked group never woken": (lost_wake_up_of_a_group, {"deadlock"}),
    "a pass never made": (lost_wake_up_of_the_pass, {"deadlock"}),
    "a waiter never woken": (lost_wake_up_of_waiters, {"request_conservation"}),
    "a cooldown without a timer": (lost_cooldown_timer, {"request_conservation", "deadlock"}),
    "a deadline without effect": (lost_deadline, {"request_conservation"}),
    "more task leases than fit": (over_admission, {"caps"}),
    "more request leases than fit": (over_admission_of_requests, {"caps"}),
    "more calls than the shared cap": (over_admission_of_domains, {"caps"}),
    "a lease in a cooldown": (lease_in_a_cooldown, {"cooldowns"}),
    "a limit above its maximum": (unbounded_limit, {"limits"}),
    "a limit of nothing": (limit_of_nothing, {"limits"}),
    "a cascade that cuts twice": (cascade_that_cuts_twice, {"cooldowns"}),
    "a cooldown cut short": (shorter_cooldown, {"cooldowns"}),
    "one group always first": (unfair_order, {"fairness"}),
    "weights that count for nothing": (weights_that_count_for_nothing, {"fairness"}),
    "a keyframe that is wrong": (wrong_keyframe, {"keyframes"}),
    "a number swallowed": (swallowed_number, {"sequence"}),
    "empty with work queued": (spurious_queue_empty, {"empty_blocked"}),
    "blocked with nothing queued": (blocked_without_work, {"empty_blocked"}),
    "a worker without its lease": (worker_without_lease, {"hidden_waiters"}),
    "a lease that nobody tells": (lease_that_nobody_tells, {"hidden_waiters"}),
    "a retry before its release": (retry_before_its_release, {"order"}),
    "a retry forgotten": (forgotten_retry, {"work_conservation", "deadlock"}),
    "a ready cell forgotten": (readiness_that_forgets_a_cell, {"outcome", "work_conservation"}),
    "more row groups than allowed": (too_many_row_groups, {"caps"}),
    "a waiter left behind": (waiter_left_behind, {"left_behind", "attempts"}),
    "a debt beyond what is held": (debt_beyond_what_is_held, {"debt"}),
    "a debt below nothing": (debt_below_nothing, {"debt"}),
    "a debt that nobody tells": (debt_that_nobody_tells, {"keyframes"}),
    "an explanation not renewed": (explanation_that_is_not_renewed, {"explanation"}),
    "a sink that stops the run": (sink_that_stops_the_run, {"exception", "sinks"}),
    "groups that deny each other": (groups_that_deny_each_other, {"work_conservation"}),
    "a clock that goes back": (clock_that_goes_back, {"time"}),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found_by_the_invariant_about_it(
    bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject, invariants = BUGS[bug]
    inject(monkeypatch)
    assert is_found_by(invariants)


def test_a_run_that_hangs_on_more_than_its_seed_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        RetryPolicy, "delay", lambda self, attempt, source: random.Random(time.time_ns()).random()
    )
    assert any(simulate(seed).lines() != simulate(seed).lines() for seed in range(WORLDS))
