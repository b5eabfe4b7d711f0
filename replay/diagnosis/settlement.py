"""`Settlement`: closes the time up to a heartbeat, once it is known in which of it the loop ran."""

from __future__ import annotations

from collections.abc import Callable

from engine.events import RunInfo
from replay.diagnosis.attribution import Attribution
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.index_sync import IndexSync
from replay.diagnosis.loop_watch import Standstill, trimmed
from replay.diagnosis.reattribution import (
    BlameKey,
    HeldBins,
    Interval,
    adjusted,
    cell_seconds,
    slot_seconds,
    take_back_open,
)
from replay.state.model import State


class Settlement:
    """Reattributes time in which the loop did not run, then publishes results that are final."""

    def __init__(
        self, run: RunInfo, parts: DiagnosisState, sync: IndexSync, attribution: Attribution
    ) -> None:
        self._run = run
        self._parts = parts
        self._sync = sync
        self._attribution = attribution
        self._known: dict[Interval, dict[BlameKey, float]] = {}
        """Of the intervals that were asked for last."""
        self._known_renames = 0

    def settle(self, state: State, now: float, open_since: float) -> bool:
        """Nothing more will be told of the time up to `now`; the open bin began at `open_since`.

        Returns:
            Whether anything was taken back, so that results have to be computed anew.
        """
        parts = self._parts
        loop = parts.loop
        loop.verdicts += parts.stalls.drain()
        standstills = loop.standstills(now)
        since = now if loop.since is None else loop.since
        if standstills:
            self._take_back(state, standstills, now, open_since)
            since = standstills[-1].end
        if loop.proves_running:
            self._attribution.prove_wakeups(state, since, now, parts.ordinal)
        for bins in loop.held:
            parts.blame.add(bins.bin, bins.rows, bins.bins)
        parts.stalls.settle(now)
        self._known = {}
        parts.cells.forget_log()
        parts.capacity.forget_log()
        loop.settle(now)
        row = loop.end_stale_group(now)
        loop.verdicts += [] if row is None else [row]
        return bool(standstills)

    def end_group(self) -> None:
        """No standstill will follow: the last of them have their verdict."""
        row = self._parts.loop.end_group()
        self._parts.loop.verdicts += [] if row is None else [row]

    def provisional_bins(self, now: float) -> list[HeldBins]:
        """Bins that may yet be taken back, without what is taken back by what is told so far."""
        loop = self._parts.loop
        known = self._known if loop.renames == self._known_renames else {}
        self._known, self._known_renames = {}, loop.renames

        def seconds_within(interval: Interval) -> dict[BlameKey, float]:
            """Computed once: each time is a walk over all that is logged since a heartbeat. What is
            past changes only by a name, or when it is settled."""
            seconds = known[interval] if interval in known else self._seconds_within(interval)
            self._known[interval] = seconds
            return seconds

        return self._adjusted(loop.standstills(now), seconds_within)

    def _take_back(
        self, state: State, standstills: list[Standstill], now: float, open_since: float
    ) -> None:
        parts = self._parts
        loop = parts.loop
        loop.held = self._adjusted(standstills, self._seconds_within)
        for standstill in standstills:
            if standstill.end > open_since:
                span = (max(standstill.start, open_since), standstill.end)
                take_back_open(parts.cells, parts.capacity, span, standstill.verdict, now)
        for standstill in standstills:
            begin, end, ordinal = standstill.start, standstill.end, standstill.ordinal
            parts.stalls.exclude(begin, end, ordinal)
            self._sync.exclude(state, begin, end, now, ordinal)
            parts.wakeups.exclude(end)
            row = loop.add_to_group(standstill)
            loop.verdicts += [] if row is None else [row]
        kept = (trimmed(row, standstills) for row in loop.verdicts)
        loop.verdicts = [row for row in kept if row is not None]

    def _adjusted(
        self,
        standstills: list[Standstill],
        seconds_within: Callable[[Interval], dict[BlameKey, float]],
    ) -> list[HeldBins]:
        intervals = [
            ((standstill.start, standstill.end), standstill.verdict) for standstill in standstills
        ]
        start = self._run.monotonic_start
        return adjusted(self._parts.loop.held, seconds_within, intervals, start)

    def _seconds_within(self, interval: Interval) -> dict[BlameKey, float]:
        cells = cell_seconds(self._parts.cells, interval)
        return cells | slot_seconds(self._parts.capacity, interval)
