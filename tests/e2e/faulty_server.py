"""`FaultyProvider` in a thread of its own, for runs in other processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.engine.run.faulty_provider import Behaviour, FaultyProvider


@contextmanager
def serving(behaviour: Behaviour, latency_seconds: float = 0.01) -> Iterator[FaultyProvider]:
    """The provider, which serves until the end of the block."""
    loop = asyncio.new_event_loop()
    provider = FaultyProvider(behaviour, latency_seconds)
    thread = threading.Thread(target=loop.run_forever, name="provider", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(provider.__aenter__(), loop).result(10)
        yield provider
        asyncio.run_coroutine_threadsafe(provider.__aexit__(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
