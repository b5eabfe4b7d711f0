"""A running app with its session, for tests that press keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from console.app import ConsoleApp
from console.surroundings import Surroundings
from tests.console.frames import FRAMES
from tests.console.session_double import RecordingSession

STILL = Surroundings(lambda: 0.0, tick_seconds=None)
"""Time stands still, and frames come when they are asked for."""


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Driven:
    """A running app with what tests look at."""

    app: ConsoleApp
    session: RecordingSession
    pilot: Pilot[Any]
    clock: Clock

    async def press(self, *keys: str) -> list[str]:
        """What the session was asked for by these keys."""
        before = len(self.session.calls)
        for key in keys:
            await self.pilot.press(key)
            await self.settle()
        return self.session.calls[before:]

    async def settle(self) -> None:
        await self.pilot.pause()
        await self.app.settle()
        await self.pilot.pause()

    async def tick(self, seconds: float) -> list[str]:
        before = len(self.session.calls)
        self.clock.now += seconds
        self.app.request_frame()
        await self.settle()
        return self.session.calls[before:]

    def text(self, widget: type[Any]) -> str:
        drawn = self.app.screen.query_one(widget)
        return "\n".join(strip.text for strip in drawn.render_lines(drawn.size.region))


@asynccontextmanager
async def running(
    name: str,
    size: tuple[int, int] = (120, 40),
    copies: Path | None = None,
    exports: Path = Path(),
    **options: Any,
) -> AsyncIterator[Driven]:
    session = RecordingSession(FRAMES[name]())
    clock = Clock()
    surroundings = Surroundings(clock, tick_seconds=None, copies=copies, exports=exports)
    app = ConsoleApp(session, surroundings=surroundings, **options)
    async with app.run_test(size=size) as pilot:
        driven = Driven(app, session, pilot, clock)
        await driven.settle()
        yield driven


def drive(test: Callable[[Driven], Any], name: str = "storm", **options: Any) -> None:
    async def main() -> None:
        async with running(name, **options) as driven:
            await test(driven)

    asyncio.run(main())
