"""`RequestAdmissionPolicy`: how a limit recovers after rate limits. Two of them, by name.

A policy belongs to one resource. It never cuts (the limit state does, the same way for both), and
what it answers is held between 1 and the effective maximum by the limit state.
"""

from __future__ import annotations

from typing import Protocol

from engine.request_admission.config import RequestAdmissionConfig

MAX_DOUBLINGS = 5
MAX_SUCCESS_DOUBLINGS = 2
FIRST_PROBE_ROUNDS = 4
MAX_GUARD_COOLDOWNS = 10
MAX_GUARD_SECONDS = 60.0


class RequestAdmissionPolicy(Protocol):
    """Counts are requests, times monotonic seconds. `bound` is the effective maximum."""

    def after_success(self, now: float, limit: int, bound: int, binding: bool) -> int:
        """The limit from now on, at least `limit`. Not asked in a cooldown or a startup ramp.

        `binding`: the call was admitted under the present limit, and the limit was what held
        traffic back when it ended.
        """

    def after_cut(self, limit: int) -> None:
        """A cascade of rate limits has begun while the limit was `limit`."""

    def after_cooldown(self, now: float, limit: int, carried: int, cooldown: float) -> int:
        """The limit to go on with, at most `limit`. `carried`: calls of the cascade that the
        provider did not refuse, although they were in flight with those it did."""


class PublishedRecovery:
    """One step after so many successes outside a cooldown, whether or not the limit binds."""

    def __init__(self, config: RequestAdmissionConfig) -> None:
        self._config = config
        self._successes = 0

    def after_success(self, now: float, limit: int, bound: int, binding: bool) -> int:
        if limit >= bound:
            return limit
        self._successes += 1
        if self._successes < self._config.successes_until_increase:
            return limit
        self._successes = 0
        return limit + self._config.increase_step

    def after_cut(self, limit: int) -> None:
        self._successes = 0

    def after_cooldown(self, now: float, limit: int, carried: int, cooldown: float) -> int:
        return limit


class AdaptiveRecovery:
    """Remembers what the provider carried (the *knee*), returns to it at once, probes above it.

    The rules, their reasons and what they were measured to do are in `plans/request-admission.md`.
    """

    def __init__(self, config: RequestAdmissionConfig) -> None:
        self._config = config
        self._knee: int | None = None
        """The highest limit that is believed to be carried; None: no rate limit has told."""
        self._proven = 0
        """The limit under which the last whole round of calls went well since the last cut."""
        self._fallback = 0
        self._successes = 0
        self._probing = False
        self._probes_held = 0
        """Probes in a row that no rate limit answered."""
        self._doublings = 0
        self._probe_not_before = float("-inf")

    def after_success(self, now: float, limit: int, bound: int, binding: bool) -> int:
        if not binding:
            return limit
        self._successes += 1
        knee = bound if self._knee is None else min(self._knee, bound)
        if self._probing or limit < knee:
            if self._successes < limit:
                return limit
            self._successes = 0
            self._proven = limit
            if not self._probing:
                return min(max(2 * limit, limit + self._config.increase_step), knee)
            self._probing = False
            self._doublings = 0
            self._probes_held += 1
            self._knee = limit
            return self._probe(limit, bound)
        if self._successes >= limit:
            self._proven = limit
        if limit >= bound or now < self._probe_not_before or self._successes < self._spacing(limit):
            return limit
        self._successes = 0
        self._probes_held = 0
        return self._probe(limit, bound)

    def after_cut(self, limit: int) -> None:
        if self._probing and self._probes_held == 0:
            self._doublings = min(self._doublings + 1, MAX_DOUBLINGS)
        else:
            self._doublings = 0
        self._fallback = self._proven if self._proven < limit else 0
        self._probing = False
        self._probes_held = 0
        self._proven = 0
        self._successes = 0

    def after_cooldown(self, now: float, limit: int, carried: int, cooldown: float) -> int:
        self._successes = 0
        guard = cooldown * min(2 << self._doublings, MAX_GUARD_COOLDOWNS)
        self._probe_not_before = now + min(guard, MAX_GUARD_SECONDS)
        known = carried or self._fallback
        if known:
            self._knee = known
            return min(limit, known)
        return limit

    def _spacing(self, limit: int) -> int:
        """Successes before the next probe."""
        successes = self._config.successes_until_increase
        if self._doublings == 0:
            return max(limit, min(successes, FIRST_PROBE_ROUNDS * limit))
        by_count = successes << min(self._doublings, MAX_SUCCESS_DOUBLINGS)
        return max(by_count, limit << self._doublings)

    def _probe(self, limit: int, bound: int) -> int:
        step = self._config.increase_step
        if self._probes_held:
            step = max(step, min(step << min(self._probes_held, limit.bit_length()), limit // 2))
        if limit >= bound:
            return limit
        self._probing = True
        return min(limit + step, bound)


def recovery_policy(config: RequestAdmissionConfig) -> RequestAdmissionPolicy:
    """A new one, as `config.recovery` names it."""
    return PublishedRecovery(config) if config.recovery == "published" else AdaptiveRecovery(config)
