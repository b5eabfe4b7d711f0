from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.limits import AdaptiveRequestLimitState, LimitTransition

Recovery = Literal["published", "adaptive"]


def limits_of(effective_max: int = 32, **settings: object) -> AdaptiveRequestLimitState:
    config = RequestAdmissionConfig(**settings)  # type: ignore[arg-type]
    return AdaptiveRequestLimitState(config, effective_max, 0.0)


def cut(limits: AdaptiveRequestLimitState, now: float, retry_after: float | None = None) -> None:
    limits.on_rate_limited(now, limits.cascade, retry_after)


def successes_to_grow(limits: AdaptiveRequestLimitState, target: int, now: float) -> int:
    count = 0
    while limits.limit < target:
        limits.on_success(now, binding=True)
        count += 1
        assert count < 10_000
    return count


def fall_to_four(recovery: Recovery) -> tuple[AdaptiveRequestLimitState, float]:
    limits = limits_of(recovery=recovery)
    now = 0.0
    while limits.limit > 4:
        cut(limits, now)
        now += 3.0
    return limits, now


def test_published_recovery_takes_700_successes_from_4_to_32() -> None:
    limits, now = fall_to_four("published")
    assert limits.limit == 4
    assert successes_to_grow(limits, 32, now) == 700


def test_published_recovery_counts_successes_that_the_limit_did_not_hold_back() -> None:
    limits = limits_of(recovery="published", initial_limit=4)
    for _ in range(25):
        limits.on_success(0.0, binding=False)
    assert limits.limit == 5


def test_adaptive_recovers_from_a_storm_in_under_a_third_of_the_successes() -> None:
    limits, now = fall_to_four("adaptive")
    assert successes_to_grow(limits, 32, now) < 700 / 3


def test_adaptive_does_not_grow_while_the_limit_holds_nothing_back() -> None:
    limits = limits_of(initial_limit=4)
    for _ in range(1000):
        assert limits.on_success(0.0, binding=False) == ()
    assert limits.limit == 4


def test_adaptive_approaches_the_soft_ceiling_by_halves_and_stops_below_it() -> None:
    limits = limits_of()
    cut(limits, 0.0)
    assert (limits.limit, limits.soft_ceiling) == (24, 32)
    levels = [24]
    while limits.limit < 31:
        limits.on_success(10.0, binding=True)
        if limits.limit != levels[-1]:
            levels.append(limits.limit)
    assert levels == [24, 28, 30, 31]


def test_adaptive_probes_faster_while_no_rate_limit_answers() -> None:
    limits = limits_of(effective_max=1000)
    for now in (0.0, 3.0, 6.0, 9.0, 12.0):
        cut(limits, now)
    start = limits.limit
    ceiling = limits.soft_ceiling
    assert ceiling is not None
    successes_to_grow(limits, ceiling - 1, 20.0)
    steps = []
    while limits.limit < 1000:
        before = limits.limit
        successes = successes_to_grow(limits, before + 1, 20.0)
        assert successes == before
        steps.append(limits.limit - before)
    assert start < ceiling
    assert steps[:5] == [1, 2, 4, 8, 16]
    assert limits.limit == 1000


def test_a_probe_never_overshoots_by_more_than_one_cut_takes_back() -> None:
    limits = limits_of(effective_max=5000, initial_limit=3)
    while limits.limit < 5000:
        before = limits.limit
        limits.on_success(0.0, binding=True)
        if limits.limit > before + 1:
            assert math.floor(limits.limit * 0.75) <= before


def test_a_first_probe_that_fails_again_waits_twice_as_long_up_to_32_times() -> None:
    limits = limits_of(initial_limit=21)
    cut(limits, 0.0)
    now = 0.0
    waits = []
    for _ in range(7):
        now += 100.0
        successes_to_grow(limits, 20, now)
        waits.append(successes_to_grow(limits, 21, now))
        cut(limits, now)
    assert waits == [25, 50, 100, 200, 400, 800, 800]


def test_one_cut_per_cascade() -> None:
    limits = limits_of()
    older = limits.cascade
    first = limits.on_rate_limited(0.0, older, None)
    assert first.cut == LimitTransition("request_limit_decreased", "rate_limited", 32, 24)
    for moment in range(31):
        assert limits.on_rate_limited(0.01 * moment, older, None).cut is None
    assert limits.limit == 24
    assert limits.on_rate_limited(5.0, limits.cascade, None).cut is not None
    assert limits.limit == 18


def test_a_later_shorter_retry_after_never_shortens_a_cooldown() -> None:
    limits = limits_of()
    cut(limits, 0.0, retry_after=30.0)
    cut(limits, 1.0, retry_after=0.5)
    cut(limits, 2.0)
    assert limits.blocked_until == 30.0
    cut(limits, 5.0, retry_after=60.0)
    assert limits.blocked_until == 65.0


@pytest.mark.parametrize("retry_after", [None, 0.0, -3.0, math.inf, math.nan])
def test_a_useless_retry_after_gives_the_configured_cooldown(retry_after: float | None) -> None:
    limits = limits_of(cooldown_seconds=2.5)
    cut(limits, 1.0, retry_after)
    assert limits.blocked_until == 3.5


