from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.identity import (
    GlobalPressureSnapshot,
    PressureSnapshot,
    RequestResourceKey,
    SchedulerResourceKey,
)
from engine.scheduling.bounded_borrow import BoundedBorrowTaskAdmissionPolicy
from engine.scheduling.policy import FairSharePolicy, StrictFairTaskAdmissionPolicy
from engine.scheduling.provider_aware import ProviderAwareTaskAdmissionPolicy
from tests.engine.scheduling.admission_bench import SLOT, Bench, HandClock, X, Y, task
from tests.engine.scheduling.harness import Setting, column, run, takes

ALPHA = RequestResourceKey("alpha", "gen", "chat")
BETA = RequestResourceKey("beta", "gen", "chat")


class HandPressure:
    """Request pressure set by hand: waiters and the end of a cooldown by resource."""

    def __init__(self, clock: HandClock | None = None) -> None:
        self.clock = clock or HandClock()
        self.waiters: dict[RequestResourceKey, int] = {}
        self.blocked_until: dict[RequestResourceKey, float] = {}

    def snapshot(self, resource: RequestResourceKey) -> PressureSnapshot | None:
        now = self.clock.monotonic()
        until = self.blocked_until.get(resource)
        return PressureSnapshot(
            resource=resource,
            captured_at=now,
            sequence=0,
            effective_max=8,
            current_limit=8,
            in_flight_count=0,
            active_lease_count=0,
            waiters=self.waiters.get(resource, 0),
            blocked_until_monotonic=until,
            cooldown_remaining_seconds=max(0.0, (until or 0.0) - now),
            rate_limit_ceiling=None,
            consecutive_rate_limits=0,
            last_outcome=None,
            leak_counters=MappingProxyType({}),
        )

    def snapshots(self) -> tuple[PressureSnapshot, ...]:
        return ()

    def global_snapshot(self, provider: str, model: str) -> GlobalPressureSnapshot | None:
        return None

    def global_snapshots(self) -> tuple[GlobalPressureSnapshot, ...]:
        return ()


class PressedBench(Bench):
    def __init__(
        self,
        limits: Mapping[SchedulerResourceKey, int],
        shares: FairSharePolicy | None = None,
    ) -> None:
        self.pressure = HandPressure()
        policy = ProviderAwareTaskAdmissionPolicy(
            shares or StrictFairTaskAdmissionPolicy(), self.pressure
        )
        super().__init__(limits, policy)
        self.pressure.clock = self.clock

    def ask_alpha(self, name: str, count: int) -> None:
        self.enqueue(name, count, needs={SLOT: 1, X: 1}, request=ALPHA)

    def ask_beta(self, name: str, count: int) -> None:
        self.enqueue(name, count, needs={SLOT: 1, Y: 1}, request=BETA)


LIMITS = {SLOT: 8, X: 8, Y: 8}


def test_without_pressure_nothing_changes() -> None:
    bench = PressedBench(LIMITS)
    bench.ask_alpha("a", 20)
    bench.ask_beta("b", 20)
    assert sorted(bench.dispatch()) == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize("how", ["cooldown", "waiters"])
def test_a_pressed_head_is_passed_over_for_a_peer_that_is_not(how: str) -> None:
    bench = PressedBench(LIMITS)
    if how == "cooldown":
        bench.pressure.blocked_until[ALPHA] = 5.0
    else:
        bench.pressure.waiters[ALPHA] = 1
    bench.ask_alpha("a", 20)
    bench.ask_beta("b", 3)
    assert bench.dispatch() == ["b", "b", "b", *["a"] * 5]


def test_where_all_are_pressed_all_are_admitted_as_usual() -> None:
    bench = PressedBench(LIMITS)
    bench.pressure.blocked_until = {ALPHA: 5.0, BETA: 9.0}
    bench.ask_alpha("a", 20)
    bench.ask_beta("b", 20)
    assert sorted(bench.dispatch()) == ["a"] * 4 + ["b"] * 4


def test_a_peer_that_can_not_run_is_no_reason_to_pass_anybody_over() -> None:
    bench = PressedBench({SLOT: 8, X: 8, Y: 1})
    bench.ask_beta("b", 5)
    bench.dispatch()
    bench.pressure.blocked_until[ALPHA] = 5.0
    bench.ask_alpha("a", 1)
    assert bench.dispatch() == ["a"]


def test_local_work_is_a_peer_too() -> None:
    bench = PressedBench({SLOT: 2, X: 8})
    bench.pressure.blocked_until[ALPHA] = 5.0
    bench.ask_alpha("a", 20)
    bench.enqueue("local", 20)
    assert bench.dispatch() == ["local", "local"]


def test_the_verdict_says_what_presses_and_until_when() -> None:
    bench = PressedBench(LIMITS)
    bench.pressure.blocked_until[ALPHA] = 5.0
    bench.pressure.waiters[ALPHA] = 3
    bench.ask_alpha("a", 1)
    bench.ask_beta("b", 1)
    head = bench.queue.view().first_candidate(task("a", 0).group.key)
    assert head is not None
    verdict = bench.admission.is_eligible(head, bench.queue.view())
    assert (verdict.reason, verdict.available_after) == ("policy_denial", 5.0)
    assert verdict.diagnostics["advisory"] == {
        "request_resource": "alpha/gen/chat",
        "waiters": 3,
        "limit": 8,
        "blocked_until": 5.0,
    }


