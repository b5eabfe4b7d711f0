from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.identity import SchedulerResourceKey
from engine.scheduling.bounded_borrow import (
    BoundedBorrowTaskAdmissionPolicy,
    BoundedBorrowTaskAdmissionPolicyConfig,
)
from engine.scheduling.decisions import TaskAdmissionDenied
from tests.engine.scheduling.admission_bench import SLOT, Bench, X, Y, key, task


def borrow_bench(limits: dict[SchedulerResourceKey, int], **config: object) -> Bench:
    made = BoundedBorrowTaskAdmissionPolicyConfig(**config)  # type: ignore[arg-type]
    return Bench(limits, BoundedBorrowTaskAdmissionPolicy(made))


def blocked_peer(bench: Bench) -> None:
    """A group that competes for slots and can't use them: what else it needs is taken."""
    bench.enqueue("hog", 1, needs={X: 1})
    bench.dispatch()
    bench.enqueue("peer", 20, needs={SLOT: 1, X: 1})


def test_a_group_alone_uses_everything_and_owes_nothing() -> None:
    bench = borrow_bench({SLOT: 8})
    bench.enqueue("a", 20)
    assert bench.dispatch() == ["a"] * 8
    assert bench.debt("a", SLOT) == 0


def test_what_a_peer_can_not_use_is_lent_and_owed() -> None:
    bench = borrow_bench({SLOT: 8, X: 1})
    blocked_peer(bench)
    bench.enqueue("a", 20)
    assert bench.dispatch() == ["a"] * 8
    assert bench.debt("a", SLOT) == 8 - 4


def test_an_indebted_group_gets_nothing_while_a_peer_waits() -> None:
    bench = borrow_bench({SLOT: 8, X: 8}, repay_when_withheld=False)
    bench.enqueue("hog", 1, needs={X: 8})
    bench.dispatch()
    bench.enqueue("peer", 20, needs={SLOT: 1, X: 1})
    bench.enqueue("a", 40)
    bench.dispatch()
    bench.release("hog")
    granted = []
    for _ in range(4):
        bench.release("a")
        granted += bench.dispatch()
    assert granted == ["peer"] * 4
    assert bench.debt("a", SLOT) == 0
    denied = bench.admission.try_acquire(task("a", 900), bench.queue.view())
    assert isinstance(denied, TaskAdmissionDenied)


def test_the_denial_says_what_is_owed() -> None:
    bench = borrow_bench({SLOT: 8, X: 1})
    blocked_peer(bench)
    bench.enqueue("a", 20)
    bench.dispatch()
    bench.release("hog")
    bench.release("a")
    denied = bench.admission.try_acquire(task("a", 900), bench.queue.view())
    assert isinstance(denied, TaskAdmissionDenied)
    assert (denied.reason, denied.diagnostics["debt"]) == ("borrow_debt", 3)


def test_any_lease_that_ends_pays_back_and_debt_never_exceeds_what_is_held() -> None:
    bench = borrow_bench({SLOT: 8, X: 1})
    blocked_peer(bench)
    bench.enqueue("a", 8)
    bench.dispatch()
    for left in (3, 2, 1, 0, 0):
        bench.release("a")
        assert bench.debt("a", SLOT) == left


def test_units_that_a_peer_takes_instead_pay_back_too() -> None:
    bench = borrow_bench({SLOT: 8, X: 8})
    bench.enqueue("hog", 1, needs={X: 8})
    bench.dispatch()
    bench.enqueue("peer", 20, needs={SLOT: 1, X: 1})
    bench.enqueue("a", 40)
    bench.dispatch()
    assert bench.debt("a", SLOT) == 4
    bench.release("hog")
    bench.release("a")
    assert bench.debt("a", SLOT) == 3
    assert bench.dispatch() == ["peer"]
    assert bench.debt("a", SLOT) == 2
    bench.release("a")
    assert bench.dispatch() == ["peer"]
    assert bench.debt("a", SLOT) == 0


def test_a_group_that_paid_off_is_back_in_turn_though_its_peer_goes_on() -> None:
    bench = borrow_bench({SLOT: 4, X: 8})
    bench.enqueue("hog", 1, needs={X: 8})
    bench.dispatch()
    bench.enqueue("peer", 200, needs={SLOT: 1, X: 1})
    bench.enqueue("a", 200)
    bench.dispatch()
    bench.release("hog")
    for _ in range(20):
        bench.release(bench.leases[0].item.payload.column)
        bench.dispatch()
    held = bench.held()
    assert (held["a"], held["peer"]) == (2, 2)
    assert bench.debt("a", SLOT) == 0


def test_the_share_counts_groups_that_only_hold_leases() -> None:
    bench = borrow_bench({SLOT: 8, X: 1})
    bench.enqueue("running", 2)
    bench.dispatch()
    bench.enqueue("a", 20)
    assert bench.dispatch() == ["a"] * 6
    assert bench.debt("a", SLOT) == 6 - 4


def test_a_share_grows_when_the_last_lease_of_a_competitor_ends() -> None:
    bench = borrow_bench({SLOT: 8})
    bench.enqueue("gone", 2)
    bench.dispatch()
    for name in ("a", "b"):
        bench.enqueue(name, 40)
    bench.dispatch()
    assert bench.held() == Counter(a=3, b=3, gone=2)
    bench.release("gone")
    bench.release("gone")
    bench.dispatch()
    assert bench.held() == Counter(a=4, b=4)
    assert bench.debt("a", SLOT) == bench.debt("b", SLOT) == 0