def test_the_limit_stays_at_one_and_says_when_the_cooldown_is_over() -> None:
    limits = limits_of(effective_max=1)
    effect = limits.on_rate_limited(0.0, limits.cascade, 4.0)
    assert effect.cut is None
    assert limits.limit == 1
    assert limits.next_change_at(1.0) == 4.0
    assert limits.advance(3.9) == ()
    assert [change.kind for change in limits.advance(4.0)] == ["request_fully_recovered"]
    assert limits.advance(5.0) == ()


def test_successes_in_a_cooldown_do_not_count() -> None:
    limits = limits_of(recovery="published")
    cut(limits, 0.0, retry_after=10.0)
    for _ in range(100):
        limits.on_success(9.9, binding=True)
    assert limits.limit == 24
    for _ in range(25):
        limits.on_success(10.0, binding=True)
    assert limits.limit == 25


def test_recovery_is_told_at_its_transition() -> None:
    limits = limits_of(effective_max=3, recovery="published", successes_until_increase=1)
    cut(limits, 0.0)
    cut(limits, 3.0)
    assert (limits.limit, limits.soft_ceiling) == (1, 2)
    kinds = [change.kind for _ in range(4) for change in limits.on_success(9.0, binding=True)]
    assert kinds == [
        "request_limit_increased",
        "request_limit_increased",
        "request_soft_ceiling_recovered",
        "request_fully_recovered",
    ]
    assert limits.soft_ceiling is None


def test_the_startup_ramp_is_linear_and_reaches_the_initial_limit() -> None:
    limits = limits_of(startup_ramp_seconds=10.0, initial_limit=11)
    reached = []
    for second in range(13):
        limits.advance(float(second))
        reached.append(limits.limit)
    assert reached == [*range(1, 12), 11, 11]
    assert not limits.ramping


def test_a_rate_limit_ends_the_startup_ramp() -> None:
    limits = limits_of(startup_ramp_seconds=10.0, initial_limit=11)
    limits.advance(5.0)
    cut(limits, 5.0)
    assert limits.limit == 4
    assert not limits.ramping
    assert [change.kind for change in limits.advance(100.0)] == []
    assert limits.limit == 4


def test_a_lower_bound_takes_the_limit_down_with_it() -> None:
    limits = limits_of()
    changes = limits.set_effective_max(8, 0.0)
    assert changes == (LimitTransition("request_limit_decreased", "registration", 32, 8),)
    assert limits.limit == limits.effective_max == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"decrease_factor": 1.0},
        {"decrease_factor": 0.0},
        {"increase_step": 0},
        {"successes_until_increase": 0},
        {"cooldown_seconds": -1.0},
        {"cooldown_seconds": math.inf},
        {"startup_ramp_seconds": math.nan},
        {"initial_limit": 0},
        {"recovery": "hopeful"},
    ],
)
def test_a_configuration_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RequestAdmissionConfig(**wrong)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(
    effective_max=st.integers(1, 300),
    initial=st.none() | st.integers(1, 400),
    ramp=st.sampled_from([0.0, 7.0]),
    step=st.integers(1, 5),
    factor=st.floats(0.05, 0.95),
    recovery=st.sampled_from(["published", "adaptive"]),
    moves=st.lists(
        st.tuples(
            st.sampled_from(["success", "idle", "rate", "late_rate", "time", "cap"]),
            st.floats(0.0, 5.0),
            st.integers(1, 300),
        ),
        max_size=200,
    ),
)
def test_the_limit_stays_between_one_and_its_bound(
    effective_max: int,
    initial: int | None,
    ramp: float,
    step: int,
    factor: float,
    recovery: Recovery,
    moves: list[tuple[str, float, int]],
) -> None:
    limits = limits_of(
        effective_max,
        initial_limit=initial,
        startup_ramp_seconds=ramp,
        increase_step=step,
        decrease_factor=factor,
        recovery=recovery,
        successes_until_increase=2,
    )
    now = 0.0
    known = limits.limit
    for move, amount, bound in moves:
        blocked_until = limits.blocked_until or 0.0
        changes: tuple[LimitTransition, ...] = ()
        match move:
            case "success" | "idle":
                changes = limits.on_success(now, binding=move == "success")
            case "rate" | "late_rate":
                cascade = limits.cascade - (move == "late_rate")
                effect = limits.on_rate_limited(now, cascade, amount)
                changes = (effect.cut,) if effect.cut is not None else ()
                assert move == "rate" or not changes
            case "time":
                now += amount
                changes = limits.advance(now)
            case "cap":
                changes = limits.set_effective_max(min(bound, limits.effective_max), now)
        for change in changes:
            assert change.previous == known or change.cause is None
            known = change.current
        assert known == limits.limit
        assert 1 <= limits.limit <= limits.effective_max
        assert (limits.blocked_until or 0.0) >= blocked_until