def test_the_end_of_a_cooldown_puts_the_head_back_in_turn() -> None:
    bench = PressedBench({SLOT: 2, X: 8, Y: 8})
    bench.pressure.blocked_until[ALPHA] = 5.0
    bench.ask_alpha("a", 20)
    bench.ask_beta("b", 40)
    assert bench.dispatch() == ["b", "b"]
    assert bench.queue.next_deadline == 5.0
    bench.release("b")
    assert bench.dispatch() == ["b"]
    bench.clock.now = 5.0
    bench.release("b")
    assert bench.dispatch() == ["a"]
    assert bench.queue.next_deadline is None


def test_groups_of_one_pressed_provider_take_turns_at_its_releases() -> None:
    """Every release at the provider lets one of those it holds back be looked at again."""
    bench = PressedBench({SLOT: 4, X: 8, Y: 8})
    bench.ask_alpha("first", 50)
    bench.dispatch(2)
    bench.ask_alpha("second", 50)
    bench.ask_alpha("third", 50)
    bench.ask_beta("b", 200)
    bench.pressure.waiters[ALPHA] = 1
    bench.dispatch()
    granted = set()
    for _ in range(40):
        pressed = bench.held()["first"] + bench.held()["second"] + bench.held()["third"] > 2
        bench.pressure.waiters[ALPHA] = int(pressed)
        bench.release(bench.leases[0].item.payload.column)
        granted.update(bench.dispatch())
    assert granted == {"first", "second", "third", "b"}


def test_a_share_of_its_own_still_binds_the_healthy_peer() -> None:
    bench = PressedBench(LIMITS)
    bench.ask_beta("b", 40)
    bench.dispatch()
    bench.ask_alpha("a", 40)
    bench.release("b")
    assert bench.dispatch() == ["a"]


def test_nobody_keeps_to_its_share_for_the_sake_of_a_pressed_peer() -> None:
    bench = PressedBench(LIMITS)
    bench.pressure.waiters[ALPHA] = 1
    bench.ask_beta("b", 40)
    bench.dispatch()
    bench.ask_alpha("a", 40)
    bench.release("b")
    assert bench.dispatch() == ["b"]
    bench.pressure.waiters[ALPHA] = 0
    bench.release("b")
    assert bench.dispatch() == ["a"]


def test_at_least_one_waiter_makes_pressure() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ProviderAwareTaskAdmissionPolicy(StrictFairTaskAdmissionPolicy(), HandPressure(), 0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_the_pressure_a_head_that_fits_is_taken(seed: int) -> None:
    source = random.Random(seed)
    strict, borrow = StrictFairTaskAdmissionPolicy(), BoundedBorrowTaskAdmissionPolicy()
    shares: FairSharePolicy = strict if source.random() < 0.5 else borrow
    limits = {SLOT: source.randint(1, 8), X: source.randint(1, 4), Y: source.randint(1, 4)}
    bench = PressedBench(limits, shares)
    needs: list[dict[SchedulerResourceKey, int]] = [{SLOT: 1}, {SLOT: 1, X: 1}, {SLOT: 1, Y: 1}]
    requests = [None, ALPHA, BETA]
    kinds = [source.randrange(3) for _ in range(24)]
    for step in range(80):
        bench.clock.now = float(step)
        for resource in (ALPHA, BETA):
            bench.pressure.waiters[resource] = source.choice([0, 0, 1, 5])
            bench.pressure.blocked_until[resource] = step + source.choice([-1.0, 0.5, 7.0])
        if source.random() < 0.5:
            group = source.randrange(len(kinds))
            kind = kinds[group]
            bench.enqueue(
                f"g{group}", source.randint(1, 6), needs=needs[kind], request=requests[kind]
            )
        elif bench.leases:
            bench.release(source.choice(bench.leases).item.payload.column)
        bench.dispatch()
        available = bench.admission.view().available
        for head in bench.queue.view().first_candidates():
            assert any(
                available[resource] < amount
                for resource, amount in head.resource_request.amounts.items()
            ), "a head fits and was not taken"


def test_a_run_tells_once_per_task_that_a_peer_went_first() -> None:
    pressure = HandPressure()
    pressure.waiters[ALPHA] = 4
    columns = (
        column("a", needs={"x": 1}, request_resource=ALPHA),
        column("b", needs={"y": 1}, request_resource=BETA),
    )
    ran = run(
        Setting(
            columns,
            records=6,
            slots=2,
            local={"x": 9, "y": 9},
            execute=takes(1.0),
            policy=ProviderAwareTaskAdmissionPolicy(StrictFairTaskAdmissionPolicy(), pressure),
        )
    )
    skipped = ran.scheduler_events("request_pressure_advisory_skipped")
    first = skipped[0]
    assert (first.task_id, first.reason_or_result) == ("a/0", "waiters")
    assert first.diagnostics == {
        "request_resource": "alpha/gen/chat",
        "waiters": 4,
        "limit": 8,
        "peer": "b/0",
    }
    assert len({event.task_id for event in skipped}) == len(skipped)
    order = [event.task_id for event in ran.scheduler_events("worker_spawned")]
    assert order[:6] == [f"b/{row}" for row in range(6)]
