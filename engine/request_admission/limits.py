"""`AdaptiveRequestLimitState`: the adaptive ceiling of one request resource, and why it moved.

The state is arithmetic over the times that it is given. It has no queue, no timer and no event, so
that a test needs none either.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.plateau import Plateau
from engine.request_admission.policy import recovery_policy

LimitCause = Literal[
    "rate_limited", "carried", "successes", "ramp", "registration", "outage_over", "plateau"
]
"""As events name it. `carried`: the limit became what the provider sustained in a cascade.
`outage_over`: everything was refused for a while, which says nothing of how much is served.
`plateau`: more calls at once brought no more answers, or that is being found out."""


ROUND_TRIP_GAIN = 0.1
FIRST_COOLDOWN_SECONDS = 0.5
"""Length of a cooldown while no call has been answered, and so no round trip is known."""
MAX_COOLDOWN_DOUBLINGS = 10
SHORT_OUTAGE_SECONDS = 60.0
"""After an outage up to this long a provider is taken to serve as many calls as before it."""


class LimitTransition(NamedTuple):
    """One change of the ceiling; `kind` is its event kind."""

    kind: Literal[
        "request_limit_decreased",
        "request_limit_increased",
        "request_soft_ceiling_recovered",
        "request_fully_recovered",
    ]
    cause: LimitCause | None
    previous: int
    current: int
    successes: int = 0


class RateLimitEffect(NamedTuple):
    """Effect of a rate-limited call. Its cooldown always counts, its cut once per cascade."""

    blocked_until: float | None
    cut: LimitTransition | None


class _Cascade:
    """The calls in flight when a rate limit cut the limit, and how many of them were refused.

    Post-cut calls are those that were admitted after the cut before this one.
    """

    def __init__(self, began: float, cohort: int, post_cut: int) -> None:
        self.began = began
        self.cohort = cohort
        self.post_cut = post_cut
        self.refused = self.refused_post_cut = 1
        self.probe_step = 0
        """By how much a probe exceeded what is sustained; 0 if the cascade was no failed probe."""

    def sustained(self) -> int:
        """Number of calls that the provider served at once; 0 if that is not known.

        It is not known if every post-cut call was refused: the older calls show what the provider
        sustained before the last cut, not what it sustains now.
        """
        if self.refused_post_cut >= self.post_cut:
            return 0
        return max(0, self.cohort - self.refused)


class AdaptiveRequestLimitState:
    """Keeps `1 <= limit <= effective_max`. Times are monotonic seconds and never decrease."""

    def __init__(self, config: RequestAdmissionConfig, effective_max: int, now: float) -> None:
        self._config = config
        self.effective_max = effective_max
        self.blocked_until: float | None = None
        """End of the last cooldown; kept after it has passed."""
        self.soft_ceiling: int | None = None
        self.consecutive_rate_limits = 0
        self.cascade = 0
        """Number of cuts so far. A lease keeps the number at its admission: a rate limit of a lease
        that was admitted before the last cut belongs to the same cascade and does not cut again."""
        self._policy = recovery_policy(config)
        self._successes = 0
        """Successes since the limit last changed."""
        self._recovering = False
        self._in_flight = 0
        self._post_cut = 0
        """Calls in flight that were admitted since the last cut."""
        self._last = _Cascade(0.0, 0, 0)
        self._resumed = True
        self.round_trip: float | None = None
        """Moving average of the seconds of an answered call; None before the first."""
        self._refused_rounds = 0
        """Cooldowns in a row in which no answer came."""
        self._before_cuts: int | None = None
        """Limit before the first cut since a call last succeeded outside a cooldown."""
        self._plateau = Plateau(now) if config.recovery == "adaptive" else None
        initial = min(config.initial_limit or effective_max, effective_max)
        if (
            config.recovery == "adaptive"
            and config.initial_limit is None
            and not config.startup_ramp_seconds
        ):
            initial = min(config.slow_start_limit, effective_max)
        self._ramp_target: int | None = None
        self._ramp_started = now
        self._ramp_interval = 0.0
        self.limit = initial
        if config.startup_ramp_seconds > 0 and initial > 1:
            self.limit = 1
            self._ramp_target = initial
            self._ramp_interval = config.startup_ramp_seconds / (initial - 1)
        self.highest = self.limit
        """Highest limit so far."""
        self._initial = self.limit
        self.admitted = 0
        """Calls so far."""
        self._slow_start = self.limit < effective_max and self._ramp_target is None
        self._watches_start = False
        """The slow start has reached the maximum; its last doubling is still to be judged."""

    @property
    def ramping(self) -> bool:
        """The limit still rises from its start and has not met a refusal."""
        return self._ramp_target is not None or self._slow_start

    @property
    def held_by_plateau(self) -> bool:
        """Whether the limit is where more calls would bring no more answers."""
        bound = self.plateau
        return bound is not None and self.limit >= bound

    @property
    def plateau(self) -> int | None:
        """The limit above which more calls brought no more throughput; None for none."""
        return None if self._plateau is None else self._plateau.bound

    @property
    def served_a_round(self) -> bool:
        """Whether as many calls as the limit were answered since it last changed; a limit of one
        can't be what was too much."""
        return self.limit == 1 or self._successes >= self.limit

    def _bound(self) -> int:
        bound = self.plateau
        return self.effective_max if bound is None else min(bound, self.effective_max)

    def cooling(self, now: float) -> bool:
        return self.blocked_until is not None and now < self.blocked_until

    def next_step_at(self) -> float | None:
        """When the next ramp step is due; None without a ramp."""
        if self._ramp_target is None:
            return None
        return self._ramp_started + self._ramp_interval * self.limit

    def next_change_at(self, now: float) -> float | None:
        """When `advance` has to be called; None if only a release can change the limit."""
        if self.cooling(now):
            return self.blocked_until
        return self.next_step_at()

    def note_admitted(self) -> int:
        """A lease was issued; returns its cascade, for `note_ended`."""
        self._in_flight += 1
        self._post_cut += 1
        self.admitted += 1
        return self.cascade

    def note_answered(
        self, now: float, seconds: float, in_flight: int, number: int
    ) -> tuple[LimitTransition, ...]:
        """A call was answered after so long; `in_flight` counts it, and it was the one of that
        number, from 0, to go out."""
        known = self.round_trip
        self.round_trip = seconds if known is None else known + ROUND_TRIP_GAIN * (seconds - known)
        plateau = self._plateau
        if plateau is None or self._ramp_target is not None:
            return ()
        plateau.note_first(number, self._initial, seconds)
        if self._slow_start or self._watches_start:
            plateau.note_start(seconds)
            if self._slow_start or not plateau.start_is_over(self.limit):
                return ()
            self._watches_start = False
            return () if plateau.allows_doubling(now, self.limit) else self._lowered_to_plateau()
        held = self.held_by_plateau
        if not plateau.on_answered(now, seconds, self.limit, in_flight):
            return ()
        if held and self._bound() > self.limit:
            return (self._grow(self._bound(), "plateau"), *self._recovered(now))
        return self._lowered_to_plateau()

    def _lowered_to_plateau(self) -> tuple[LimitTransition, ...]:
        previous, bound = self.limit, self._bound()
        if bound >= previous:
            return ()
        self.limit = bound
        return (LimitTransition("request_limit_decreased", "plateau", previous, bound),)

    def note_ended(self, lease_cascade: int) -> None:
        """A lease was released, with whatever outcome."""
        self._in_flight -= 1
        if lease_cascade == self.cascade:
            self._post_cut -= 1

    def advance(self, now: float) -> tuple[LimitTransition, ...]:
        """Take the ramp steps that are due, and resume if a cooldown has ended."""
        steps: list[LimitTransition] = []
        while (due := self.next_step_at()) is not None and due <= now:
            steps.append(self._grow(self.limit + 1, "ramp"))
            self._end_ramp_at_target()
        return (*steps, *self._resume_after_cooldown(now), *self._recovered(now))

    def on_rate_limited(
        self, now: float, lease_cascade: int, retry_after: float | None
    ) -> RateLimitEffect:
        """A call was rate-limited. Call `note_ended` first.

        Args:
            now: Monotonic seconds.
            lease_cascade: What `note_admitted` returned for its lease.
            retry_after: Seconds that the provider asked to wait; None if it did not.
        """
        if retry_after is None and self._is_probe(lease_cascade):
            return self._end_probe(now, lease_cascade)
        if not self.cooling(now) and lease_cascade == self.cascade:
            self._refused_rounds += 1
        until = now + self.cooldown(retry_after)
        if self.blocked_until is not None:
            until = max(until, self.blocked_until)
        self.blocked_until = until
        self.consecutive_rate_limits += 1
        self._successes = 0
        self._recovering = True
        self._ramp_target = None
        self._slow_start = self._watches_start = False
        if self._plateau is not None:
            self._plateau.refuses = True
        if lease_cascade != self.cascade:
            self._last.refused += 1
            self._last.refused_post_cut += lease_cascade == self.cascade - 1
            return RateLimitEffect(until, None)
        previous = self.limit
        lowered = max(1, math.floor(previous * self._config.decrease_factor))
        self._policy.after_cut(now, previous)
        if lowered == previous:
            return RateLimitEffect(until, None)
        self.cascade += 1
        if self._before_cuts is None:
            self._before_cuts = previous
        self._last = _Cascade(now, self._in_flight + 1, self._post_cut + 1)
        self._resumed = False
        self._post_cut = 0
        self.limit = lowered
        self.soft_ceiling = previous
        return RateLimitEffect(
            until,
            LimitTransition("request_limit_decreased", "rate_limited", previous, lowered),
        )

    def _is_probe(self, lease_cascade: int) -> bool:
        """Whether a refusal is what a probe above a sustained limit had to expect."""
        if lease_cascade == self.cascade:
            return self._policy.refused_probe(self.limit) > 0
        return lease_cascade == self.cascade - 1 and self._last.refused < self._last.probe_step

    def _end_probe(self, now: float, lease_cascade: int) -> RateLimitEffect:
        """Go back to the sustained limit, without a cooldown: its neighbours are answered."""
        self.consecutive_rate_limits += 1
        self._successes = 0
        self._recovering = True
        if lease_cascade != self.cascade:
            self._last.refused += 1
            return RateLimitEffect(self.blocked_until, None)
        previous = self.limit
        self.limit = self._policy.refused_probe(previous)
        self._policy.after_cut(now, previous)
        self.cascade += 1
        self._last = _Cascade(now, self._in_flight + 1, self._post_cut + 1)
        self._last.probe_step = previous - self.limit
        self._post_cut = 0
        self.soft_ceiling = previous
        return RateLimitEffect(
            self.blocked_until,
            LimitTransition("request_limit_decreased", "rate_limited", previous, self.limit),
        )

    def cooldown(self, retry_after: float | None) -> float:
        """Seconds that a refusal with this `Retry-After` cools the resource down."""
        if retry_after is None or not 0.0 < retry_after < math.inf:
            return self._own_cooldown()
        return min(retry_after, self._config.max_retry_after_seconds)

    def _own_cooldown(self) -> float:
        """A round trip shows how the neighbours of a refused call fare; while all of them are
        refused it doubles, up to the configured length."""
        longest = self._config.cooldown_seconds
        if self._config.recovery == "published":
            return longest
        first = FIRST_COOLDOWN_SECONDS if self.round_trip is None else self.round_trip
        return min(longest, first * 2.0 ** min(self._refused_rounds - 1, MAX_COOLDOWN_DOUBLINGS))

    def wait_for_budget(self, now: float, retry_after: float | None) -> RateLimitEffect:
        """A call was refused because a budget is used up, which says nothing of the limit."""
        self.consecutive_rate_limits += 1
        if retry_after is not None and 0.0 < retry_after < math.inf:
            until = now + min(retry_after, self._config.max_retry_after_seconds)
            self.blocked_until = max(until, self.blocked_until or until)
        return RateLimitEffect(self.blocked_until, None)

    def note_refused(self) -> RateLimitEffect:
        """A call was refused that says nothing of the load."""
        self.consecutive_rate_limits += 1
        return RateLimitEffect(self.blocked_until, None)

    def after_outage(self, now: float, seconds: float) -> tuple[LimitTransition, ...]:
        """The resource answers again after it has refused every call for so many seconds: what was
        served before is let out at once, or half of it where that is long ago."""
        before, self._before_cuts = self._before_cuts, None
        self._resumed = True
        self.consecutive_rate_limits = 0
        if before is None:
            return ()
        before = min(before, self._bound())
        self._policy.after_outage(now, before)
        part = 1 if seconds <= SHORT_OUTAGE_SECONDS else 2
        target = max(self.limit, -(-before // part))
        if target <= self.limit:
            return ()
        return (self._grow(target, "outage_over"), *self._recovered(now))

    def on_success(
        self, now: float, lease_cascade: int, binding: bool
    ) -> tuple[LimitTransition, ...]:
        """A call succeeded. Call `note_ended` first.

        Args:
            now: Monotonic seconds.
            lease_cascade: What `note_admitted` returned for its lease.
            binding: The limit was what held traffic back when the call ended.
        """
        self.consecutive_rate_limits = 0
        self._refused_rounds = 0
        if self._ramp_target is not None or self.cooling(now):
            return ()
        self._before_cuts = None
        resumed = self._resume_after_cooldown(now)
        self._successes += 1
        binding = binding and lease_cascade == self.cascade
        target = self._policy.after_success(
            now, self.limit, self._bound(), self._in_flight + 1, binding
        )
        if target <= self.limit:
            return resumed
        if self._slow_start and not self._goes_on(now, target):
            self._slow_start = False
            return (*resumed, *self._lowered_to_plateau())
        grown = self._grow(min(target, self.effective_max), "successes")
        if self.soft_ceiling is not None and self.limit > self.soft_ceiling:
            self.soft_ceiling = None
            passed = LimitTransition(
                "request_soft_ceiling_recovered", None, grown.previous, grown.current
            )
            return (*resumed, grown, passed, *self._recovered(now))
        return (*resumed, grown, *self._recovered(now))

    def _goes_on(self, now: float, target: int) -> bool:
        """Whether the slow start takes its next step; at the maximum it is over after that."""
        if self._plateau is not None and not self._plateau.allows_doubling(now, self.limit):
            return False
        if target >= self.effective_max:
            self._slow_start = False
            self._watches_start = True
        return True

    def set_effective_max(self, effective_max: int, now: float) -> tuple[LimitTransition, ...]:
        """Set the hard bound; a limit above it is lowered at once."""
        self.effective_max = effective_max
        changes: tuple[LimitTransition, ...] = ()
        if self.limit > effective_max:
            previous, self.limit = self.limit, effective_max
            self._slow_start = False
            changes = (
                LimitTransition("request_limit_decreased", "registration", previous, effective_max),
            )
        self._end_ramp_at_target()
        return changes + self._recovered(now)

    def _end_ramp_at_target(self) -> None:
        target = self._ramp_target
        if target is not None and self.limit >= min(target, self.effective_max):
            self._ramp_target = None

    def _resume_after_cooldown(self, now: float) -> tuple[LimitTransition, ...]:
        """Apply the policy once when the cooldown of a cascade has ended."""
        if self._resumed or self.cooling(now):
            return ()
        self._resumed = True
        cooldown = (self.blocked_until or now) - self._last.began
        previous = self.limit
        target = self._policy.after_cooldown(now, previous, self._last.sustained(), cooldown)
        if target >= previous:
            return ()
        self.limit = max(1, target)
        return (LimitTransition("request_limit_decreased", "carried", previous, self.limit),)

    def _grow(self, limit: int, cause: LimitCause) -> LimitTransition:
        previous, self.limit = self.limit, limit
        self.highest = max(self.highest, limit)
        successes, self._successes = self._successes, 0
        return LimitTransition("request_limit_increased", cause, previous, limit, successes)

    def _recovered(self, now: float) -> tuple[LimitTransition, ...]:
        if not self._recovering or self.limit < self.effective_max or self.cooling(now):
            return ()
        self._recovering = False
        self.soft_ceiling = None
        return (LimitTransition("request_fully_recovered", None, self.limit, self.limit),)
