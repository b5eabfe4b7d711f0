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


def blocked_peer(one: Bench) -> None:
    """A group that competes for slots and can't use them: what else it needs is taken."""
    one.enqueue("hog", 1, needs={X: 1})
    one.dispatch()
    one.enqueue("peer", 20, needs={SLOT: 1, X: 1})


def test_a_group_alone_uses_everything_and_owes_nothing() -> None:
    one = borrow_bench({SLOT: 8})
    one.enqueue("a", 20)
    assert one.dispatch() == ["a"] * 8
    assert one.debt("a", SLOT) == 0


def test_what_a_peer_can_not_use_is_lent_and_owed() -> None:
    one = borrow_bench({SLOT: 8, X: 1})
    blocked_peer(one)
    one.enqueue("a", 20)
    assert one.dispatch() == ["a"] * 8
    assert one.debt("a", SLOT) == 8 - 4


def test_an_indebted_group_gets_nothing_while_a_peer_waits() -> None:
    one = borrow_bench({SLOT: 8, X: 8}, repay_when_withheld=False)
    one.enqueue("hog", 1, needs={X: 8})
    one.dispatch()
    one.enqueue("peer", 20, needs={SLOT: 1, X: 1})
    one.enqueue("a", 40)
    one.dispatch()
    one.release("hog")
    granted = []
    for _ in range(4):
        one.release("a")
        granted += one.dispatch()
    assert granted == ["peer"] * 4
    assert one.debt("a", SLOT) == 0
    denied = one.admission.try_acquire(task("a", 900), one.queue.view())
    assert isinstance(denied, TaskAdmissionDenied)


def test_the_denial_says_what_is_owed() -> None:
    one = borrow_bench({SLOT: 8, X: 1})
    blocked_peer(one)
    one.enqueue("a", 20)
    one.dispatch()
    one.release("hog")
    one.release("a")
    denied = one.admission.try_acquire(task("a", 900), one.queue.view())
    assert isinstance(denied, TaskAdmissionDenied)
    assert (denied.reason, denied.diagnostics["debt"]) == ("borrow_debt", 3)


def test_any_lease_that_ends_pays_back_and_debt_never_exceeds_what_is_held() -> None:
    one = borrow_bench({SLOT: 8, X: 1})
    blocked_peer(one)
    one.enqueue("a", 8)
    one.dispatch()
    for left in (3, 2, 1, 0, 0):
        one.release("a")
        assert one.debt("a", SLOT) == left


def test_units_that_a_peer_takes_instead_pay_back_too() -> None:
    one = borrow_bench({SLOT: 8, X: 8})
    one.enqueue("hog", 1, needs={X: 8})
    one.dispatch()
    one.enqueue("peer", 20, needs={SLOT: 1, X: 1})
    one.enqueue("a", 40)
    one.dispatch()
    assert one.debt("a", SLOT) == 4
    one.release("hog")
    one.release("a")
    assert one.debt("a", SLOT) == 3
    assert one.dispatch() == ["peer"]
    assert one.debt("a", SLOT) == 2
    one.release("a")
    assert one.dispatch() == ["peer"]
    assert one.debt("a", SLOT) == 0


def test_a_group_that_paid_off_is_back_in_turn_though_its_peer_goes_on() -> None:
    one = borrow_bench({SLOT: 4, X: 8})
    one.enqueue("hog", 1, needs={X: 8})
    one.dispatch()
    one.enqueue("peer", 200, needs={SLOT: 1, X: 1})
    one.enqueue("a", 200)
    one.dispatch()
    one.release("hog")
    for _ in range(20):
        one.release(one.leases[0].item.payload.column)
        one.dispatch()
    held = one.held()
    assert (held["a"], held["peer"]) == (2, 2)
    assert one.debt("a", SLOT) == 0


def test_the_share_counts_groups_that_only_hold_leases() -> None:
    one = borrow_bench({SLOT: 8, X: 1})
    one.enqueue("running", 2)
    one.dispatch()
    one.enqueue("a", 20)
    assert one.dispatch() == ["a"] * 6
    assert one.debt("a", SLOT) == 6 - 4


def test_a_share_grows_when_the_last_lease_of_a_competitor_ends() -> None:
    one = borrow_bench({SLOT: 8})
    one.enqueue("gone", 2)
    one.dispatch()
    for name in ("a", "b"):
        one.enqueue(name, 40)
    one.dispatch()
    assert one.held() == Counter(a=3, b=3, gone=2)
    one.release("gone")
    one.release("gone")
    one.dispatch()
    assert one.held() == Counter(a=4, b=4)
    assert one.debt("a", SLOT) == one.debt("b", SLOT) == 0


