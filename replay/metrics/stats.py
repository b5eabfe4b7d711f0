"""What a few repeated measurements say: their spread, how sure their median is, and a verdict.

Nothing here assumes a distribution: the interval of a median comes from order statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from replay.runs.artifact import GateVerdict


class Statistics(msgspec.Struct, frozen=True):
    """Of `count` values; `stddev` is the sample's, 0 of a single value."""

    count: int
    mean: float
    p50: float
    p95: float
    min: float
    max: float
    stddev: float


class Interval(msgspec.Struct, frozen=True):
    """A median, and the range that holds the true one with at least `confidence` (0 to 1)."""

    low: float
    median: float
    high: float
    confidence: float


def describe(values: Sequence[float]) -> Statistics:
    """Raises `ValueError` for no values."""
    if not values:
        raise ValueError("no values to describe")
    ordered = sorted(values)
    count = len(ordered)
    mean = _mean(ordered)
    spread = math.fsum((value - mean) ** 2 for value in ordered)
    return Statistics(
        count,
        mean,
        quantile(ordered, 0.5),
        quantile(ordered, 0.95),
        ordered[0],
        ordered[-1],
        math.sqrt(spread / (count - 1)) if count > 1 else 0.0,
    )


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Between the two values around it, linearly; `ordered` ascends and is not empty."""
    position = (len(ordered) - 1) * fraction
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The narrowest pair of order statistics around the median that is sure enough, else the
    whole range with the confidence that it has."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        raise ValueError("no values, no median")
    best = 0
    for cut in range((count - 1) // 2 + 1):
        if _coverage(count, cut) >= confidence:
            best = cut
    median = quantile(ordered, 0.5)
    return Interval(ordered[best], median, ordered[count - 1 - best], _coverage(count, best))


def without_extremes(values: Sequence[float]) -> list[float]:
    """Without the smallest and the largest; all of them where there are fewer than three."""
    return sorted(values)[1:-1] if len(values) >= 3 else sorted(values)


def judge(
    values: Sequence[float], *, at_least: float | None = None, at_most: float | None = None
) -> GateVerdict:
    """Does the mean of the values keep to the bounds?

    `inconclusive` where leaving out the fastest and the slowest turns the answer round; `unknown`
    without values.
    """
    if not values:
        return "unknown"
    kept = {
        (at_least is None or mean >= at_least) and (at_most is None or mean <= at_most)
        for mean in (_mean(values), _mean(without_extremes(values)))
    }
    if len(kept) == 2:
        return "inconclusive"
    return "passed" if kept.pop() else "failed"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _coverage(count: int, cut: int) -> float:
    """Probability that the median lies between the values `cut` from either end."""
    outside: float = sum(math.comb(count, k) for k in range(cut + 1)) / 2**count
    return max(0.0, 1.0 - 2.0 * outside)
