"""`Availability`: whether a request resource is up, out of order or suspended.

A resource is `up`, `out` or `suspended`. What it answers decides, not what one task meets: failures
in a row with no answer between put it out, and one probe at a time, of neutral content, finds out
when it is back. Before the first probe has failed, an outage is a suspicion: a request that fails
for its own sake is told from a provider that fails for everybody.

A failure that only a person can mend is suspected at once, and suspends the resource when the probe
meets it, too. A hint to wait longer than the limit is confirmed by a probe likewise, since it may
concern one call only.

The class reads no clock: callers pass the times, as for the limit state.
"""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

from engine.events.failures import scope_of
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.types import FailureReport

AvailabilityState = Literal["up", "out", "suspended"]

MIN_FAILURES = 3
MAX_FAILURES = 8
"""Failures in a row, with no answer between, that put a resource out: as many as its limit, within
these bounds, so that one bad moment of a large pool is not enough."""
REFUSED_COOLDOWNS = 2
"""Cooldowns in a row after which every call was refused again."""
PUBLISHED_REFUSED_COOLDOWNS = 10
"""The same for the policy `published`, which knows no outage but this: without one a request that
is refused for its own sake, after all others have been answered, would keep a run from ending."""
PROBE_GROWTH = 0.15
"""Time to the next probe, as a share of how long the resource has been out."""
MIN_PROBE_SECONDS = 0.5
MAX_PROBE_SECONDS = 30.0
MAX_LOAD_PROBE_SECONDS = 5.0
LOAD_PROBE_ROUND_TRIPS = 0.5
"""The same where calls are refused for the load: others may have taken all there is, and leave a
place for a moment. The longer of the two: where a call takes long, a second probe soon after the
first gains little."""
PROBE_JITTER = 0.2
MOSTLY_ANSWERED = 2
"""How many times as many others must be answered as are refused, for refusals of one request to be
its own fault."""


class CallTally(NamedTuple):
    """Calls to a resource so far."""

    answered: int
    """Probes included."""
    probes_answered: int
    refused: int
    """For the load; probes not included."""

    def shows_own_fault(self, before: CallTally) -> bool:
        """Whether a request that was refused at the time of `before`, and is refused again now, is
        refused for its own sake: most others were answered since, or nothing but probes was."""
        answered = self.answered - before.answered
        others_refused = self.refused - before.refused - 1
        if answered and answered == self.probes_answered - before.probes_answered:
            return True
        return answered > 0 and answered >= MOSTLY_ANSWERED * others_refused


class FailureMark(NamedTuple):
    """Where in the history of a resource a failure happened, for `Availability.blames`."""

    answered: int
    confirmed: int


