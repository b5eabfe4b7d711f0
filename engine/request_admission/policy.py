"""`RequestAdmissionPolicy`: how does a limit recover after rate limits?

A policy belongs to one resource. It never cuts a limit: the limit state does, by the same
multiplicative decrease for both policies, and keeps what a policy returns between 1 and the
effective maximum.

`PublishedRecovery` is additive increase, multiplicative decrease as analysed by Chiu and Jain
("Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks",
1989). With a cut of a quarter it needs seven cascades, each with its refusals and its cooldown, to
get from 32 to 4, and it does not remember at which limit it was refused. `AdaptiveRecovery` does.
"""

from __future__ import annotations

from typing import Protocol

from engine.request_admission.config import RequestAdmissionConfig

MAX_SPACING_DOUBLINGS = 4
"""Failed probes in a row after which probes are not spaced any further apart."""
MAX_SPACING_SUCCESSES = 3
"""How many times the configured successes lie between two probes, at most."""
FIRST_PROBE_ROUNDS = 4
"""Rounds of calls before the first probe; a round is as many successes as the limit."""
SETTLED_ROUNDS = 8
"""Rounds of calls after which a limit is known to be sustained."""
LEVEL_ROUNDS = 1
"""Rounds of calls over which the calls in flight are averaged: what was served while no limit held
traffic back is sustained, too."""
MAX_RETURNS = 8
"""Cascades, of which a part was answered, after which a limit that was sustained is still gone back
to at once."""
FIRST_GUARD_COOLDOWNS = 4
MAX_GUARD_COOLDOWNS = 32
"""No probe for so many cooldowns after one has ended, so that finding out costs a bounded share."""
YIELD_PART = 7
"""After a probe that is refused the limit leaves this part of the capacity free for a round, so
that another client of the same provider finds a place (as BBR drains after each probe)."""
MAX_RETURN_ROUNDS = 4
"""Rounds of calls before the limit goes back, or tries to, to one that was sustained."""
RETURN_GROWTH = 0.6
LONGEST_RETURN_ROUNDS = 8
"""And before this share of the time since it was cut, but for so many rounds at most: finding out
costs ever less, and the end of a window is noticed soon."""
RETURN_STEP = 4
"""A return begins with this part of the limit, so that one that is refused costs little."""


class RequestAdmissionPolicy(Protocol):
    """Recovery of one limit. Counts are requests, times are monotonic seconds."""

    def after_success(
        self, now: float, limit: int, bound: int, in_flight: int, binding: bool
    ) -> int:
        """The limit after a success, at least `limit`.

        Not called during a cooldown or a startup ramp.

        Args:
            now: Monotonic seconds.
            limit: The present limit.
            bound: The effective maximum.
            in_flight: Calls in flight when it ended, itself included.
            binding: The call was admitted under the present limit, and the limit was what held
                traffic back when it ended.
        """

    def refused_probe(self, limit: int) -> int:
        """A refusal that names no delay came while the limit was `limit`: the limit to go on with,
        known to be sustained, if this was a probe above it; else 0."""

    def after_cut(self, now: float, limit: int) -> None:
        """A cascade of rate limits began while the limit was `limit`."""

    def after_cooldown(self, now: float, limit: int, sustained: int, cooldown: float) -> int:
        """The limit after the cooldown of a cascade, at most `limit`.

        Args:
            now: Monotonic seconds.
            limit: What the cut left.
            sustained: Calls of the cascade that the provider served while it refused others; 0 if
                that is not known.
            cooldown: Length of the cooldown in seconds.
        """

    def after_outage(self, now: float, limit: int) -> None:
        """The resource has refused every call for a while and answers again; `limit` is what it was
        before."""


class PublishedRecovery:
    """One step after every `successes_until_increase` successes, whether or not the limit binds."""

    def __init__(self, config: RequestAdmissionConfig) -> None:
        self._config = config
        self._successes = 0

    def after_success(
        self, now: float, limit: int, bound: int, in_flight: int, binding: bool
    ) -> int:
        if limit >= bound:
            return limit
        self._successes += 1
        if self._successes < self._config.successes_until_increase:
            return limit
        self._successes = 0
        return limit + self._config.increase_step

    def refused_probe(self, limit: int) -> int:
        return 0

    def after_cut(self, now: float, limit: int) -> None:
        self._successes = 0

    def after_cooldown(self, now: float, limit: int, sustained: int, cooldown: float) -> int:
        return limit

    def after_outage(self, now: float, limit: int) -> None:
        self._successes = 0


