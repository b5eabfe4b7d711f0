from __future__ import annotations

import itertools
import math
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.request_admission.config import RequestAdmissionConfig, RequestAdmissionTuningConfig
from engine.request_admission.limits import AdaptiveRequestLimitState, LimitTransition

Recovery = Literal["published", "adaptive"]


def limits_of(effective_max: int = 32, **settings: object) -> AdaptiveRequestLimitState:
    config = RequestAdmissionConfig(**settings)  # type: ignore[arg-type]
    return AdaptiveRequestLimitState(config, effective_max, 0.0)


def cut(limits: AdaptiveRequestLimitState, now: float, retry_after: float | None = None) -> None:
    """One call, alone in flight, is refused: that tells nothing of what the provider carries."""
    cascade = limits.note_admitted()
    limits.note_ended(cascade)
    limits.on_rate_limited(now, cascade, retry_after)


def overload(limits: AdaptiveRequestLimitState, now: float, capacity: int) -> int:
    """As many calls as the limit allows go out at once, and the provider refuses what is beyond
    its capacity. Returns how many it refused."""
    calls = [limits.note_admitted() for _ in range(limits.limit)]
    for cascade in calls[capacity:]:
        limits.note_ended(cascade)
        limits.on_rate_limited(now, cascade, None)
    for cascade in calls[:capacity]:
        limits.note_ended(cascade)
        limits.on_success(now, cascade, binding=True)
    return max(0, len(calls) - capacity)


def after_cooldown(limits: AdaptiveRequestLimitState) -> float:
    """The instant at which the cooldown ends, with what happens then done."""
    assert limits.blocked_until is not None
    limits.advance(limits.blocked_until)
    return limits.blocked_until


def succeed(
    limits: AdaptiveRequestLimitState, now: float, binding: bool = True
) -> tuple[LimitTransition, ...]:
    return limits.on_success(now, limits.cascade, binding)


def successes_to_grow(limits: AdaptiveRequestLimitState, target: int, now: float) -> int:
    count = 0
    while limits.limit < target:
        succeed(limits, now)
        count += 1
        assert count < 10_000
    return count


def fall_to_four(recovery: Recovery) -> tuple[AdaptiveRequestLimitState, float]:
    """A storm: whatever goes out is refused."""
    limits = limits_of(recovery=recovery)
    now = 0.0
    while limits.limit > 4:
        overload(limits, now, 0)
        now = after_cooldown(limits)
    return limits, now


def test_published_recovery_takes_700_successes_from_4_to_32() -> None:
    limits, now = fall_to_four("published")
    assert limits.limit == 4
    assert successes_to_grow(limits, 32, now) == 700


def test_published_recovery_counts_successes_that_the_limit_did_not_hold_back() -> None:
    limits = limits_of(recovery="published", initial_limit=4)
    for _ in range(25):
        succeed(limits, 0.0, binding=False)
    assert limits.limit == 5


def test_adaptive_is_back_from_a_storm_after_three_rounds_of_calls() -> None:
    limits, now = fall_to_four("adaptive")
    assert limits.limit == 4
    assert successes_to_grow(limits, 32, now) == 4 + 8 + 16


def test_adaptive_does_not_grow_while_the_limit_holds_nothing_back() -> None:
    limits = limits_of(initial_limit=4)
    for _ in range(1000):
        assert succeed(limits, 0.0, binding=False) == ()
    assert limits.limit == 4


def test_adaptive_does_not_grow_by_calls_from_before_the_cut() -> None:
    limits = limits_of()
    cut(limits, 0.0)
    now = after_cooldown(limits)
    for _ in range(1000):
        assert limits.on_success(now, limits.cascade - 1, binding=True) == ()
    assert limits.limit == 24


@pytest.mark.parametrize("capacity", [1, 4, 10, 20])
def test_adaptive_goes_on_with_what_the_provider_carried(capacity: int) -> None:
    limits = limits_of()
    assert overload(limits, 0.0, capacity) == 32 - capacity
    assert (limits.limit, limits.soft_ceiling) == (24, 32)
    assert limits.advance(0.4) == ()
    assert limits.advance(0.5) == (
        LimitTransition("request_limit_decreased", "carried", 24, capacity),
    )
    assert overload(limits, 2.0, capacity) == 0
    assert (limits.limit, limits.soft_ceiling) == (capacity, 32)


def test_what_was_carried_above_the_cut_is_reached_after_one_round() -> None:
    limits = limits_of()
    overload(limits, 0.0, 31)
    now = after_cooldown(limits)
    assert limits.limit == 24
    assert successes_to_grow(limits, 25, now) == 24
    assert limits.limit == 31


