"""`Clock`: the source of time of a run. The engine reads time from nothing else."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Two scales in seconds: monotonic for intervals, wall (since the Unix epoch) for people."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences have a meaning."""

    def wall(self) -> float:
        """Seconds since the epoch."""


class ShiftedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time begins at `start`, where an earlier part of a run has left it."""

    def __init__(self, start: float) -> None:
        self._shift = start - time.monotonic()
        super().__init__()

    def time(self) -> float:
        return time.monotonic() + self._shift


class LoopClock:
    """Time of the running event loop, so that a virtual-time loop drives the whole run.

    `wall` is the wall time at the start plus the elapsed loop time, so that it never jumps.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_start: float | None = None) -> None:
        self._loop = loop
        self._monotonic_start = loop.time()
        self._wall_start = time.time() if wall_start is None else wall_start

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._wall_start + (self._loop.time() - self._monotonic_start)
