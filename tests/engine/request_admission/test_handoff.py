"""Acquiring from another thread."""

from __future__ import annotations

import asyncio

import pytest

from engine.request_admission.types import (
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
)
from tests.engine.request_admission.lab import (
    SUCCESS,
    Lab,
)


def in_a_thread(lab: Lab, item: RequestAdmissionItem) -> asyncio.Future[RequestAdmissionLease]:
    return lab.loop.run_in_executor(None, lab.controller.acquire_sync, item)


def test_another_thread_waits_like_everyone_else() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register()
        lease = await lab.acquire()
        handed = in_a_thread(lab, lab.item())
        await lab.sink.queue_formed.wait()
        assert lab.counts() == (1, 1)
        lab.controller.release(lease, SUCCESS)
        threaded = await handed
        assert lab.counts() == (1, 0)
        lab.controller.release(threaded, SUCCESS)

    asyncio.run(main())


def test_a_denial_reaches_the_other_thread() -> None:
    async def main() -> None:
        lab = Lab()
        lab.register()
        lab.controller.shutdown()
        with pytest.raises(RequestAdmissionError, match="shutdown"):
            await in_a_thread(lab, lab.item())

    asyncio.run(main())


def test_blocking_on_the_thread_of_the_loop_is_refused() -> None:
    async def main() -> Lab:
        lab = Lab()
        lab.register()
        with pytest.raises(RuntimeError, match="would block the event loop"):
            lab.controller.acquire_sync(lab.item())
        return lab

    lab = asyncio.run(main())
    with pytest.raises(RuntimeError, match="needs the running event loop"):
        lab.controller.acquire_sync(lab.item())
