"""What request admission costs, in real time: `python tests/bench/request_waiters.py [--quick]`.

1. 1,000 requests of 50 ms behind a cap of 32, through the controller and behind a bare
   `asyncio.Semaphore(32)`, in interleaved pairs: ratio of the medians, at most 1.05.
2. A healthy provider's calls per second (calls of 10 ms, cap 32) with 256 waiters on a cooling
   provider and with none, in interleaved pairs: ratio of the medians, at least 0.95. And the same
   with calls that take no time, per second of CPU: what is left when the loop itself is the limit.
3. Microseconds for one acquire and release, fresh and after many requests, stream disabled.

Exits 1 where 1 or 2 does not hold.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from engine.clock import LoopClock
from engine.events import EventStream
from engine.identity import RequestResourceKey
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import RequestAdmissionItem, RequestReleaseOutcome

HEALTHY = RequestResourceKey("beta", "m", "chat")
COOLING = RequestResourceKey("alpha", "m", "chat")
SUCCESS = RequestReleaseOutcome("success")
CAP = 32


def controller_on_this_loop() -> AdaptiveRequestAdmissionController:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    stream = EventStream(clock, "bench")
    controller = AdaptiveRequestAdmissionController(stream=stream, clock=clock, loop=loop)
    controller.register(HEALTHY, CAP, "healthy")
    controller.register(COOLING, CAP, "cooling")
    return controller


async def through_controller(requests: int) -> float:
    controller = controller_on_this_loop()
    item = RequestAdmissionItem(HEALTHY)

    async def call() -> None:
        lease = await controller.acquire_async(item)
        try:
            await asyncio.sleep(0.05)
        finally:
            controller.release(lease, SUCCESS)

    return await seconds_for(call, requests)


async def through_semaphore(requests: int) -> float:
    gate = asyncio.Semaphore(CAP)

    async def call() -> None:
        async with gate:
            await asyncio.sleep(0.05)

    return await seconds_for(call, requests)


async def seconds_for(call: Callable[[], Coroutine[Any, Any, None]], requests: int) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(requests)))
    return time.perf_counter() - started


async def healthy_rate(waiters: int, seconds: float, latency: float) -> tuple[float, float]:
    """Calls of a provider per second, and per second of CPU."""
    controller = controller_on_this_loop()
    blocker = await controller.acquire_async(RequestAdmissionItem(COOLING))
    controller.release(blocker, RequestReleaseOutcome("rate_limited", 3600.0))
    loop = asyncio.get_running_loop()
    cooling = RequestAdmissionItem(COOLING)
    waits = [loop.create_task(controller.acquire_async(cooling)) for _ in range(waiters)]
    item = RequestAdmissionItem(HEALTHY)
    until = loop.time() + seconds
    calls = 0

    async def caller() -> None:
        nonlocal calls
        while loop.time() < until:
            lease = await controller.acquire_async(item)
            await asyncio.sleep(latency)
            controller.release(lease, SUCCESS)
            calls += 1

    started, cpu_started = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(2 * CAP)))
    rate = calls / (time.perf_counter() - started)
    cpu_rate = calls / (time.process_time() - cpu_started)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return rate, cpu_rate


def beside_cooling_waiters(pairs: int, latency: float, which: int) -> tuple[float, float]:
    """Medians of one of the rates with 256 cooling waiters and with none, in alternating order."""
    rates: dict[int, list[float]] = {256: [], 0: []}
    for pair in range(pairs):
        for waiters in (256, 0) if pair % 2 else (0, 256):
            rates[waiters].append(asyncio.run(healthy_rate(waiters, 0.5, latency))[which])
    return statistics.median(rates[256]), statistics.median(rates[0])


async def microseconds_per_lease(earlier: int) -> tuple[float, float]:
    """(fresh, after `earlier` requests), for an acquire and a release without a wait."""
    controller = controller_on_this_loop()
    item = RequestAdmissionItem(HEALTHY)

    async def measure() -> float:
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(4000):
                controller.release(await controller.acquire_async(item), SUCCESS)
            best = min(best, (time.perf_counter() - started) / 4000)
        return best * 1e6

    fresh = await measure()
    for _ in range(earlier):
        controller.release(await controller.acquire_async(item), SUCCESS)
    return fresh, await measure()


def main(quick: bool) -> int:
    pairs = 3 if quick else 7
    with_controller, with_semaphore = [], []
    for _ in range(pairs):
        with_controller.append(asyncio.run(through_controller(1000)))
        with_semaphore.append(asyncio.run(through_semaphore(1000)))
    ours, bare = statistics.median(with_controller), statistics.median(with_semaphore)
    print(f"1,000 requests x 50 ms, cap {CAP}: {ours:.3f} s, bare semaphore {bare:.3f} s")
    print(f"  ratio {ours / bare:.3f} (at most 1.05)")

    rate, rate_alone = beside_cooling_waiters(pairs, 0.01, 0)
    print(
        f"healthy provider: {rate:,.0f} calls/s beside 256 cooling waiters, {rate_alone:,.0f} alone"
    )
    print(f"  ratio {rate / rate_alone:.3f} (at least 0.95)")
    cpu_rate, cpu_rate_alone = beside_cooling_waiters(pairs, 0.0, 1)
    print(
        f"  calls of no time: {cpu_rate:,.0f} per CPU second, {cpu_rate_alone:,.0f} alone,", end=" "
    )
    print(f"ratio {cpu_rate / cpu_rate_alone:.3f}")

    earlier = 10_000 if quick else 100_000
    fresh, later = asyncio.run(microseconds_per_lease(earlier))
    print(f"acquire and release: {fresh:.1f} us fresh, {later:.1f} us after {earlier:,} requests")
    return 0 if ours / bare <= 1.05 and rate / rate_alone >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv[1:]))
