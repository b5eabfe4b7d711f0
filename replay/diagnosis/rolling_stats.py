"""Trailing statistics over the last so many samples, in order of size and of arrival."""

from __future__ import annotations

from bisect import bisect_left, insort

import msgspec

GAPS_KEPT = 101
CALLS_KEPT = 256
CALLS_NEEDED = 20
SLOW_FACTOR = 3.0
STALL_FACTOR = 5.0
STALL_LEAST = 0.25


class RollingWindow(msgspec.Struct):
    """At most `keep` samples; the oldest goes first."""

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
        """0 where there is no sample."""
        if not self.ordered:
            return 0.0
        return self.ordered[min(len(self.ordered) - 1, int(part * len(self.ordered)))]


class AdmissionRate(msgspec.Struct):
    """How often something is admitted, and from which silence on it counts as a stall."""

    last: float | None = None
    gaps: RollingWindow = msgspec.field(default_factory=lambda: RollingWindow(GAPS_KEPT))

    def admit(self, now: float, usual: bool) -> None:
        """What a storm lets out says nothing about the usual pace."""
        if self.last is not None and usual:
            self.gaps.add(max(0.0, now - self.last))
        self.last = now

    @property
    def threshold(self) -> float:
        return max(STALL_FACTOR * self.gaps.quantile(0.5), STALL_LEAST)


class CallTimes(msgspec.Struct):
    """Durations of successful calls to one resource."""

    durations: RollingWindow = msgspec.field(default_factory=lambda: RollingWindow(CALLS_KEPT))

    @property
    def p95(self) -> float:
        return self.durations.quantile(0.95)

    @property
    def allowance(self) -> float | None:
        """From this age on a call is slow; None while there are too few samples to say."""
        if len(self.durations.arrived) < CALLS_NEEDED:
            return None
        return SLOW_FACTOR * self.p95
