from __future__ import annotations

import asyncio
import random

import pytest

from engine.clock import LoopClock
from engine.virtual_time import DeadlockError, VirtualTimeLoop, run_virtual


def test_time_starts_where_told_and_moves_by_what_is_slept() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        for seconds in (0.1, 0.2, 3600.0, 1e-6):
            await asyncio.sleep(seconds)
            times.append(loop.time())
        return times

    assert run_virtual(main(), start=5.0) == [
        5.0,
        5.1,
        5.1 + 0.2,
        5.1 + 0.2 + 3600.0,
        5.1 + 0.2 + 3600.0 + 1e-6,
    ]


@pytest.mark.parametrize("shuffle", [None, random.Random(3)])
def test_each_timer_fires_at_its_exact_time_in_order(shuffle: random.Random | None) -> None:
    async def main() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[float, float]] = []

        def fire(due: float) -> None:
            fired.append((due, loop.time()))

        delays = [((i * 7919) % 1000) * 0.05 for i in range(1000)]
        for delay in delays:
            loop.call_at(delay, fire, delay)
        await asyncio.sleep(60)
        return fired

    fired = run_virtual(main(), shuffle=shuffle)
    assert len(fired) == 1000
    assert all(due == at for due, at in fired)
    assert [due for due, _ in fired] == sorted(due for due, _ in fired)


def test_timers_a_hair_apart_do_not_fire_together() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        fired: list[float] = []
        for when in (1.0, 1.0 + 2e-10):
            loop.call_at(when, lambda: fired.append(loop.time()))
        await asyncio.sleep(2)
        return fired

    assert run_virtual(main()) == [1.0, 1.0 + 2e-10]


@pytest.mark.parametrize("shuffle", [None, random.Random(3)])
def test_long_waits_and_large_clock_values(shuffle: random.Random | None) -> None:
    async def main() -> float:
        for _ in range(3):
            await asyncio.sleep(0.25)
        await asyncio.sleep(40 * 86_400)
        return asyncio.get_running_loop().time()

    assert run_virtual(main(), start=1e9, shuffle=shuffle) == 1e9 + 0.75 + 40 * 86_400


def test_cancelled_timers_do_not_move_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(100, print).cancel()
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 2)
        return loop.time()

    assert run_virtual(main()) == 3.0
    assert run_virtual(main(), shuffle=random.Random(1)) == 3.0


@pytest.mark.parametrize("shuffle", [None, random.Random(3)])
def test_waiting_for_nothing_is_a_deadlock(shuffle: random.Random | None) -> None:
    cleaned_up = []

    async def main() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned_up.append(True)

    with pytest.raises(DeadlockError):
        run_virtual(main(), shuffle=shuffle)
    assert cleaned_up == [True]


def test_ready_callbacks_run_in_order_without_shuffle() -> None:
    assert _order_of_callbacks(None) == list(range(20))


def test_shuffle_is_an_order_of_the_same_callbacks_drawn_from_the_seed() -> None:
    first, again = (_order_of_callbacks(random.Random(7)) for _ in range(2))
    other = _order_of_callbacks(random.Random(8))
    assert first == again
    assert sorted(first) == sorted(other) == list(range(20))
    assert first != list(range(20))
    assert first != other


def test_timers_due_together_fire_in_the_order_they_were_set() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        fired: list[int] = []
        for number in range(50):
            loop.call_at(1.0, fired.append, number)
            loop.call_at(0.5 + number % 7 / 100, int)
        await asyncio.sleep(2)
        return fired

    assert run_virtual(main()) == list(range(50))


def test_shuffle_mixes_timers_due_together() -> None:
    async def main() -> list[int]:
        fired: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_at(1.0, fired.append, number)
        await asyncio.sleep(2)
        return fired

    shuffled = run_virtual(main(), shuffle=random.Random(7))
    assert shuffled == run_virtual(main(), shuffle=random.Random(7))
    assert sorted(shuffled) == list(range(20))
    assert shuffled != run_virtual(main(), shuffle=random.Random(8))


def test_the_clock_of_a_run_follows_virtual_time() -> None:
    async def main() -> tuple[float, float]:
        clock = LoopClock(asyncio.get_running_loop(), wall_start=1000.0)
        await asyncio.sleep(7)
        return clock.monotonic(), clock.wall()

    assert run_virtual(main(), start=3.0) == (10.0, 1007.0)


def test_an_error_of_the_main_task_comes_out() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        run_virtual(main())


def test_the_loop_closes_cleanly() -> None:
    loop = VirtualTimeLoop()
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()
    assert loop.is_closed()


def _order_of_callbacks(shuffle: random.Random | None) -> list[int]:
    async def main() -> list[int]:
        order: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_soon(order.append, number)
        await asyncio.sleep(1)
        return order

    return run_virtual(main(), shuffle=shuffle)
