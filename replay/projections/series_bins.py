"""`SeriesBins`: piecewise-constant values and counts, written as rows of one-second bins.

A value that does not change costs one row for a stretch of bins, and nothing for each of its
seconds. Only series that change within a bin get a row of their own for it.
"""

from __future__ import annotations

import math

import msgspec

from replay.projections.latency_histogram import LatencyHistogram
from replay.state.bins import LONGEST_STRETCH, bin_end, bin_of
from replay.state.rows import RollupRow

MAX_SILENT_BINS = 3600
"""Over a longer silence no series is written: the time was not observed."""


class Series(msgspec.Struct, array_like=True):
    """One piecewise-constant value. The first three are of the current bin, once it has changed in
    it; before that it has been `value` since the bin `since` began."""

    at: float
    value: float = 0.0
    integral: float = 0.0
    peak: float = 0.0
    changed: bool = False
    since: int = 0


class Cooldown(msgspec.Struct, array_like=True):
    """The cooldown of one resource: up to when it is counted, its end, and its part of this bin."""

    at: float
    until: float | None = None
    seconds: float = 0.0


class RollupState(msgspec.Struct):
    """All that a `Rollup` keeps between two events."""

    version: int = 0
    bin: int | None = None
    stretches_end: int = 0
    """Open stretches are written when this bin begins."""
    series: dict[str, dict[str, Series]] = {}
    cooldowns: dict[str, Cooldown] = {}
    counts: dict[str, dict[str, float]] = {}
    counted: dict[str, dict[str, int]] = {}
    """Running totals when last seen, by series and key; `counts` is what the bin has gained."""
    calls: dict[str, LatencyHistogram] = {}
    """By request resource, of the current bin."""
    blocked_by: str | None = None
    before_bin: int = 0
    """Ordinal of the last event before the current bin."""
    orphans: int = 0


