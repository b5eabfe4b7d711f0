"""Rolling windows: quantiles over the most recent samples."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

import msgspec

GAPS_KEPT = 101
CALLS_KEPT = 256
CALLS_NEEDED = 20
"""Successful calls after which their usual duration is known."""
FEW_CALLS_NEEDED = 8
"""With at least this many calls, one is slow that takes `FEW_CALLS_FACTOR` times the longest."""
FEW_CALLS_FACTOR = 4.0
SLOW_FACTOR = 3.0
"""A call is slow once it takes longer than this multiple of the 95th percentile."""
LEVEL_FACTOR = 3.0
"""A call is unusual above this multiple of the median; a single one is not slow for it."""
LEVEL_CALLS = 8
LEVEL_NEEDED = 7
"""Unusual calls among the last `LEVEL_CALLS` that show a change of level."""
_LAST_CALLS = (1 << LEVEL_CALLS) - 1
MOST_PAUSED = 0.3
"""Part of a call in which its producer did not run, from which its time says nothing."""
EARLY_CALLS = 96
"""Among so many first calls a level is looked for that was slow, and over, before any was usual."""
LATER_LEVEL_CALLS = 12
"""Slow calls that make such a level where it did not begin with the first slow one."""
MOSTLY = 0.8
"""Part of the calls of a level that are slow."""
STALL_FACTOR = 5.0
"""A silence is a stall once it is longer than this multiple of the median gap of admissions."""
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


class EarlyLevel(NamedTuple):
    """The first calls were slow, by those that came after them."""

    start: float
    end: float
    calls: int
    median: float
    longest: float
    usual: float
    """Median of those that came after."""
    most: float
    """Longest of those."""


class EarlyCall(msgspec.Struct, array_like=True, frozen=True):
    """A call by its begin and by what it took: at least, and at most."""

    started_at: float
    least: float
    most: float | None
    """None where nothing says how long its answer lay unread."""

    @property
    def seconds(self) -> float:
        return self.least if self.most is None else self.most


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
    early: list[EarlyCall] = []
    """The first calls, while no level is known."""
    settled: bool = False
    """What is usual is known."""
    unusual_since: float | None = None
    """Begin of the first of the unusual calls that go on."""

    def add(self, seconds: float, started_at: float, lateness: float = 0.0) -> bool:
        """Take in a call.

        Args:
            seconds: From its begin to when its answer was read.
            started_at: Begin, monotonic.
            lateness: Seconds by which the answer may have been read late.

        Returns:
            False where the call was slow or unusual, and is left out for now.
        """
        allowance = self.allowance
        certain = max(0.0, seconds - lateness)
        if not self.settled:
            self.early.append(EarlyCall(started_at, certain, seconds))
        if allowance is None:
            self.durations.add(seconds)
            return True
        slow = certain > allowance
        unusual = slow or certain > LEVEL_FACTOR * self.median
        self.recent = (self.recent << 1 | unusual) & _LAST_CALLS
        if self.is_raised and self.early:
            self._leave_out_early()
        if slow or self.is_raised or len(self.early) > EARLY_CALLS:
            self.settled, self.early = True, []
        if not unusual:
            self.durations.add(seconds)
        elif not slow:
            self.held.append(seconds)
        if unusual:
            since = self.unusual_since
            self.unusual_since = started_at if since is None else min(since, started_at)
        elif self.unusual_since is not None and self.recent.bit_count() <= 1:
            self.unusual_since = None
            for duration in self.held:
                self.durations.add(duration)
            self.held = []
        return not unusual

    def skip(self, seconds: float, started_at: float) -> None:
        """A call took `seconds` at least: its answer may have lain unread after that, so that it
        says nothing of what is usual."""
        if not self.settled:
            self.early.append(EarlyCall(started_at, seconds, None))

    def _leave_out_early(self) -> None:
        """Some of the first calls belonged to the level that is known now."""
        least = LEVEL_FACTOR * self.median
        slow = [call for call in self.early if call.least > least]
        if slow:
            self.unusual_since = min(call.started_at for call in slow)
            self.held = [call.seconds for call in slow]
        self._keep_early(least)

    def _keep_early(self, least: float) -> None:
        """Of the first calls, those are usual that did not certainly take longer than `least`."""
        self.durations = RollingWindow(CALLS_KEPT)
        for call in self.early:
            if call.most is not None and call.least <= least:
                self.durations.add(call.most)

    def take_held(self) -> list[float]:
        """The unusual calls so far, which are known to be slow ones now."""
        held, self.held = self.held, []
        return held

    def early_level(self) -> EarlyLevel | None:
        """The slow level that the first calls were on, once enough that came after them are not."""
        if self.settled or len(self.early) < 2 * LEVEL_CALLS:
            return None
        last = sorted(call.most for call in self.early[-LEVEL_CALLS:] if call.most is not None)
        if len(last) < LEVEL_CALLS:
            return None
        usual = last[LEVEL_CALLS // 2]
        least = LEVEL_FACTOR * usual
        if last[LEVEL_NEEDED - 1] > least:
            return None
        slow = self._slow_stretch(least)
        if not slow:
            return None
        start, end = slow[0].started_at, max(call.started_at + call.seconds for call in slow)
        self._keep_early(least)
        self.settled, self.early, self.held, self.recent = True, [], [], 0
        self.unusual_since = None
        times = sorted(call.seconds for call in slow)
        median = times[len(times) // 2]
        most = last[LEVEL_NEEDED - 1]
        return EarlyLevel(start, end, len(slow), median, times[-1], usual, most)

    def _slow_stretch(self, least: float) -> list[EarlyCall]:
        """The slow ones among the first calls, from where on nearly all of them were; empty where
        too few are."""
        slow = sorted(
            (call for call in self.early if call.least > least), key=lambda call: call.started_at
        )
        known = [
            call.started_at for call in self.early if call.most is not None or call.least > least
        ]
        needed = LEVEL_CALLS
        while len(slow) >= needed:
            end = max(call.started_at + call.seconds for call in slow)
            if len(slow) >= MOSTLY * sum(slow[0].started_at <= at < end for at in known):
                return slow
            del slow[0]
            needed = LATER_LEVEL_CALLS
        return []

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
