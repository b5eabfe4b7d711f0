"""Acquiring from another thread: the wait runs on the loop, the thread blocks for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from engine.request_admission.types import (
    RequestAdmissionDenied,
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
)


def acquire_on_loop(
    loop: asyncio.AbstractEventLoop,
    item: RequestAdmissionItem,
    acquire: Callable[[RequestAdmissionItem], Awaitable[RequestAdmissionLease]],
    give_back: Callable[[RequestAdmissionLease], object],
) -> RequestAdmissionLease:
    """Run `acquire(item)` on the loop and block this thread until its result.

    If the thread is interrupted meanwhile, the lease is released.

    Args:
        acquire: Coroutine function that waits for the lease.
        give_back: Releases a lease that the thread does not take.

    Raises:
        RuntimeError: This is the thread of the loop, or the loop does not run.
    """
    if _runs_here(loop):
        raise RuntimeError("acquire_sync would block the event loop; use acquire_async")
    if not loop.is_running():
        raise RuntimeError("acquire_sync needs the running event loop of its controller")
    handoff: Future[RequestAdmissionLease] = Future()
    tasks: list[asyncio.Task[None]] = []

    async def deliver() -> None:
        try:
            lease = await acquire(item)
        except asyncio.CancelledError:
            denial = RequestAdmissionDenied(item, "cancellation")
            if handoff.set_running_or_notify_cancel():
                handoff.set_exception(RequestAdmissionError(denial))
            raise
        except Exception as error:
            if handoff.set_running_or_notify_cancel():
                handoff.set_exception(error)
        else:
            if handoff.set_running_or_notify_cancel():
                handoff.set_result(lease)
            else:
                give_back(lease)

    def start() -> None:
        tasks.append(loop.create_task(deliver()))

    def stop() -> None:
        for task in tasks:
            task.cancel()

    loop.call_soon_threadsafe(start)
    try:
        return handoff.result()
    except BaseException:
        if handoff.cancel():
            loop.call_soon_threadsafe(stop)
        elif handoff.exception() is None:
            loop.call_soon_threadsafe(give_back, handoff.result())
        raise


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