def test_published_goes_on_with_the_cut_limit() -> None:
    limits = limits_of(recovery="published")
    overload(limits, 0.0, 4)
    assert limits.advance(2.0) == ()
    assert limits.limit == 24


def test_calls_from_before_the_last_cut_do_not_show_that_the_provider_carries_any() -> None:
    limits = limits_of()
    old = [limits.note_admitted() for _ in range(31)]
    cut(limits, 0.0)
    after_cooldown(limits)
    assert limits.limit == 24
    # The 31 of before are still in flight; whatever goes out now is refused.
    cut(limits, 3.0)
    now = after_cooldown(limits)
    for cascade in old:
        limits.note_ended(cascade)
        limits.on_success(now, cascade, binding=True)
    assert limits.limit == 18
    assert successes_to_grow(limits, 31, now) == 18


def test_adaptive_probes_faster_while_no_rate_limit_answers() -> None:
    limits = limits_of(effective_max=1000)
    overload(limits, 0.0, 8)
    now = after_cooldown(limits) + 60.0
    assert successes_to_grow(limits, 9, now) == 25, "four rounds, or what is configured"
    levels = []
    while limits.limit < 1000:
        levels.append(limits.limit)
        assert successes_to_grow(limits, limits.limit + 1, now) == levels[-1]
    assert levels == [9, 11, 15, 22, 33, 49, 73, 109, 163, 244, 366, 549, 823]


def test_a_probe_that_fails_waits_longer_each_time() -> None:
    limits = limits_of()
    overload(limits, 0.0, 4)
    waits = []
    for _ in range(8):
        now = after_cooldown(limits) + 60.0
        successes_to_grow(limits, 4, now)
        waits.append(successes_to_grow(limits, 5, now))
        assert overload(limits, now, 4) == 1
    assert waits == [16, 50, 75, 75, 75, 75, 75, 75]


def test_a_probe_that_fails_without_a_delay_stops_nobody_else() -> None:
    limits = limits_of()
    overload(limits, 0.0, 4)
    now = after_cooldown(limits) + 60.0
    successes_to_grow(limits, 5, now)
    calls = [limits.note_admitted() for _ in range(5)]
    limits.note_ended(calls[0])
    effect = limits.on_rate_limited(now, calls[0], None)
    assert effect.cut is not None
    assert (effect.cut.previous, limits.limit, limits.cooling(now)) == (5, 4, False)
    # More refusals than the probe went too far: the resource serves less than before.
    limits.note_ended(calls[1])
    limits.on_rate_limited(now, calls[1], None)
    assert limits.cooling(now)


def test_what_was_sustained_for_long_is_gone_back_to_in_a_few_rounds() -> None:
    """A window in which half of the calls are refused says little of how many are served."""
    limits = limits_of()
    for _ in range(32 * 10):
        succeed(limits, 1.0)
    for began in (2.0, 5.0):
        assert overload(limits, began, limits.limit // 2) > 1
        after_cooldown(limits)
        assert limits.limit < 20
    now = after_cooldown(limits)
    assert successes_to_grow(limits, 32, now) <= 5 * 32


def test_what_was_served_below_the_limit_is_sustained_too() -> None:
    """A few rounds of 20 calls at once, that no limit held back, before a window with refusals."""
    limits = limits_of()
    calls = [limits.note_admitted() for _ in range(20)]
    for _ in range(60):
        limits.note_ended(calls.pop(0))
        succeed(limits, 1.0, binding=False)
        calls.append(limits.note_admitted())
    for cascade in calls:
        limits.note_ended(cascade)
    for began in (2.0, 5.0):
        overload(limits, began, 2)
        after_cooldown(limits)
    assert limits.limit <= 3
    assert successes_to_grow(limits, 20, 12.0) <= 3 * 20


def test_ways_back_that_are_refused_are_spaced_ever_further() -> None:
    limits = limits_of()
    for _ in range(32 * 10):
        succeed(limits, 1.0)
    overload(limits, 2.0, 2)
    now = after_cooldown(limits)
    tries = []
    while now < 200.0:
        for _ in range(4):
            if limits.limit > 2:
                tries.append(now)
                overload(limits, now, 2)
                now = max(now, limits.blocked_until or now)
                limits.advance(now)
            succeed(limits, now)
        now += 1.0
    between = [later - at for at, later in itertools.pairwise(tries)]
    assert 4 <= len(tries) <= 20
    assert tries[0] < 10.0
    assert between[-1] > 3 * between[0]


def test_a_failed_probe_at_the_bound_counts_like_any_other() -> None:
    limits = limits_of()
    now = 0.0
    waits = []
    for _ in range(7):
        assert overload(limits, now, 31) == 1
        now = after_cooldown(limits) + 60.0
        successes_to_grow(limits, 31, now)
        waits.append(successes_to_grow(limits, 32, now))
    assert waits[:4] == [31, 62, 124, 248]
    assert all(496 <= wait < 600 for wait in waits[4:])


@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [(None, [2.0]), (12.0, [48.0, 96.0, 192.0, 384.0, 384.0])],
)
def test_no_probe_soon_after_a_cooldown(retry_after: float | None, waits: list[float]) -> None:
    limits = limits_of()
    now = 0.0
    for wait in waits:
        calls = [limits.note_admitted() for _ in range(32)]
        limits.note_ended(calls[0])
        limits.on_rate_limited(now, calls[0], retry_after)
        now = after_cooldown(limits)
        for cascade in calls[1:]:
            limits.note_ended(cascade)
        successes_to_grow(limits, 31, now)
        for _ in range(2000):
            succeed(limits, now + wait - 0.1)
        assert limits.limit == 31
        now += wait
        succeed(limits, now)
        assert limits.limit == 32


