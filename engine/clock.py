"""The one clock of a run. Everything in the core takes time from here."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds, as two scales: monotonic for intervals, wall (Unix epoch) for people."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class LoopClock:
    """Time of the running event loop, so that a virtual-time loop drives the whole run.

    `wall` is the wall-clock start plus elapsed loop time: it never jumps.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_start: float | None = None) -> None:
        self._loop = loop
        self._monotonic_start = loop.time()
        self._wall_start = time.time() if wall_start is None else wall_start

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._wall_start + (self._loop.time() - self._monotonic_start)