@pytest.mark.parametrize(("rounding", "owed"), [("ceil", 1), ("floor", 2)])
def test_rounding_of_the_share_is_configurable(rounding: str, owed: int) -> None:
    one = borrow_bench({SLOT: 7, X: 1}, strict_share_rounding=rounding)
    blocked_peer(one)
    one.enqueue("a", 5)
    assert one.dispatch() == ["a"] * 5
    assert one.debt("a", SLOT) == owed


def test_shares_go_by_weight() -> None:
    one = borrow_bench({SLOT: 8})
    one.enqueue("light", 20)
    one.dispatch()
    one.enqueue("heavy", 20, weight=3.0)
    for _ in range(12):
        one.release("light" if one.held()["light"] > 2 else "heavy")
        one.dispatch()
    assert one.held() == Counter(heavy=6, light=2)


def test_a_ceiling_keeps_units_free_for_groups_to_come() -> None:
    one = borrow_bench({SLOT: 8, X: 1}, default_borrow_ceiling=1)
    blocked_peer(one)
    one.enqueue("a", 20)
    assert one.dispatch() == ["a"] * 5
    verdict = one.admission.is_eligible(task("a", 900), one.queue.view())
    assert (verdict.reason, verdict.diagnostics) == ("borrow_debt", {"debt": 1, "ceiling": 1})
    one.release("a")
    assert one.dispatch() == ["a"]


def test_a_ceiling_may_be_set_for_one_group_and_resource() -> None:
    one = borrow_bench({SLOT: 8, X: 1}, borrow_ceilings={(key("a"), SLOT): 2})
    blocked_peer(one)
    one.enqueue("a", 20)
    assert one.dispatch() == ["a"] * 6


def test_a_group_that_holds_nothing_is_never_denied() -> None:
    one = borrow_bench({SLOT: 8, X: 4}, default_borrow_ceiling=0)
    one.enqueue("other", 20, needs={SLOT: 1})
    one.enqueue("large", 2, needs={SLOT: 1, X: 4})
    assert "large" in one.dispatch()
    assert one.debt("large", X) == 0


def test_debt_and_cap_do_not_deny_each_other() -> None:
    """One owes, the other is at its share, one slot is free: it is used."""
    one = borrow_bench({SLOT: 8, X: 8})
    one.enqueue("hog", 1, needs={X: 8})
    one.dispatch()
    one.enqueue("b", 30, needs={SLOT: 1, X: 1})
    one.enqueue("a", 30)
    one.dispatch()
    one.release("hog")
    for _ in range(4):
        one.release("a")
        one.dispatch()
    for name in ("a", "b", "a", "b", "b"):
        one.release(name)
        one.dispatch()
        assert one.admission.view().available[SLOT] == 0


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
    one = borrow_bench(
        {SLOT: source.randint(1, 8), X: source.randint(1, 4), Y: source.randint(1, 4)},
        strict_share_rounding=source.choice(["ceil", "floor"]),
        repay_when_withheld=source.random() < 0.7,
    )
    limits = dict(one.admission.limits)
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
            one.enqueue(name, source.randint(1, 6), weight=weight, needs=wanted)
        elif one.leases:
            one.release(source.choice(one.leases).item.payload.column)
        one.dispatch()
        view = one.admission.view()
        for group, debts in view.debt_by_group.items():
            for resource, debt in debts.items():
                assert 0 < debt <= view.leased_by_group[group][resource]
        for head in one.queue.view().first_candidates():
            assert any(
                view.available[resource] < amount
                for resource, amount in head.resource_request.amounts.items()
            ), "a head fits and was not taken"
        for resource, holders in view.holders.items():
            assert set(holders.weights) == {
                group for group, units in view.leased_by_group.items() if resource in units
            }
            live = one.admission._ledger.live_view.idle_weight(resource, one.queue.view())
            assert live == pytest.approx(view.idle_weight(resource, one.queue.view()))
    while one.leases or len(one.queue):
        one.dispatch()
        one.release(one.leases[0].item.payload.column)
    view = one.admission.view()
    assert not view.debt_by_group
    assert not view.leased_by_group
    assert not view.leases