def test_capacity_that_refuses_a_whole_burst_is_found_by_what_went_well_before() -> None:
    limits, now = fall_to_four("adaptive")
    assert overload(limits, now, 32) == 0
    assert limits.limit == 8
    assert overload(limits, now, 0) == 8
    now = after_cooldown(limits)
    assert limits.limit == 4


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
def test_a_useless_retry_after_gives_a_cooldown_of_our_own(retry_after: float | None) -> None:
    published = limits_of(cooldown_seconds=2.5, recovery="published")
    cut(published, 1.0, retry_after)
    assert published.blocked_until == 3.5
    adaptive = limits_of(cooldown_seconds=2.5)
    adaptive.note_answered(0.9, 0.25, 1, 0)
    waits = []
    now = 1.0
    for _ in range(6):
        cut(adaptive, now, retry_after)
        assert adaptive.blocked_until is not None
        waits.append(adaptive.blocked_until - now)
        now = after_cooldown(adaptive)
    assert waits == [0.25, 0.5, 1.0, 2.0, 2.5, 2.5]
    adaptive.on_success(now, adaptive.cascade, binding=True)
    cut(adaptive, now, retry_after)
    assert adaptive.blocked_until == now + 0.25


def test_the_limit_stays_at_one_and_says_when_the_cooldown_is_over() -> None:
    limits = limits_of(effective_max=1)
    cascade = limits.note_admitted()
    limits.note_ended(cascade)
    effect = limits.on_rate_limited(0.0, cascade, 4.0)
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
        succeed(limits, 9.9)
    assert limits.limit == 24
    for _ in range(25):
        succeed(limits, 10.0)
    assert limits.limit == 25


def test_recovery_is_told_at_its_transition() -> None:
    limits = limits_of(effective_max=3, recovery="published", successes_until_increase=1)
    cut(limits, 0.0)
    cut(limits, 3.0)
    assert (limits.limit, limits.soft_ceiling) == (1, 2)
    kinds = [change.kind for _ in range(4) for change in succeed(limits, 9.0)]
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


def test_tuning_replaces_what_it_gives_and_nothing_else() -> None:
    tuning = RequestAdmissionTuningConfig(cooldown_seconds=0.0, recovery="published")
    assert tuning.given == {"cooldown_seconds": 0.0, "recovery": "published"}
    tuned = RequestAdmissionConfig(initial_limit=3).tuned(tuning)
    assert tuned == RequestAdmissionConfig(
        initial_limit=3, cooldown_seconds=0.0, recovery="published"
    )
    with pytest.raises(ValueError, match="increase_step"):
        tuned.tuned(RequestAdmissionTuningConfig(increase_step=0))


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
            st.sampled_from(["admit", "admit", "success", "idle", "rate", "time", "cap"]),
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
    in_flight: list[int] = []
    for move, amount, bound in moves:
        blocked_until = limits.blocked_until or 0.0
        changes: tuple[LimitTransition, ...] = ()
        match move:
            case "admit":
                in_flight.append(limits.note_admitted())
            case "success" | "idle" | "rate" if in_flight:
                cascade = in_flight.pop(bound % len(in_flight))
                limits.note_ended(cascade)
                if move == "rate":
                    before = limits.cascade
                    effect = limits.on_rate_limited(now, cascade, amount)
                    changes = (effect.cut,) if effect.cut is not None else ()
                    assert not changes or cascade == before
                else:
                    changes = limits.on_success(now, cascade, binding=move == "success")
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
