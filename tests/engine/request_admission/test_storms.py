"""What request admission gets out of a provider that refuses, under virtual time."""

from __future__ import annotations

import pytest

from engine.request_admission.config import RecoveryPolicy
from tests.engine.request_admission.traffic import (
    CAP,
    Case,
    Latencies,
    answers_per_step,
    jain_index,
    measure,
    serves_at_most,
    shares,
)


@pytest.mark.parametrize("round_trip", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("retry_after", [None, 10.0])
@pytest.mark.parametrize(
    ("capacity", "latencies", "seed"),
    [(1, "constant", 1), (4, "heavy", 2), (10, "lognormal", 3), (20, "heavy", 4), (31, "heavy", 5)],
)
def test_a_provider_gives_nine_tenths_of_what_it_can_and_refuses_one_call_in_fifty_at_most(
    capacity: int, latencies: Latencies, seed: int, retry_after: float | None, round_trip: float
) -> None:
    measured = measure(Case(capacity, round_trip, retry_after, latencies, seed))
    assert measured.goodput >= 0.9
    assert measured.refused <= 0.02
    assert measured.cooling <= 0.35


@pytest.mark.parametrize("capacity", [4, 31])
def test_the_same_holds_after_a_storm(capacity: int) -> None:
    measured = measure(Case(capacity, storm=40.0))
    assert measured.goodput >= 0.9
    assert measured.refused <= 0.02


@pytest.mark.parametrize("capacity", [4, 20])
def test_adaptive_recovery_gets_more_than_the_published_one_with_fewer_refusals(
    capacity: int,
) -> None:
    adaptive = measure(Case(capacity))
    published = measure(Case(capacity, recovery="published"))
    assert adaptive.overall > 1.1 * published.overall
    assert adaptive.refused < published.refused


def test_a_storm_is_over_soon_after_it_has_passed() -> None:
    """32 calls at once before and after, none from second 20 to 60."""

    def steps_to_recover(recovery: RecoveryPolicy) -> int:
        answered = answers_per_step(
            lambda now, serving: not 20.0 <= now < 60.0, recovery, seconds=240, step=10
        )
        return next(
            step - 6 for step in range(6, len(answered)) if answered[step] >= 0.9 * 10 * CAP
        )

    assert steps_to_recover("adaptive") <= 2
    assert steps_to_recover("published") > 5


def test_the_limit_follows_a_provider_that_comes_to_carry_more() -> None:
    answered = answers_per_step(
        lambda now, serving: serving < (10 if now < 200.0 else 30), "adaptive", 400, 20
    )
    assert min(answered[2:10]) >= 0.85 * 10 * 20
    assert min(answered[12:]) >= 0.85 * 30 * 20


@pytest.mark.parametrize(
    ("weights", "capacity", "domains"),
    [
        ((1.0, 1.0), CAP, False),
        ((1.0, 1.0), 10, False),
        ((1.0, 3.0), 20, False),
        ((1.0, 1.0), CAP, True),
        ((1.0, 3.0), CAP, True),
    ],
)
def test_groups_on_one_cap_get_their_shares(
    weights: tuple[float, ...], capacity: int, domains: bool
) -> None:
    """However many more callers one of them has, and also while the provider refuses."""
    assert jain_index(shares(weights, domains, capacity, seed=1)) >= 0.95


def test_a_provider_without_a_storm_is_used_up_to_its_cap() -> None:
    answered = answers_per_step(serves_at_most(CAP), "adaptive", 100, 20)
    assert min(answered[1:]) >= 0.95 * CAP * 20
