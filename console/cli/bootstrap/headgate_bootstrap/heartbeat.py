"""`Heartbeat`: tells of the loop on which a run is scheduled, from the start of the run to its end.

The watch itself is `engine/watch`, loaded from the folder that the parent names.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

HEARTBEAT = "scheduler_loop_heartbeat"
PERIOD_SECONDS = 1.0
_PACKAGE = "headgate_bootstrap_watch"
_THEIRS = "data_designer"

Take = Callable[[dict[str, Any]], None]
"""Takes the fields of an event; is called from any thread."""


class Heartbeat:
    """Begins in the thread of the loop that runs the scheduler; the constructor raises anything."""

    def __init__(self, watch_folder: str, take: Take) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        watch = _loaded(watch_folder)
        self._watch = watch.LoopWatch(
            self._emit,
            column_of=_column_of,
            own_folders=(os.path.dirname(__file__) + os.sep, watch_folder + os.sep),
        )
        self.sign: Callable[[float], None] = self._watch.sign
        self._watch.start(self._loop)
        self._emitted_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._expect()

    def stop(self) -> None:
        """In the loop's thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._watch.stop()
            now = time.monotonic()
            self._tell(now, now - self._emitted_at, 0.0)

    def _expect(self) -> None:
        due = time.monotonic() + PERIOD_SECONDS
        self._timer = self._loop.call_later(PERIOD_SECONDS, self._beat, due)

    def _beat(self, due: float) -> None:
        now = time.monotonic()
        self._tell(now, PERIOD_SECONDS, max(0.0, now - due))
        self._expect()

    def _tell(self, now: float, period: float, drift: float) -> None:
        self._emitted_at = now
        self._emit(HEARTBEAT, now, None, {"period": period, "drift": drift, **self._watch.report()})

    def _emit(self, kind: str, at: float, reason: str | None, payload: dict[str, Any]) -> None:
        self._take(
            {
                "event_kind": kind,
                "captured_at_monotonic": at,
                "sequence": 0,
                "reason_or_result": reason,
                "diagnostics": payload,
            }
        )


def _loaded(folder: str) -> Any:
    """The module of the watch, under a name of our own."""
    name = f"{_PACKAGE}.loop_watch"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            _PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
        )
        if spec is None or spec.loader is None:
            raise ImportError(folder)
        package = importlib.util.module_from_spec(spec)
        sys.modules[_PACKAGE] = package
        spec.loader.exec_module(package)
    return importlib.import_module(name)


def _column_of(frame: FrameType) -> str | None:
    """The column for which a generator's frame works."""
    if not str(frame.f_globals.get("__name__")).startswith(_THEIRS):
        return None
    if "self" not in frame.f_code.co_varnames:
        return None
    config = getattr(frame.f_locals.get("self"), "config", None)
    name = getattr(config, "name", None)
    return name if isinstance(name, str) else None
