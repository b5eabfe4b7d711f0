"""`LatencyHistogram`: how long the calls of a bin took, in memory that does not grow with them."""

from __future__ import annotations

import math

import msgspec

HIGH_QUANTILE = 0.95
BUCKETS_PER_OCTAVE = 8
"""A bucket ends at 2**(1/8) of where it begins, so that its middle is at most 4.4 % off."""
SHORTEST_SECONDS, LONGEST_SECONDS = 2.0**-20, 2.0**20
"""What takes less or more counts as so much where buckets are counted."""


class LatencyHistogram(msgspec.Struct, array_like=True):
    """Exact mean and maximum, and a histogram with buckets that grow with the time."""

    calls: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        self.calls += 1
        self.seconds += seconds
        if seconds > self.longest:
            self.longest = seconds
        bounded = min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)
        bucket = math.floor(math.log2(bounded) * BUCKETS_PER_OCTAVE)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    @property
    def mean(self) -> float:
        return self.seconds / self.calls if self.calls else 0.0

    @property
    def high_quantile(self) -> float:
        """The 95th percentile: of up to 20 calls the longest, else the middle of its bucket."""
        above = self.calls - 1 - int(HIGH_QUANTILE * self.calls)
        if above < 1:
            return self.longest
        for bucket in sorted(self.buckets, reverse=True):
            above -= self.buckets[bucket]
            if above < 0:
                break
        return min(math.exp2((bucket + 0.5) / BUCKETS_PER_OCTAVE), self.longest)
