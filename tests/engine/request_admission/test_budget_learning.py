"""Budgets that a provider tells of, and the rate that its refusals show."""

from __future__ import annotations

import pytest

from engine.models.rate_budget import RateBudget
from engine.request_admission.learned_rate import GROWTH_ROUND_TRIPS, LearnedRate
from engine.request_admission.observed_budgets import ObservedBudgets


def observed(
    remaining: int | None, limit: int | None = 600, reset: float | None = None
) -> RateBudget:
    return RateBudget("requests", limit, remaining, reset)


def test_calls_wait_until_the_budget_that_was_told_fills() -> None:
    budgets = ObservedBudgets()
    first = budgets.reserve(10, 0.0)
    budgets.observe([observed(2)], first, 0.0, 0.0)
    for _ in range(2):
        assert budgets.opens_at(0.0) is None
        budgets.reserve(10, 0.0)
    assert budgets.opens_at(0.0) == pytest.approx(0.1)  # 600 a minute
    assert budgets.opens_at(0.1) is None


def test_a_reset_tells_how_fast_a_budget_fills() -> None:
    budgets = ObservedBudgets()
    mine = budgets.reserve(10, 0.0)
    budgets.observe([observed(0, reset=30.0)], mine, 0.0, 0.0)
    assert budgets.opens_at(0.0) == pytest.approx(30.0 / 600)


@pytest.mark.parametrize(
    "full", [observed(600, reset=0.0), observed(595, reset=0.05), observed(600)]
)
def test_a_full_budget_shows_no_rate_and_changes_none(full: RateBudget) -> None:
    budgets = ObservedBudgets()
    mine = budgets.reserve(10, 0.0)
    budgets.observe([observed(300, reset=3.0)], mine, 0.0, 0.0)
    later = budgets.reserve(10, 10.0)
    budgets.observe([full], later, 10.0, 10.0)
    for _ in range(600):
        budgets.reserve(10, 10.0)
    opens = budgets.opens_at(10.0)
    assert opens is not None
    assert opens - 10.0 < 0.1, "a hundred a second, not the ten of a limit per minute"


def test_what_remains_slows_down_and_never_speeds_up() -> None:
    budgets = ObservedBudgets()
    mine = budgets.reserve(10, 0.0)
    budgets.observe([observed(0)], mine, 0.0, 0.0)
    later = budgets.reserve(10, 0.05)
    budgets.observe([observed(500)], later, 0.05, 0.05)
    assert budgets.opens_at(0.05) is not None


def test_calls_that_went_out_after_the_one_that_tells_are_counted() -> None:
    budgets = ObservedBudgets()
    budgets.observe([observed(100)], budgets.reserve(10, 0.0), 0.0, 0.0)
    teller = budgets.reserve(10, 1.0)
    for _ in range(5):
        budgets.reserve(10, 1.0)
    budgets.observe([observed(5)], teller, 1.0, 1.0)
    assert budgets.opens_at(1.0) is not None


@pytest.mark.parametrize("budget", [observed(None), observed(3, limit=None), observed(700)])
def test_nonsense_binds_nothing(budget: RateBudget) -> None:
    budgets = ObservedBudgets()
    budgets.observe([budget], budgets.reserve(1, 0.0), 0.0, 0.0)
    assert budgets.opens_at(0.0) is None


def test_a_budget_of_tokens_keeps_room_for_what_calls_use() -> None:
    budgets = ObservedBudgets()
    for answer in (100, 300, 200, 200) * 20:
        reserved = budgets.reserve(50, 0.0)
        budgets.settle(reserved, (50, answer), 0.0)
    mine = budgets.reserve(50, 0.0)
    budgets.observe([RateBudget("tokens", 6000, 250, None)], mine, 0.0, 0.0)
    opens = budgets.opens_at(0.0)
    assert opens is not None, "250 are fewer than the mean of 250 and two deviations"
    assert 0.5 < opens < 3.0


def bucket(learned: LearnedRate, rate: float, seconds: float, burst: float = 5.0) -> int:
    """Ten callers with calls of a tenth of a second against a bucket; returns the refusals."""
    level, now, refused = burst, 0.0, 0
    while now < seconds:
        opens = learned.opens_at(now)
        step = 0.01 if opens is None else min(0.01, opens - now)
        now += step
        level = min(burst, level + step * rate)
        if opens is not None:
            continue
        learned.note_admitted(now)
        if level >= 1.0:
            level -= 1.0
            learned.note_answered(now, 0.1)
        else:
            refused += 1
            learned.note_refused(now, 0.1, held=True)
            now += 0.1
            level = min(burst, level + 0.1 * rate)
    return refused


def test_refusals_that_agree_on_a_rate_show_it() -> None:
    learned = LearnedRate()
    bucket(learned, 20.0, 6.0)
    assert learned.rate == pytest.approx(20.0, rel=0.1)
    assert bucket(learned, 20.0, 200.0) < 0.02 * 200 * 20


def test_a_rate_that_holds_is_raised() -> None:
    learned = LearnedRate()
    bucket(learned, 20.0, 6.0)
    bucket(learned, 60.0, 100 * GROWTH_ROUND_TRIPS * 0.1)
    assert learned.rate is not None
    assert learned.rate > 45.0


def test_refusals_of_what_was_just_added_show_no_rate() -> None:
    learned = LearnedRate()
    for number in range(400):
        learned.note_admitted(number * 0.1)
        if number % 20 == 0:
            learned.note_refused(number * 0.1, 0.1, held=False)
    assert learned.rate is None