class AdaptiveRecovery:
    """Estimates the capacity of the provider, returns to it at once, and probes above it.

    `plans/request-admission.md` has the rules with their reasons, and measurements.
    """

    def __init__(self, config: RequestAdmissionConfig) -> None:
        self._config = config
        self._estimated_capacity: int | None = None
        """Highest limit that the provider is believed to sustain; None before any rate limit."""
        self._proven = 0
        """Limit under which a round of calls last succeeded since the last cut; 0 for none."""
        self._fallback = 0
        self._successes = 0
        self._probing = False
        self._probes_held = 0
        """Probes in a row that were not rate-limited."""
        self._doublings = 0
        self._probe_not_before = float("-inf")
        self._settled = 0
        """Calls at once that were sustained for several rounds before a cut; 0 for none."""
        self._level = 0.0
        """Moving average of the calls in flight."""
        self._at_limit = 0
        """Successes since the limit last changed."""
        self._returns = 0
        """How often the limit may still go back to `_settled` without a guard."""
        self._return_rounds = 1
        self._return_not_before = float("-inf")
        self._cut_at = float("-inf")
        """When a limit that had been sustained was cut first."""
        self._returning = False

    def after_success(
        self, now: float, limit: int, bound: int, in_flight: int, binding: bool
    ) -> int:
        self._level += (in_flight - self._level) / (LEVEL_ROUNDS * max(in_flight, self._level, 1))
        if not binding:
            return limit
        self._at_limit += 1
        if self._at_limit >= SETTLED_ROUNDS * limit and (
            limit >= self._settled or not self._returns
        ):
            self._settle(limit)
        target = self._target(now, limit, bound)
        if target != limit:
            self._at_limit = 0
        return target

    def _settle(self, limit: int) -> None:
        self._settled = limit
        self._returns = MAX_RETURNS
        self._return_rounds = 1
        self._return_not_before = float("-inf")

    def _target(self, now: float, limit: int, bound: int) -> int:
        self._successes += 1
        if self._returns and limit < self._settled and not self._probing:
            # What a resource sustained for long and then refused was more likely a window that has
            # passed than a limit that has changed: it goes back in a few rounds.
            if self._successes < limit * self._return_rounds or (
                now < self._return_not_before and self._successes < limit * LONGEST_RETURN_ROUNDS
            ):
                return limit
            self._successes = 0
            self._proven = limit
            self._probes_held = 0
            self._estimated_capacity = limit
            self._returning = True
            return self._probe(limit, bound)
        capacity = (
            bound if self._estimated_capacity is None else min(self._estimated_capacity, bound)
        )
        if self._probing or limit < capacity:
            if self._successes < limit:
                return limit
            self._successes = 0
            self._proven = limit
            if not self._probing:
                return min(max(2 * limit, limit + self._config.increase_step), capacity)
            self._probing = False
            if not self._returning:
                self._doublings = 0
            self._probes_held += 1
            self._estimated_capacity = limit
            if self._returning and limit >= self._settled:
                self._returning = False
                return limit
            return self._probe(limit, bound)
        if self._successes >= limit:
            self._proven = limit
        if limit >= bound or now < self._probe_not_before or self._successes < self._spacing(limit):
            return limit
        self._successes = 0
        self._probes_held = 0
        self._returning = False
        return self._probe(limit, bound)

    def refused_probe(self, limit: int) -> int:
        capacity = self._estimated_capacity
        if not self._probing or self._probes_held or capacity is None or capacity >= limit:
            return 0
        return capacity - capacity // YIELD_PART

    def after_cut(self, now: float, limit: int) -> None:
        self._at_limit = 0
        if self._returns == MAX_RETURNS:
            self._cut_at = now
        if not self._probing:
            served = limit if 2 * self._level >= limit else int(self._level)
            if served > self._settled:
                self._settle(served)
                self._cut_at = now
        if self._returning:
            self._returns = max(0, self._returns - 1)
            self._return_rounds = min(2 * self._return_rounds, MAX_RETURN_ROUNDS)
            self._return_not_before = now + RETURN_GROWTH * (now - self._cut_at)
        elif self._probing and self._probes_held == 0:
            self._doublings = min(self._doublings + 1, MAX_SPACING_DOUBLINGS)
        else:
            self._doublings = 0
        self._fallback = self._proven if self._proven < limit else 0
        self._probing = self._returning = False
        self._probes_held = 0
        self._proven = 0
        self._successes = 0

    def after_cooldown(self, now: float, limit: int, sustained: int, cooldown: float) -> int:
        self._successes = 0
        if sustained:
            self._returns = max(0, self._returns - 1)
        guard = min(FIRST_GUARD_COOLDOWNS << self._doublings, MAX_GUARD_COOLDOWNS)
        self._probe_not_before = now + guard * cooldown
        estimate = sustained or self._fallback
        if estimate:
            self._estimated_capacity = estimate
            return min(limit, estimate)
        return limit

    def after_outage(self, now: float, limit: int) -> None:
        self._estimated_capacity = max(limit, self._estimated_capacity or limit)
        self._proven = self._fallback = 0
        self._successes = 0
        self._probing = self._returning = False
        self._probes_held = 0
        self._doublings = 0
        self._probe_not_before = now

    def _spacing(self, limit: int) -> int:
        """Number of successes before the next probe."""
        successes = self._config.successes_until_increase
        if self._doublings == 0:
            return max(limit, min(successes, FIRST_PROBE_ROUNDS * limit))
        by_count = successes * min(1 + self._doublings, MAX_SPACING_SUCCESSES)
        return max(by_count, limit << self._doublings)

    def _probe(self, limit: int, bound: int) -> int:
        """The limit of the next probe: further up after each one that held, by at most a half."""
        step = self._config.increase_step
        known = min(self._settled, bound) if self._returning else 0
        if known > limit:
            step = limit if self._probes_held else max(step, limit // RETURN_STEP)
            bound = known
        elif self._probes_held:
            step = max(step, min(step << min(self._probes_held, limit.bit_length()), limit // 2))
        if limit >= bound:
            return limit
        self._probing = True
        return min(limit + step, bound)


def recovery_policy(config: RequestAdmissionConfig) -> RequestAdmissionPolicy:
    """A new policy, the one that `config.recovery` names."""
    return PublishedRecovery(config) if config.recovery == "published" else AdaptiveRecovery(config)
