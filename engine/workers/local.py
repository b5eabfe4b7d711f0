"""`LocalWorkers`: where does a worker run? Here, as a task of the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

WorkerHandle = asyncio.Task[None]
"""Awaitable, cancellable, and tells its end through `add_done_callback`."""


class LocalWorkers:
    """The one seam at which a worker is started."""

    def spawn(self, coro_factory: Callable[[], Coroutine[Any, Any, None]]) -> WorkerHandle:
        return asyncio.get_running_loop().create_task(coro_factory())
