"""Plateaus: a limit is lowered where as many answers come as before, and nowhere else."""

from __future__ import annotations

import random

import pytest

from engine.request_admission.plateau import FIRST_ROUNDS, MIN_LIMIT, Plateau

BOUND = 64


class Provider:
    """Callers without a pause, with a bound of their own, and a plateau that watches them."""

    def __init__(self, bound: int = BOUND) -> None:
        self.plateau = Plateau(0.0)
        self._bound = bound
        self.limits = [bound]
        self._now = 0.0
        self._source = random.Random(0)

    def answer(self, knee: float, answers: int, seconds: float = 1.0) -> None:
        """So many answers of a provider that serves `knee` at once and puts others in line."""
        for _ in range(answers):
            limit = self.limits[-1]
            self._now += seconds / min(knee, limit)
            latency = seconds * max(1.0, limit / knee) * self._source.uniform(0.9, 1.1)
            if self.plateau.on_answered(self._now, latency, limit, limit):
                self.limits.append(min(self._bound, self.plateau.bound or self._bound))


@pytest.mark.parametrize("knee", [10, 16, 30, 40])
def test_the_limit_settles_a_little_above_the_knee(knee: int) -> None:
    provider = Provider()
    provider.answer(knee, FIRST_ROUNDS * BOUND + 3000)
    assert knee <= provider.limits[-1] <= 1.5 * knee
    assert min(provider.limits) >= 0.5 * knee


@pytest.mark.parametrize("knee", [9, 12, 16])
def test_a_line_that_the_first_calls_stand_in_is_soon_seen(knee: int) -> None:
    provider = Provider(32)
    for number in range(32):
        provider.plateau.note_first(number, 32, 1.0 + number // knee)
    provider.answer(knee, 1500)
    assert knee <= provider.limits[-1] <= 1.5 * knee


def test_first_calls_that_all_take_as_long_show_no_line() -> None:
    provider = Provider(32)
    source = random.Random(0)
    for number in range(32):
        provider.plateau.note_first(number, 32, source.uniform(0.7, 1.3))
    provider.answer(1000, 5000)
    assert provider.limits == [32]


def test_a_provider_that_serves_them_all_is_left_alone() -> None:
    provider = Provider()
    provider.answer(1000, 3 * FIRST_ROUNDS * BOUND)
    assert provider.limits[0] == provider.limits[-1] == BOUND
    assert len(provider.limits) == 3, "one experiment"


def test_answers_that_become_longer_are_no_queue() -> None:
    provider = Provider()
    provider.answer(1000, 4000)
    provider.answer(1000, 8000, seconds=5.0)
    assert provider.plateau.bound is None
    assert len(provider.limits) <= 5, "two experiments"


def test_a_capacity_that_grows_is_found() -> None:
    provider = Provider()
    provider.answer(16, FIRST_ROUNDS * BOUND + 3000)
    assert provider.limits[-1] < 25
    provider.answer(48, 20_000)
    assert 0.9 * 48 <= provider.limits[-1] <= 1.5 * 48


def test_small_limits_are_not_experimented_with() -> None:
    plateau = Plateau(0.0)
    for number in range(5000):
        assert not plateau.on_answered(number / MIN_LIMIT, 1.0 + number, MIN_LIMIT, MIN_LIMIT)


def test_a_limit_that_is_not_in_use_says_nothing() -> None:
    plateau = Plateau(0.0)
    for number in range(5000):
        assert not plateau.on_answered(float(number), 1.0 + number, BOUND, BOUND // 2)


def test_a_doubling_that_only_makes_calls_slower_ends_the_slow_start() -> None:
    plateau = Plateau(0.0)
    for limit, seconds, now in ((16, 1.0, 1.0), (32, 1.1, 2.1)):
        for _ in range(limit):
            plateau.note_start(seconds)
        assert plateau.allows_doubling(now, limit)
    for _ in range(64):
        plateau.note_start(2.2)
    assert not plateau.allows_doubling(4.3, 64)
    assert plateau.bound is not None
    assert plateau.bound < 64
