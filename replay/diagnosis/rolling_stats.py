"""Rolling windows: quantiles over the most recent samples."""

from __future__ import annotations

from bisect import bisect_left, insort

import msgspec

GAPS_KEPT = 101
CALLS_KEPT = 256
CALLS_NEEDED = 20
"""Successful calls after which their usual duration is known."""
FEW_CALLS_NEEDED = 8
"""From so many on, a call is slow that takes `FEW_CALLS_FACTOR` times the longest of them."""
FEW_CALLS_FACTOR = 4.0
SLOW_FACTOR = 3.0
"""A call is slow once it takes longer than so many times the 95th percentile."""
LEVEL_FACTOR = 3.0
"""So many times the median are unusual; one call alone is not slow by that."""
LEVEL_CALLS = 8
LEVEL_NEEDED = 7
"""Of the last `LEVEL_CALLS` calls, so many that are unusual are another level."""
_LAST_CALLS = (1 << LEVEL_CALLS) - 1
STALL_FACTOR = 5.0
"""A silence is a stall once it is longer than so many times the median gap of admissions."""
STALL_MIN_SECONDS = 0.25


class RollingWindow(msgspec.Struct):
    """The last `keep` samples, in order of arrival and of size."""

    keep: int
    arrived: list[float] = []
    ordered: list[float] = []

    def add(self, value: float) -> None:
        if len(self.arrived) >= self.keep:
            oldest = self.arrived.pop(0)
            del self.ordered[bisect_left(self.ordered, oldest)]
        self.arrived.append(value)
        insort(self.ordered, value)

    def quantile(self, part: float) -> float:
        """The `part` quantile; 0 if there are no samples."""
        if not self.ordered:
            return 0.0
        return self.ordered[min(len(self.ordered) - 1, int(part * len(self.ordered)))]


class AdmissionRate(msgspec.Struct):
    """How often something is admitted, and how long a silence counts as a stall."""

    last: float | None = None
    gaps: RollingWindow = msgspec.field(default_factory=lambda: RollingWindow(GAPS_KEPT))

    def admit(self, now: float, usual: bool) -> None:
        """Record an admission; the gap before it counts only if it is `usual`, not in a storm."""
        if self.last is not None and usual:
            self.gaps.add(max(0.0, now - self.last))
        self.last = now

    @property
    def threshold(self) -> float:
        """Seconds without an admission after which a blocked resource has stalled."""
        return max(STALL_FACTOR * self.gaps.quantile(0.5), STALL_MIN_SECONDS)


class CallTimes(msgspec.Struct):
    """Durations of successful calls of one column to one resource.

    Slow ones are left out, so that no episode of them moves what is usual. So are those that are
    merely unusual, until it shows whether they are single ones or a new level.
    """

    durations: RollingWindow = msgspec.field(default_factory=lambda: RollingWindow(CALLS_KEPT))
    held: list[float] = []
    """Unusual ones, which may yet be counted."""
    recent: int = 0
    """Whether each of the last calls was unusual: one bit a call."""
    unusual_since: float | None = None
    """Begin of the first of the unusual calls that go on."""

    def add(self, seconds: float, started_at: float) -> bool:
        """False where the call was slow or unusual, and is left out for now."""
        allowance = self.allowance
        if allowance is None:
            self.durations.add(seconds)
            return True
        slow = seconds > allowance
        unusual = slow or seconds > LEVEL_FACTOR * self.median
        self.recent = (self.recent << 1 | unusual) & _LAST_CALLS
        if not unusual:
            self.durations.add(seconds)
        elif not slow:
            self.held.append(seconds)
        if unusual:
            since = self.unusual_since
            self.unusual_since = started_at if since is None else min(since, started_at)
        elif self.unusual_since is not None and self.recent.bit_count() <= 1:
            self.unusual_since = None
            for one in self.held:
                self.durations.add(one)
            self.held = []
        return not unusual

    @property
    def is_raised(self) -> bool:
        """Nearly all of the last calls were unusual."""
        return self.recent.bit_count() >= LEVEL_NEEDED

    @property
    def median(self) -> float:
        return self.durations.quantile(0.5)

    @property
    def p95(self) -> float:
        return self.durations.quantile(0.95)

    @property
    def allowance(self) -> float | None:
        """Age in seconds from which a call is slow; None while there are too few samples."""
        known = len(self.durations.arrived)
        if known < FEW_CALLS_NEEDED:
            return None
        if self.is_raised:
            return LEVEL_FACTOR * self.median
        if known < CALLS_NEEDED:
            return FEW_CALLS_FACTOR * self.durations.ordered[-1]
        return SLOW_FACTOR * self.p95