class Availability:
    """Times are monotonic seconds; `source` is the randomness of the spacing of probes."""

    def __init__(self, config: RequestAdmissionConfig, source: random.Random) -> None:
        self._config = config
        self._random = source
        self.state: AvailabilityState = "up"
        self.cause: FailureReport | None = None
        """What the resource answers; None while it is up."""
        self.since = 0.0
        self.next_probe_at: float | None = None
        self.probes = 0
        self.probing = False
        self.confirmed = False
        """Whether a probe has failed since the resource is out."""
        self.returns_at: float | None = None
        """When the provider said that a quota is back."""
        self.answered = 0
        self.probes_answered = 0
        self.refused = 0
        """Calls other than probes that were refused for the load."""
        self._failures = 0
        self._refused_cooldowns = 0
        self._confirmed_outages = 0

    @property
    def failures(self) -> int:
        """Failures in a row so far."""
        return self._failures

    def tally(self) -> CallTally:
        """Calls so far, by how they ended."""
        return CallTally(self.answered, self.probes_answered, self.refused)

    def mark(self) -> FailureMark:
        """Taken when a failure is met, before it is counted."""
        return FailureMark(self.answered, self._confirmed_outages)

    def blames(self, mark: FailureMark) -> bool | None:
        """Whether a failure was its request's own: the resource has answered others since, and was
        not out. None while nothing shows it."""
        if self._confirmed_outages != mark.confirmed:
            return False
        if self.state == "up" and self.answered > mark.answered:
            return True
        return None

    def on_answer(self) -> None:
        """A call other than a probe was answered."""
        self.answered += 1
        if self.state == "up":
            self._failures = self._refused_cooldowns = 0

    def on_failure(
        self, now: float, report: FailureReport, limit: int, *, new_cooldown: bool = False
    ) -> bool:
        """A call other than a probe failed; returns whether the resource is out by it.

        Args:
            now: Monotonic seconds.
            report: What was answered.
            limit: The limit of the resource.
            new_cooldown: The refusal began a cooldown after the last one had ended.
        """
        if self.state != "up":
            return False
        scope = scope_of(report.failure)
        if scope == "person":
            return self._open(now, report, now)
        if scope != "resource":
            self.on_answer()
            return False
        if report.retry_after_said is not None:
            return self._open(now, report, now)
        if report.failure in ("rate_limit", "overload"):
            self._refused_cooldowns += new_cooldown
            published = self._config.recovery == "published"
            if self._refused_cooldowns < (
                PUBLISHED_REFUSED_COOLDOWNS if published else REFUSED_COOLDOWNS
            ):
                return False
            return self._open(now, report, now)
        self._failures += 1
        if self._failures < max(MIN_FAILURES, min(limit, MAX_FAILURES)):
            return False
        return self._open(now, report, now)

    def delay_probe(self, until: float | None) -> None:
        """No probe before `until`: a cooldown, or what the provider asked for."""
        if until is not None and self.next_probe_at is not None:
            self.next_probe_at = max(self.next_probe_at, until)

    def begin_probe(self) -> None:
        self.probing = True
        self.next_probe_at = None

    def on_probe_answered(self) -> None:
        """The resource is back."""
        self.state = "up"
        self.answered += 1
        self.probes_answered += 1
        self._close()

    def on_probe_failed(
        self,
        now: float,
        report: FailureReport,
        retry_after: float | None,
        round_trip: float | None = None,
    ) -> bool:
        """Returns whether the resource is suspended by it.

        Args:
            now: Monotonic seconds.
            report: What was answered.
            retry_after: Seconds that the provider asks to wait, however long.
            round_trip: Seconds that a call usually takes; None if that is not known.
        """
        self.probing = False
        self.probes += 1
        self.cause = report
        if not self.confirmed:
            self.confirmed = True
            self._confirmed_outages += 1
        quota = report.failure == "quota_used_up"
        if quota and retry_after is not None:
            self.returns_at = now + retry_after
        if scope_of(report.failure) == "person" and not (quota and self._waits_for_quota(now)):
            return self._suspend()
        if not quota and now - self.since >= self._config.outage_stop_seconds:
            return self._suspend()
        self.next_probe_at = now + self._spacing(now, retry_after, round_trip or 0.0, quota)
        return False

    def on_probe_lost(self, now: float) -> None:
        """The probe ended without a result: it was cancelled."""
        self.probing = False
        if self.state == "out":
            self.next_probe_at = now + MIN_PROBE_SECONDS

    def _waits_for_quota(self, now: float) -> bool:
        if self._config.wait_for_quota:
            return True
        returns = self.returns_at
        return returns is not None and returns - now <= self._config.quota_wait_seconds

    def _spacing(
        self, now: float, retry_after: float | None, round_trip: float, quota: bool
    ) -> float:
        grown = PROBE_GROWTH * (now - self.since)
        if quota:
            wanted = max(grown, MAX_PROBE_SECONDS) if retry_after is None else retry_after
            return min(wanted, self._config.max_retry_after_seconds)
        cause = self.cause
        load = cause is not None and cause.failure in ("rate_limit", "overload")
        longest = MAX_PROBE_SECONDS
        if load:
            bound = max(MAX_LOAD_PROBE_SECONDS, LOAD_PROBE_ROUND_TRIPS * round_trip)
            longest = min(longest, bound)
        spacing = min(max(grown, MIN_PROBE_SECONDS), longest)
        spacing *= 1.0 + PROBE_JITTER * (2.0 * self._random.random() - 1.0)
        if retry_after is not None:
            spacing = max(spacing, min(retry_after, self._config.max_retry_after_seconds))
        return spacing

    def _open(self, now: float, report: FailureReport, probe_at: float) -> bool:
        self.state = "out"
        self.cause = report
        self.since = now
        self.probes = 0
        self.confirmed = False
        self.next_probe_at = probe_at
        return True

    def _suspend(self) -> bool:
        self.state = "suspended"
        self.next_probe_at = None
        self._failures = self._refused_cooldowns = 0
        return True

    def _close(self) -> None:
        self.cause = None
        self.next_probe_at = self.returns_at = None
        self.probing = False
        self._failures = self._refused_cooldowns = 0
