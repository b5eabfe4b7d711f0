"""How a limit finds what a provider can carry, under virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import Literal, NamedTuple

from engine.clock import LoopClock
from engine.events import EventStream
from engine.identity import RequestResourceKey
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import RequestAdmissionItem, RequestReleaseOutcome
from engine.virtual_time import run_virtual

CHAT = RequestResourceKey("alpha", "m", "chat")
CAP = 32


class Result(NamedTuple):
    done_by_20_seconds: list[int]
    rate_limited: int


class Provider:
    """Refuses what goes beyond its capacity, and everything during the storm."""

    def __init__(self, capacity: int, storm: tuple[float, float] | None) -> None:
        self.capacity = capacity
        self.storm = storm
        self.in_flight = 0
        self.random = random.Random(5)

    async def call(self, now: float) -> bool:
        stormy = self.storm is not None and self.storm[0] <= now < self.storm[1]
        if stormy or self.in_flight >= self.capacity:
            await asyncio.sleep(0.02)
            return False
        self.in_flight += 1
        await asyncio.sleep(self.random.lognormvariate(-0.08, 0.4))
        self.in_flight -= 1
        return True


def run(
    recovery: Literal["published", "adaptive"],
    capacity: int,
    seconds: int,
    storm: tuple[float, float] | None = None,
) -> Result:
    """Three tasks for each unit of the cap, calls of one second on average."""

    async def main() -> Result:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, 0)
        controller = AdaptiveRequestAdmissionController(
            stream=EventStream(clock, "run"),
            clock=clock,
            loop=loop,
            config=RequestAdmissionConfig(recovery=recovery),
        )
        controller.register(CHAT, CAP, "writer")
        provider = Provider(capacity, storm)
        done = [0] * (seconds // 20 + 2)
        rate_limited = 0

        async def work() -> None:
            nonlocal rate_limited
            while loop.time() < seconds:
                lease = await controller.acquire_async(RequestAdmissionItem(CHAT))
                if await provider.call(loop.time()):
                    done[int(loop.time() // 20)] += 1
                    controller.release(lease, RequestReleaseOutcome("success"))
                else:
                    rate_limited += 1
                    controller.release(lease, RequestReleaseOutcome("rate_limited"))

        await asyncio.gather(*(work() for _ in range(3 * CAP)))
        return Result(done[: seconds // 20], rate_limited)

    return run_virtual(main())


def test_the_rate_comes_within_a_tenth_of_what_the_provider_carries() -> None:
    capacity, seconds = 20, 800
    adaptive = run("adaptive", capacity, seconds)
    published = run("published", capacity, seconds)
    second_half = adaptive.done_by_20_seconds[len(adaptive.done_by_20_seconds) // 2 :]
    assert sum(second_half) / (seconds / 2) >= 0.9 * capacity
    assert sum(adaptive.done_by_20_seconds) > 1.1 * sum(published.done_by_20_seconds)
    assert adaptive.rate_limited < published.rate_limited


def test_a_storm_is_over_soon_after_it_has_passed() -> None:
    storm = (20.0, 60.0)
    adaptive = run("adaptive", CAP, 240, storm)
    published = run("published", CAP, 240, storm)

    def recovered_after(result: Result) -> int:
        """20-second steps from the end of the storm to nine tenths of the full rate."""
        return next(
            step - 3
            for step in range(3, len(result.done_by_20_seconds))
            if result.done_by_20_seconds[step] >= 0.9 * 20 * CAP
        )

    assert recovered_after(adaptive) < recovered_after(published)