class SeriesBins:
    """Writes the rows of all series. Everything in `rollup` is its own but `blocked_by` and
    `orphans`.

    Each bin has three sources of rows: values that changed in it, values that did not (as part of a
    stretch), and counts and times of calls, which begin anew in every bin.
    """

    def __init__(self, start: float, rollup: RollupState) -> None:
        self.rows: list[RollupRow] = []
        """Not yet drained."""
        self.rollup = rollup
        self.now = 0.0
        """Monotonic time of the current event, at which `set_value` changes a value."""
        self._start = start
        self.end = -math.inf if rollup.bin is None else bin_end(start, rollup.bin)
        """End of the current bin: `advance` must see the first event from here on."""
        self._changed = {
            (name, key): series
            for name, by_key in rollup.series.items()
            for key, series in by_key.items()
            if series.changed
        }
        """Series that have changed in the current bin."""

    def drain(self) -> list[RollupRow]:
        rows, self.rows = self.rows, []
        return rows

    def open_rows(self) -> list[RollupRow]:
        """Stretches that may go on, up to the end of the last closed bin."""
        now = self.rollup.bin
        return [] if now is None else self._stretches(now)

    def forget_stretches(self) -> None:
        """Begin all stretches at the current bin; those before it are written already."""
        for by_key in self.rollup.series.values():
            for series in by_key.values():
                series.since = max(series.since, self.rollup.bin or 0)

    def end_values(self) -> None:
        """No value goes on behind the last closed bin, and no cooldown."""
        for by_key in self.rollup.series.values():
            for series in by_key.values():
                series.value = 0.0
        for cooldown in self.rollup.cooldowns.values():
            cooldown.until = None

    def set_cooldown(self, key: str, until: float | None) -> None:
        cooldown = self.rollup.cooldowns.get(key)
        if cooldown is None:
            if until is None:
                return
            cooldown = self.rollup.cooldowns[key] = Cooldown(self.now)
        if cooldown.until != until:
            self._run_cooldown(cooldown, self.now)
            cooldown.until = until

    def set_value(self, name: str, key: str, value: float) -> None:
        """From `now` on this series has this value."""
        rollup = self.rollup
        by_key = rollup.series.get(name)
        if by_key is None:
            by_key = rollup.series[name] = {}
        series = by_key.get(key)
        if series is None:
            if not value:
                return
            series = by_key[key] = Series(self.now, changed=True)
            self._changed[name, key] = series
        if series.value != value:
            now = self.now
            if series.changed:
                series.integral += series.value * (now - series.at)
            else:
                self._begin_change(name, key, series)
            series.at = now
            series.value = value
            if value > series.peak:
                series.peak = value

    def count(self, name: str, key: str, total: int) -> None:
        """Count what a running total has gained."""
        counted = self.rollup.counted.setdefault(name, {})
        gained = total - counted.get(key, 0)
        if gained:
            counted[key] = total
            counts = self.rollup.counts.setdefault(name, {})
            counts[key] = counts.get(key, 0.0) + gained

    def time_call(self, key: str, seconds: float) -> None:
        """A call to this resource came back well after so many seconds."""
        times = self.rollup.calls.get(key)
        if times is None:
            times = self.rollup.calls[key] = LatencyHistogram()
        times.add(seconds)

    def advance(self, last: float, now: float, ordinal: int) -> None:
        """Close bins until the current bin holds `now`, the time of event `ordinal`.

        `last` is the time of the event before it.
        """
        rollup = self.rollup
        target = bin_of(now - self._start)
        if rollup.bin is None:
            rollup.bin = target
            rollup.stretches_end = target + LONGEST_STRETCH
            rollup.before_bin = ordinal - 1
        elif target - rollup.bin > MAX_SILENT_BINS:
            self.close_last_bin(last, ordinal - 1)
            rollup.bin = target
            self._restart(now)
        elif target > rollup.bin:
            self._close_bin(bin_end(self._start, rollup.bin), ordinal - 1)
            rollup.bin += 1
            self._pass_unchanged(target)
            if target >= rollup.stretches_end:
                self._end_stretches()
                rollup.stretches_end = target + LONGEST_STRETCH
        self.end = bin_end(self._start, rollup.bin)

    def close_last_bin(self, end: float, last_ordinal: int) -> None:
        """Close the current bin at `end`, in its middle: no event follows."""
        self._end_stretches()
        number = self.rollup.bin
        assert number is not None
        for name, by_key in self.rollup.series.items():
            for key, series in by_key.items():
                if series.value and not series.changed:
                    self._give_row(name, key, series, self._start + number)
        self._close_bin(end, last_ordinal)

    def _begin_change(self, name: str, key: str, series: Series) -> None:
        """The value is about to change, for the first time in this bin."""
        number, before = self.rollup.bin, series.value
        assert number is not None
        if before and series.since < number:
            self.rows.append(
                RollupRow(series.since, name, key, before, before, before, number - series.since)
            )
        begin = self._start + number
        self._give_row(name, key, series, begin)
        series.integral = before * max(0.0, self.now - begin)

    def _give_row(self, name: str, key: str, series: Series, at: float) -> None:
        """The current bin gets a row of its own; of this value from `at` on."""
        series.at, series.integral, series.peak, series.changed = at, 0.0, series.value, True
        self._changed[name, key] = series

    def _pass_unchanged(self, target: int) -> None:
        """Pass bins in which nothing changes, except that cooldowns end."""
        rollup = self.rollup
        assert rollup.bin is not None
        now = rollup.bin
        ends = {
            bin_of(cooldown.until - self._start)
            for cooldown in rollup.cooldowns.values()
            if cooldown.until is not None
        }
        for stop in (*sorted(stop for stop in ends if now <= stop < target), target):
            self._cool_whole_bins(stop)
            if stop < target:
                self._close_cooldowns(bin_end(self._start, stop))
                rollup.bin = stop + 1

    def _cool_whole_bins(self, target: int) -> None:
        """Write whole bins, in which a resource cools down all the time or not at all."""
        rollup = self.rollup
        first = rollup.bin
        assert first is not None
        if target > first:
            until = bin_end(self._start, target - 1)
            for key, cooldown in rollup.cooldowns.items():
                if cooldown.until is not None and cooldown.until >= until:
                    self.rows.append(
                        RollupRow(first, "cooling", key, 1.0, 1.0, 1.0, target - first)
                    )
                cooldown.at = until
            rollup.bin = target

    def _run_cooldown(self, cooldown: Cooldown, now: float) -> None:
        if cooldown.until is not None:
            cooldown.seconds += max(0.0, min(now, cooldown.until) - cooldown.at)
        cooldown.at = now

    def _restart(self, now: float) -> None:
        """Continue after an unobserved silence as if each value had begun at `now`."""
        rollup = self.rollup
        number = rollup.bin
        assert number is not None
        rollup.stretches_end = number + LONGEST_STRETCH
        for name, by_key in rollup.series.items():
            for key, series in by_key.items():
                series.since = number
                if series.value:
                    self._give_row(name, key, series, now)
        for cooldown in rollup.cooldowns.values():
            cooldown.at = now

    def _end_stretches(self) -> None:
        """Write the stretches of all unchanged values up to the current bin."""
        now = self.rollup.bin
        assert now is not None
        self.rows += self._stretches(now)
        for by_key in self.rollup.series.values():
            for series in by_key.values():
                series.since = max(series.since, now)

    def _stretches(self, now: int) -> list[RollupRow]:
        return [
            RollupRow(
                series.since,
                name,
                key,
                series.value,
                series.value,
                series.value,
                now - series.since,
            )
            for name, by_key in self.rollup.series.items()
            for key, series in by_key.items()
            if series.value and not series.changed and series.since < now
        ]

    def _close_bin(self, end: float, last_ordinal: int) -> None:
        """Write the rows of the current bin, with every value held until `end`."""
        rollup, rows = self.rollup, self.rows
        number = rollup.bin
        assert number is not None
        for (name, key), series in sorted(self._changed.items()):
            value = series.value
            integral = series.integral + value * max(0.0, end - series.at)
            rows.append(RollupRow(number, name, key, integral, value, series.peak))
            series.changed = False
            series.since = number + 1
        self._changed = {}
        self._close_cooldowns(end)
        if last_ordinal > rollup.before_bin:
            amount = float(last_ordinal - rollup.before_bin)
            rows.append(RollupRow(number, "events", "", amount, amount, amount))
            rollup.before_bin = last_ordinal
        for name, counts in rollup.counts.items():
            for key, amount in counts.items():
                rows.append(RollupRow(number, name, key, amount, amount, amount))
        rollup.counts = {}
        for key, times in rollup.calls.items():
            rows.append(
                RollupRow(number, "latency", key, times.mean, times.high_quantile, times.longest)
            )
        rollup.calls = {}

    def _close_cooldowns(self, end: float) -> None:
        number = self.rollup.bin
        assert number is not None
        for key, cooldown in self.rollup.cooldowns.items():
            self._run_cooldown(cooldown, end)
            if cooldown.seconds > 0:
                last = float(cooldown.until is not None and cooldown.until >= end)
                self.rows.append(RollupRow(number, "cooling", key, cooldown.seconds, last, 1.0))
                cooldown.seconds = 0.0
