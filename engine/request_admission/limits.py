"""`AdaptiveRequestLimitState`: the adaptive ceiling of one request resource, and why it moved.

Pure arithmetic over times that it is given: no queue, no timer, no event.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from engine.request_admission.config import RequestAdmissionConfig

LimitCause = Literal["rate_limited", "successes", "ramp", "registration"]
MAX_PROBE_DOUBLINGS = 5


class LimitTransition(NamedTuple):
    """One fact about the ceiling; `kind` is its event kind."""

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
    """What one rate-limited call did: its cooldown always counts, a cut only once per cascade."""

    blocked_until: float
    cut: LimitTransition | None


class AdaptiveRequestLimitState:
    """Holds `1 <= limit <= effective_max`. Times are monotonic seconds and must not go back."""

    def __init__(self, config: RequestAdmissionConfig, effective_max: int, now: float) -> None:
        self._config = config
        self.effective_max = effective_max
        self.blocked_until: float | None = None
        """End of the last cooldown; kept after it has passed."""
        self.soft_ceiling: int | None = None
        self.consecutive_rate_limits = 0
        self.cascade = 0
        """Number of cuts so far. A lease remembers it, to tell a cascade from a new rate limit."""
        self._successes = 0
        self._probes = 0
        self._probe_doublings = 0
        self._recovering = False
        self._adaptive = config.recovery == "adaptive"
        initial = min(config.initial_limit or effective_max, effective_max)
        self._ramp_target: int | None = None
        self._ramp_started = now
        self._ramp_interval = 0.0
        self.limit = initial
        if config.startup_ramp_seconds > 0 and initial > 1:
            self.limit = 1
            self._ramp_target = initial
            self._ramp_interval = config.startup_ramp_seconds / (initial - 1)

    @property
    def ramping(self) -> bool:
        return self._ramp_target is not None

    def cooling(self, now: float) -> bool:
        return self.blocked_until is not None and now < self.blocked_until

    def next_step_at(self) -> float | None:
        """When the limit may change by itself: the next ramp step."""
        if self._ramp_target is None:
            return None
        return self._ramp_started + self._ramp_interval * self.limit

    def next_change_at(self, now: float) -> float | None:
        """When `advance` has something to do; None where only a release can change anything."""
        if self.cooling(now):
            return self.blocked_until
        return self.next_step_at()

    def advance(self, now: float) -> tuple[LimitTransition, ...]:
        """Take the ramp steps that are due and note a cooldown that has ended."""
        steps: list[LimitTransition] = []
        while (due := self.next_step_at()) is not None and due <= now:
            steps.append(self._grow(1, self.effective_max, "ramp"))
            self._end_ramp_at_target()
        return (*steps, *self._recovered(now))

    def on_rate_limited(
        self, now: float, lease_cascade: int, retry_after: float | None
    ) -> RateLimitEffect:
        """`lease_cascade` is the value of `cascade` when the lease was admitted."""
        if retry_after is None or not 0.0 < retry_after < math.inf:
            retry_after = self._config.cooldown_seconds
        until = now + retry_after
        if self.blocked_until is not None:
            until = max(until, self.blocked_until)
        self.blocked_until = until
        self.consecutive_rate_limits += 1
        self._successes = 0
        self._recovering = True
        self._ramp_target = None
        lowered = max(1, math.floor(self.limit * self._config.decrease_factor))
        if lease_cascade != self.cascade or lowered == self.limit:
            return RateLimitEffect(until, None)
        first_probe_failed = self._probes == 1
        self._probe_doublings = (
            min(self._probe_doublings + 1, MAX_PROBE_DOUBLINGS) if first_probe_failed else 0
        )
        self._probes = 0
        self.cascade += 1
        previous, self.limit = self.limit, lowered
        self.soft_ceiling = previous
        return RateLimitEffect(
            until,
            LimitTransition("request_limit_decreased", "rate_limited", previous, lowered),
        )

    def on_success(self, now: float, binding: bool) -> tuple[LimitTransition, ...]:
        """`binding`: the limit was what held traffic back when this call ended."""
        self.consecutive_rate_limits = 0
        if (
            self.limit >= self.effective_max
            or self._ramp_target is not None
            or self.cooling(now)
            or (self._adaptive and not binding)
        ):
            return ()
        self._successes += 1
        config = self._config
        if not self._adaptive:
            if self._successes < config.successes_until_increase:
                return ()
            return self._after_growth(now, config.increase_step, self.effective_max)
        ceiling = self.effective_max
        if self.soft_ceiling is not None:
            ceiling = min(self.soft_ceiling - 1, self.effective_max)
            if self.limit < ceiling:
                if self._successes < min(self.limit, config.successes_until_increase):
                    return ()
                halfway = math.ceil((ceiling - self.limit) / 2)
                return self._after_growth(now, max(config.increase_step, halfway), ceiling)
        doublings = self._probe_doublings if self._probes == 0 else 0
        if self._successes < max(self.limit, config.successes_until_increase) << doublings:
            return ()
        bound = math.floor(self.limit / config.decrease_factor) - self.limit
        # A shift as large as the bit length of the bound is beyond it already.
        step = config.increase_step << min(self._probes, bound.bit_length())
        self._probes += 1
        step = min(step, max(config.increase_step, bound))
        return self._after_growth(now, step, self.effective_max)

    def set_effective_max(self, effective_max: int, now: float) -> tuple[LimitTransition, ...]:
        """Lower the hard bound; the limit follows it down at once."""
        self.effective_max = effective_max
        changes: tuple[LimitTransition, ...] = ()
        if self.limit > effective_max:
            previous, self.limit = self.limit, effective_max
            changes = (
                LimitTransition("request_limit_decreased", "registration", previous, effective_max),
            )
        self._end_ramp_at_target()
        return changes + self._recovered(now)

    def _end_ramp_at_target(self) -> None:
        target = self._ramp_target
        if target is not None and self.limit >= min(target, self.effective_max):
            self._ramp_target = None

    def _after_growth(self, now: float, step: int, bound: int) -> tuple[LimitTransition, ...]:
        grown = self._grow(step, bound, "successes")
        self._successes = 0
        if self.soft_ceiling is not None and self.limit > self.soft_ceiling:
            self.soft_ceiling = None
            passed = LimitTransition(
                "request_soft_ceiling_recovered", None, grown.previous, grown.current
            )
            return (grown, passed, *self._recovered(now))
        return (grown, *self._recovered(now))

    def _grow(self, step: int, bound: int, cause: LimitCause) -> LimitTransition:
        previous, self.limit = self.limit, min(self.limit + step, bound)
        return LimitTransition(
            "request_limit_increased", cause, previous, self.limit, self._successes
        )

    def _recovered(self, now: float) -> tuple[LimitTransition, ...]:
        if not self._recovering or self.limit < self.effective_max or self.cooling(now):
            return ()
        self._recovering = False
        self.soft_ceiling = None
        self._probes = 0
        self._probe_doublings = 0
        return (LimitTransition("request_fully_recovered", None, self.limit, self.limit),)
