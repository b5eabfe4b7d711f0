"""Series for charts: rollup rows brought to a fixed number of samples over a span of past.

Sample boundaries lie on multiples of the sample width from the run's start, so that a sample, once
past, never changes and is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from replay.state.bins import within
from replay.state.rows import RollupRow

SAMPLES_KEPT = 4096
MEANS = frozenset({"queue_depth", "in_flight", "waiters", "blocked"})
SUMS = frozenset({"rate_limited", "failed", "completed", "tasks_done", "tokens", "rows_done"})
LATENCY_P95 = "latency_p95"
"""Series of samples beside `latency`: the 95th percentile of the slowest second."""

Read = Callable[[int, int], list[RollupRow]]


@dataclass(slots=True)
class Sample:
    """One sample: `values` by (series, key); `sums` count only bins that end in this sample."""

    values: dict[tuple[str, str], float] = field(default_factory=dict)
    sums: dict[tuple[str, str], float] = field(default_factory=dict)

    def value(self, series: str, key: str) -> float:
        return self.values.get((series, key), 0.0)


@dataclass(frozen=True, slots=True)
class Samples:
    """The past of all series; the present is not among them."""

    times: tuple[float, ...]
    samples: tuple[Sample, ...]
    seconds: float
    """How much of the run's time the sums cover."""

    def total(self, series: str, key: str) -> float:
        return sum(sample.sums.get((series, key), 0.0) for sample in self.samples)

    def keys(self, series: str) -> set[str]:
        return {key for sample in self.samples for name, key in sample.values if name == series}


class Sampler:
    """Samples of one run, read through `read(first bin, last bin)` and kept while they fit."""

    def __init__(self, start: float) -> None:
        self.start = start
        self._width = 0.0
        self._kept: dict[int, Sample] = {}

    def past(self, read: Read, at: float, first: float, count: int, span: float) -> Samples:
        """`count` samples of `span / (count + 1)` each, the last ending at or just before `at`.

        `first` is the time of the first event: before it, everything is zero.
        """
        if count < 1 or span <= 0:
            return Samples((), (), 0.0)
        width = span / (count + 1)
        if width != self._width or len(self._kept) > SAMPLES_KEPT:
            self._width = width
            self._kept = {}
        last = math.floor((at - self.start) / width)
        first_bin = math.floor(first - self.start)
        numbers = range(last - count + 1, last + 1)
        missing = [number for number in numbers if number not in self._kept]
        if missing:
            self._fill(read, missing, first_bin)
        until = math.floor(last * width)
        since = max(math.floor((last - count) * width), first_bin)
        return Samples(
            tuple(self.start + number * width for number in numbers),
            tuple(self._kept[number] for number in numbers),
            float(max(0, until - since)),
        )

    def _fill(self, read: Read, missing: list[int], first_bin: int) -> None:
        width = self._width
        low = max(first_bin, math.floor((missing[0] - 1) * width) - 1)
        high = math.floor(missing[-1] * width) - 1
        rows = sorted(read(low, high) if high >= low else (), key=lambda row: -row.bin)
        begun: list[RollupRow] = []
        for number in missing:
            begin, end = math.floor((number - 1) * width), math.floor(number * width)
            longer = begin < end
            begin = max(begin, first_bin) if longer else end - 1
            begun = [row for row in begun if row.bin + row.bins > begin]
            while rows and rows[-1].bin < end:
                begun.append(rows.pop())
            self._kept[number] = _joined(within(begun, begin, end - 1), begin, end, longer)


def _joined(rows: Iterable[RollupRow], begin: int, end: int, count_sums: bool) -> Sample:
    """One sample of the bins from `begin` on and before `end`: means are averaged, a limit is the
    last one, counts add up, and a latency is that of all calls."""
    sample = Sample()
    values, sums = sample.values, sample.sums
    calls: dict[tuple[int, str], float] = {}
    latencies: list[RollupRow] = []
    for row in rows:
        key = (row.series, row.key)
        if row.series in MEANS:
            part = row.bins / (end - begin)
            values[key] = values.get(key, 0.0) + row.mean * part
        elif row.series == "cooling":
            values[key] = 1.0
        elif row.series in SUMS:
            if row.series == "completed":
                calls[row.bin, row.key] = row.mean
            if count_sums:
                sums[key] = sums.get(key, 0.0) + row.mean * row.bins
        elif row.series == "latency":
            latencies.append(row)
        elif row.series == "limit" and row.bin + row.bins == end:
            values[key] = row.last
    _join_latencies(values, latencies, calls)
    return sample


def _join_latencies(
    values: dict[tuple[str, str], float],
    rows: list[RollupRow],
    calls: dict[tuple[int, str], float],
) -> None:
    """The mean of each resource over its `calls` in all bins, and the highest 95th percentile."""
    weighted = [(row, max(1.0, calls.get((row.bin, row.key), 1.0))) for row in rows]
    totals: dict[str, float] = {}
    for row, weight in weighted:
        totals[row.key] = totals.get(row.key, 0.0) + weight
    for row, weight in weighted:
        mean, high = ("latency", row.key), (LATENCY_P95, row.key)
        values[mean] = values.get(mean, 0.0) + row.mean * (weight / totals[row.key])
        values[high] = max(values.get(high, 0.0), row.last)
