"""`LocalWorkers`: runs workers as tasks of the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

WorkerHandle = asyncio.Task[None]
"""Awaitable and cancellable; `add_done_callback` reports its end."""


class LocalWorkers:
    """Workers are started here and nowhere else, so that another implementation can replace it."""

    def spawn(self, coro_factory: Callable[[], Coroutine[Any, Any, None]]) -> WorkerHandle:
        """Starts the coroutine as a task of the running loop."""
        return asyncio.get_running_loop().create_task(coro_factory())
