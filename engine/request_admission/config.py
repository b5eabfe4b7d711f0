"""`RequestAdmissionConfig`: the constants of adaptive request limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RecoveryPolicy = Literal["published", "adaptive"]


@dataclass(frozen=True, slots=True)
class RequestAdmissionConfig:
    """How a request limit falls and recovers. Counts are requests, times are seconds.

    Both policies cut alike: on `rate_limited`, `limit = max(1, floor(limit * decrease_factor))`,
    once per cascade, and nothing is admitted until the cooldown ends. They differ in recovery:

    `published`: after every `successes_until_increase` successes outside a cooldown the limit
    grows by `increase_step`.

    `adaptive`: a success counts only where the limit was what held traffic back (as many
    requests in flight as the limit allows). Let C be the soft ceiling, the limit at the last cut.

    - limit < C - 1: after `min(limit, successes_until_increase)` successes (about one round of
      calls) the limit grows by `max(increase_step, ceil((C - 1 - limit) / 2))`, never past C - 1.
    - otherwise it probes: after `max(limit, successes_until_increase)` successes it grows by
      `increase_step * 2**k` after k probes in a row that no rate limit answered, but by no more
      than `max(increase_step, floor(limit / decrease_factor) - limit)`, so that one cut takes back
      all that a probe overshot. A cut in answer to the first probe doubles the successes that the
      next first probe needs, up to 32-fold; any other cut resets that.

    Neither exceeds the effective maximum.
    """

    decrease_factor: float = 0.75
    increase_step: int = 1
    successes_until_increase: int = 25
    cooldown_seconds: float = 2.0
    """Used where a rate limit names no delay of its own."""
    startup_ramp_seconds: float = 0.0
    """From 1 to the initial limit in even steps; a rate limit ends it."""
    initial_limit: int | None = None
    """Clamped to the effective maximum; None starts there."""
    recovery: RecoveryPolicy = "adaptive"

    def __post_init__(self) -> None:
        if not 0.0 < self.decrease_factor < 1.0:
            raise ValueError("decrease_factor must be between 0 and 1")
        if self.increase_step < 1:
            raise ValueError("increase_step must be at least 1")
        if self.successes_until_increase < 1:
            raise ValueError("successes_until_increase must be at least 1")
        if not 0.0 <= self.cooldown_seconds < float("inf"):
            raise ValueError("cooldown_seconds must be finite and not negative")
        if not 0.0 <= self.startup_ramp_seconds < float("inf"):
            raise ValueError("startup_ramp_seconds must be finite and not negative")
        if self.initial_limit is not None and self.initial_limit < 1:
            raise ValueError("initial_limit must be at least 1")
        if self.recovery not in ("published", "adaptive"):
            raise ValueError("recovery must be 'published' or 'adaptive'")
