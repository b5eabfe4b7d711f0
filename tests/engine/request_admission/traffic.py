"""Providers that refuse, and what request admission gets out of them, under virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Literal, NamedTuple

from engine.clock import LoopClock
from engine.events import EventStream
from engine.identity import RequestResourceKey
from engine.request_admission.config import RecoveryPolicy, RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    RequestAdmissionItem,
    RequestGroupSpec,
    RequestReleaseOutcome,
)
from engine.virtual_time import run_virtual

CHAT = RequestResourceKey("alpha", "m", "chat")
CAP = 32
REJECTION_SECONDS = 0.02
SUCCESS = RequestReleaseOutcome("success")
Latencies = Literal["constant", "lognormal", "heavy"]

Serves = Callable[[float, int], bool]
"""(now, calls it is serving) -> does it take one more?"""


def serves_at_most(capacity: int, storm_until: float = 0.0) -> Serves:
    """So many calls at once, and none at all until the storm has passed."""
    return lambda now, serving: now >= storm_until and serving < capacity


def latency(distribution: Latencies, mean: float, source: random.Random) -> Callable[[], float]:
    """Seconds of one call; lognormal with a sigma of 0.4, or 1 for a heavy tail."""
    if distribution == "constant":
        return lambda: mean
    sigma = 0.4 if distribution == "lognormal" else 1.0
    mu = math.log(mean) - sigma * sigma / 2
    return lambda: source.lognormvariate(mu, sigma)


class Case(NamedTuple):
    """One provider under more demand than it carries. Times are seconds."""

    capacity: int
    round_trip: float = 1.0
    retry_after: float | None = None
    latencies: Latencies = "lognormal"
    seed: int = 0
    storm: float = 0.0
    """All is refused for so long; round trips count from its end."""
    recovery: RecoveryPolicy = "adaptive"
    first_trip: int = 20
    last_trip: int = 200


class Measured(NamedTuple):
    """From the first to the last round trip, as shares."""

    goodput: float
    """Answers outside cooldowns, of what the provider can give in that time; 0 where all of it
    was cooldown."""
    refused: float
    """Attempts answered with a 429."""
    cooling: float
    """Time in cooldowns."""
    overall: float
    """Answers, of what the provider can give in the whole time."""


class _Count:
    answered = 0
    answered_outside = 0
    attempts = 0
    refused = 0
    cooling = 0.0
    blocked_until = 0.0
    serving = 0


def measure(case: Case) -> Measured:
    """Three callers for each unit of the cap call without a pause."""
    begin = case.storm + case.first_trip * case.round_trip
    end = case.storm + case.last_trip * case.round_trip
    serves = serves_at_most(case.capacity, case.storm)

    async def main() -> Measured:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, 0)
        admission = AdaptiveRequestAdmissionController(
            stream=EventStream(clock, "run"),
            clock=clock,
            loop=loop,
            config=RequestAdmissionConfig(recovery=case.recovery),
        )
        admission.register(CHAT, CAP, "writer")
        seconds = latency(case.latencies, case.round_trip, random.Random(case.seed))
        rate_limited = RequestReleaseOutcome("rate_limited", case.retry_after)
        count = _Count()

        def note_cooldown(now: float) -> None:
            pressure = admission.pressure.snapshot(CHAT)
            assert pressure is not None
            until = pressure.blocked_until_monotonic or 0.0
            since = max(now, count.blocked_until, begin)
            count.cooling += max(0.0, min(until, end) - since)
            count.blocked_until = max(count.blocked_until, until)

        async def caller() -> None:
            while loop.time() < end:
                lease = await admission.acquire_async(RequestAdmissionItem(CHAT))
                started = loop.time()
                taken = serves(started, count.serving)
                if taken:
                    count.serving += 1
                    await asyncio.sleep(seconds())
                    count.serving -= 1
                else:
                    await asyncio.sleep(REJECTION_SECONDS)
                now = loop.time()
                admission.release(lease, SUCCESS if taken else rate_limited)
                if not taken:
                    note_cooldown(now)
                count.attempts += begin <= started < end
                count.refused += not taken and begin <= started < end
                if taken and begin <= now < end:
                    count.answered += 1
                    count.answered_outside += now >= count.blocked_until

        await asyncio.gather(*(caller() for _ in range(3 * CAP)))
        admission.shutdown()
        per_second = case.capacity / case.round_trip
        outside = end - begin - count.cooling
        return Measured(
            count.answered_outside / (outside * per_second) if outside > 1e-9 else 0.0,
            count.refused / max(1, count.attempts),
            count.cooling / (end - begin),
            count.answered / ((end - begin) * per_second),
        )

    return run_virtual(main())


def answers_per_step(
    serves: Serves, recovery: RecoveryPolicy, seconds: int, step: int, seed: int = 0
) -> list[int]:
    """Answers in each step of so many seconds; calls of one second on average, no retry-after."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, 0)
        admission = AdaptiveRequestAdmissionController(
            stream=EventStream(clock, "run"),
            clock=clock,
            loop=loop,
            config=RequestAdmissionConfig(recovery=recovery),
        )
        admission.register(CHAT, CAP, "writer")
        duration = latency("lognormal", 1.0, random.Random(seed))
        answered = [0] * (seconds // step + 100)
        serving = 0

        async def caller() -> None:
            nonlocal serving
            while loop.time() < seconds:
                lease = await admission.acquire_async(RequestAdmissionItem(CHAT))
                if serves(loop.time(), serving):
                    serving += 1
                    await asyncio.sleep(duration())
                    serving -= 1
                    answered[int(loop.time() // step)] += 1
                    admission.release(lease, SUCCESS)
                else:
                    await asyncio.sleep(REJECTION_SECONDS)
                    admission.release(lease, RequestReleaseOutcome("rate_limited"))

        await asyncio.gather(*(caller() for _ in range(3 * CAP)))
        admission.shutdown()
        return answered[: seconds // step]

    return run_virtual(main())


def shares(weights: tuple[float, ...], domains: bool, capacity: int, seed: int) -> list[float]:
    """Answers of each group over 200 s, per unit of its weight. The groups share one cap (with
    `domains`, one aggregate cap over two domains), and the provider refuses what is beyond its
    capacity. The first group has by far the most callers."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, 0)
        admission = AdaptiveRequestAdmissionController(
            stream=EventStream(clock, "run"), clock=clock, loop=loop
        )
        admission.register(CHAT, CAP, "writer")
        other = RequestResourceKey("alpha", "m", "embedding") if domains else CHAT
        admission.register(other, CAP, "vectors")
        duration = latency("lognormal", 1.0, random.Random(seed))
        answered = [0] * len(weights)
        serving = 0

        async def caller(group: int) -> None:
            nonlocal serving
            resource = CHAT if group == 0 else other
            spec = RequestGroupSpec(f"group {group}", weights[group])
            while loop.time() < 200.0:
                lease = await admission.acquire_async(RequestAdmissionItem(resource, spec))
                if serving >= capacity:
                    await asyncio.sleep(REJECTION_SECONDS)
                    admission.release(lease, RequestReleaseOutcome("rate_limited"))
                    continue
                serving += 1
                await asyncio.sleep(duration())
                serving -= 1
                answered[group] += 1
                admission.release(lease, SUCCESS)

        callers = [caller(0) for _ in range(8 * CAP)]
        callers += [caller(group) for group in range(1, len(weights)) for _ in range(CAP)]
        await asyncio.gather(*callers)
        admission.shutdown()
        return [count / weight for count, weight in zip(answered, weights, strict=True)]

    return run_virtual(main())


def jain_index(values: list[float]) -> float:
    """1 where all are equal, 1/n where one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))
