"""`WallClock`: which time of the wall belongs to a time of the run, across its interruptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.events import RunInfo


class UnbrokenStretch(NamedTuple):
    """Part of a run without an interruption."""

    since: float
    """Seconds of the producer's clock."""
    until: float
    wall: float
    """Unix seconds at `since`."""


class WallClock:
    """Joins the producer's clock, which stands still while a run is interrupted, with Unix time.

    Args:
        run: Says what time it was at the start of its clock.
        resumptions: When it went on, in seconds of that clock and in Unix seconds, in order.
    """

    def __init__(self, run: RunInfo, resumptions: Sequence[tuple[float, float]] = ()) -> None:
        began = run.wall_start
        self._parts = [] if began is None else [(run.monotonic_start, began), *resumptions]

    def at(self, seconds: float) -> float | None:
        """Unix seconds at a time of the producer's clock; None where they are not known."""
        for since, wall in reversed(self._parts):
            if seconds >= since:
                return wall + seconds - since
        if not self._parts:
            return None
        since, wall = self._parts[0]
        return wall + seconds - since

    def stretches(self, first: float, last: float) -> Iterator[UnbrokenStretch]:
        """The parts between two times of the producer's clock."""
        for number, (since, wall) in enumerate(self._parts):
            more = number + 1 < len(self._parts)
            begin = first if number == 0 else max(first, since)
            end = min(last, self._parts[number + 1][0]) if more else last
            if begin <= end:
                yield UnbrokenStretch(begin, end, wall + begin - since)