@pytest.mark.parametrize(("rounding", "owed"), [("ceil", 1), ("floor", 2)])
def test_rounding_of_the_share_is_configurable(rounding: str, owed: int) -> None:
    bench = borrow_bench({SLOT: 7, X: 1}, strict_share_rounding=rounding)
    blocked_peer(bench)
    bench.enqueue("a", 5)
    assert bench.dispatch() == ["a"] * 5
    assert bench.debt("a", SLOT) == owed


def test_shares_go_by_weight() -> None:
    bench = borrow_bench({SLOT: 8})
    bench.enqueue("light", 20)
    bench.dispatch()
    bench.enqueue("heavy", 20, weight=3.0)
    for _ in range(12):
        bench.release("light" if bench.held()["light"] > 2 else "heavy")
        bench.dispatch()
    assert bench.held() == Counter(heavy=6, light=2)


def test_a_ceiling_keeps_units_free_for_groups_to_come() -> None:
    bench = borrow_bench({SLOT: 8, X: 1}, default_borrow_ceiling=1)
    blocked_peer(bench)
    bench.enqueue("a", 20)
    assert bench.dispatch() == ["a"] * 5
    verdict = bench.admission.is_eligible(task("a", 900), bench.queue.view())
    assert (verdict.reason, verdict.diagnostics) == ("borrow_debt", {"debt": 1, "ceiling": 1})
    bench.release("a")
    assert bench.dispatch() == ["a"]


def test_a_ceiling_may_be_set_for_one_group_and_resource() -> None:
    bench = borrow_bench({SLOT: 8, X: 1}, borrow_ceilings={(key("a"), SLOT): 2})
    blocked_peer(bench)
    bench.enqueue("a", 20)
    assert bench.dispatch() == ["a"] * 6


def test_a_group_that_holds_nothing_is_never_denied() -> None:
    bench = borrow_bench({SLOT: 8, X: 4}, default_borrow_ceiling=0)
    bench.enqueue("other", 20, needs={SLOT: 1})
    bench.enqueue("large", 2, needs={SLOT: 1, X: 4})
    assert "large" in bench.dispatch()
    assert bench.debt("large", X) == 0


def test_debt_and_cap_do_not_deny_each_other() -> None:
    """One owes, the other is at its share, one slot is free: it is used."""
    bench = borrow_bench({SLOT: 8, X: 8})
    bench.enqueue("hog", 1, needs={X: 8})
    bench.dispatch()
    bench.enqueue("b", 30, needs={SLOT: 1, X: 1})
    bench.enqueue("a", 30)
    bench.dispatch()
    bench.release("hog")
    for _ in range(4):
        bench.release("a")
        bench.dispatch()
    for name in ("a", "b", "a", "b", "b"):
        bench.release(name)
        bench.dispatch()
        assert bench.admission.view().available[SLOT] == 0


@pytest.mark.parametrize(
    "config",
    [
        {"default_borrow_ceiling": -1},
        {"borrow_ceilings": {(key("a"), SLOT): -1}},
        {"strict_share_rounding": "up"},
    ],
)
def test_a_bad_config_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        BoundedBorrowTaskAdmissionPolicyConfig(**config)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_debt_stays_between_nothing_and_what_is_held_and_no_slot_idles(seed: int) -> None:
    source = random.Random(seed)
    bench = borrow_bench(
        {SLOT: source.randint(1, 8), X: source.randint(1, 4), Y: source.randint(1, 4)},
        strict_share_rounding=source.choice(["ceil", "floor"]),
        repay_when_withheld=source.random() < 0.7,
    )
    limits = dict(bench.admission.limits)
    needs: list[dict[SchedulerResourceKey, int]] = [
        {SLOT: 1},
        {SLOT: 1, X: 1},
        {SLOT: 1, Y: source.randint(1, limits[Y])},
        {SLOT: source.randint(1, limits[SLOT]), X: 1, Y: 1},
    ]
    groups = [(f"g{n}", float(source.randint(1, 5)), source.choice(needs)) for n in range(6)]
    for _ in range(80):
        if source.random() < 0.5:
            name, weight, wanted = source.choice(groups)
            bench.enqueue(name, source.randint(1, 6), weight=weight, needs=wanted)
        elif bench.leases:
            bench.release(source.choice(bench.leases).item.payload.column)
        bench.dispatch()
        view = bench.admission.view()
        for group, debts in view.debt_by_group.items():
            for resource, debt in debts.items():
                assert 0 < debt <= view.leased_by_group[group][resource]
        for head in bench.queue.view().first_candidates():
            assert any(
                view.available[resource] < amount
                for resource, amount in head.resource_request.amounts.items()
            ), "a head fits and was not taken"
        for resource, holders in view.holders.items():
            assert set(holders.weights) == {
                group for group, units in view.leased_by_group.items() if resource in units
            }
            live = bench.admission._ledger.live_view.idle_weight(resource, bench.queue.view())
            assert live == pytest.approx(view.idle_weight(resource, bench.queue.view()))
    while bench.leases or len(bench.queue):
        bench.dispatch()
        bench.release(bench.leases[0].item.payload.column)
    view = bench.admission.view()
    assert not view.debt_by_group
    assert not view.leased_by_group
    assert not view.leases
