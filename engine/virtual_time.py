"""`VirtualTimeLoop`: an asyncio loop whose clock jumps to the next timer instead of waiting.

A whole run executes in it deterministically, and a day of provider latency takes no longer than
its callbacks. It is for work inside the process; sockets, threads and subprocesses need real time.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import math
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class DeadlockError(RuntimeError):
    """Nothing is ready, no timer is set, and the awaited work has not finished."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: where the loop would wait for its next timer, its clock jumps there."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.loop: VirtualTimeLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("every task waits and no timer is set")
        if timeout > 0 and self.loop is not None:
            self.loop.jump_to_next_timer()
        return []

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Any:
        return self._real.get_map()


class _OrderedTimer(asyncio.TimerHandle):
    """A timer that runs in the order of setting among those that are due at the same time.

    The heap of plain asyncio timers does not keep that order: any unrelated timer can change it.
    """

    __slots__ = ("serial",)
    serial: int

    def __lt__(self, other: object) -> bool:
        if isinstance(other, _OrderedTimer) and self.when() == other.when():
            return self.serial < other.serial
        return super().__lt__(other)  # type: ignore[operator]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Loop time starts at `start` seconds and moves only when nothing is ready to run.

    With `shuffle`, the callbacks that are ready in the same iteration, including due timers, run in
    an order drawn from it, to search for orders that are rare in real time.
    """

    def __init__(self, start: float = 0.0, shuffle: random.Random | None = None) -> None:
        selector = _JumpingSelector()
        self._virtual_now = start
        self._shuffle = shuffle
        self._serials = itertools.count()
        super().__init__(selector)
        self._set_time(start)
        selector.loop = self

    def time(self) -> float:
        return self._virtual_now

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        timer = _OrderedTimer(when, callback, args, self, context)
        timer.serial = next(self._serials)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def jump_to_next_timer(self) -> None:
        """Advances the time to the earliest timer, which must exist."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        self._set_time(max(self._virtual_now, scheduled[0].when()))

    def _set_time(self, now: float) -> None:
        self._virtual_now = now
        # asyncio runs the timers that are due within its resolution; make that those due now.
        self._clock_resolution = math.ulp(now)

    def _run_once(self) -> None:
        if self._shuffle is not None:
            self._collect_due_timers()
            ready = self._ready  # type: ignore[attr-defined]
            # Not copied and cleared: another thread may add a callback meanwhile.
            order = [ready.popleft() for _ in range(len(ready))]
            self._shuffle.shuffle(order)
            ready.extend(order)
        super()._run_once()  # type: ignore[misc]

    def _collect_due_timers(self) -> None:
        """Move the due timers to the ready callbacks; jump to them first if there are none."""
        ready = self._ready  # type: ignore[attr-defined]
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].cancelled():
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(scheduled)._scheduled = False
        if scheduled and not ready and not self._stopping:  # type: ignore[attr-defined]
            self.jump_to_next_timer()
        while scheduled and scheduled[0].when() <= self._virtual_now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)


def run_virtual(
    main: Coroutine[Any, Any, T], start: float = 0.0, shuffle: random.Random | None = None
) -> T:
    """Run `main` to its end under virtual time.

    Args:
        main: The coroutine.
        start: Loop time at the start, in seconds.
        shuffle: Source of the order of callbacks; None for the order of asyncio.

    Raises:
        DeadlockError: Nothing is ready and no timer is set, but `main` has not ended.
    """
    loop = VirtualTimeLoop(start, shuffle)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
