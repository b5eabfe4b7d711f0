"""`TerminalApp`: how an app ends, by its user or not, and the terminal it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from textual.app import App
from textual.driver import Driver
from textual.worker import WorkerFailed

from console.driver import TerminalDriver
from console.outcome import Outcome
from console.palettes import Depth
from console.settings import Settings
from console.theme import Appearance, preferred_theme

LEAVE_SECONDS = 5.0
"""Longest that an app takes to restore the terminal after a signal has ended it."""


def appearance_of(
    settings: Settings,
    environment: Mapping[str, str],
    depth: Depth = "full",
) -> Appearance:
    """How an app looks on this terminal.

    Args:
        settings: What the user has set.
        environment: Variables of the process: what the terminal says of itself, and `NO_COLOR`.
        depth: How many colours the terminal can tell apart.
    """
    return Appearance(
        theme=settings.theme or preferred_theme(environment),
        colour=not environment.get("NO_COLOR"),
        ascii_only=settings.ascii,
        depth=depth,
        keys=settings.keys,
        old_wait=settings.thresholds.old_wait,
    )


class TerminalApp(App[Outcome]):
    """An app that ends with its terminal; says what ended it where its user did not."""

    failure: BaseException | None = None
    """The exception that ended it."""
    ended_by: int | None = None
    """The signal that ended it; SIGHUP also where only the terminal was found to be gone."""
    on_forced_exit: Callable[[int], None] | None = None
    """Called with the signal's number, from another thread, before `os._exit`."""
    _event_loop: asyncio.AbstractEventLoop | None = None
    _last_resort: threading.Timer | None = None

    def get_driver_class(self) -> type[Driver]:
        """In a browser the driver is that which serves it."""
        return super().get_driver_class() if "TEXTUAL_DRIVER" in os.environ else TerminalDriver

    def on_mount(self) -> None:
        self._event_loop = asyncio.get_running_loop()
        if self.ended_by is not None:
            self.exit()

    def run_in_terminal(self) -> Outcome:
        """Run until the user leaves the app, or something else ends it.

        SIGINT, SIGTERM and SIGHUP, unless they are ignored, end it and restore the terminal.
        """
        handled = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        ]
        before = [
            signal.signal(number, lambda number, _: self.end_by(number)) for number in handled
        ]
        try:
            return self.run() or "quit"
        finally:
            for number, handler in zip(handled, before, strict=True):
                signal.signal(number, handler)
            if self._last_resort is not None:
                self._last_resort.cancel()

    def end_by(self, number: int) -> None:
        """Leave as after this signal; from any thread. The first signal counts.

        A terminal that takes no more output can't be restored: the process exits without it after
        `LEAVE_SECONDS`.
        """
        if self.ended_by is None:
            self.ended_by = number
            self._last_resort = threading.Timer(LEAVE_SECONDS, self._force_exit, [number])
            self._last_resort.daemon = True
            self._last_resort.start()
        if self._event_loop is not None:
            with suppress(RuntimeError):  # it has just been closed
                self._event_loop.call_soon_threadsafe(self.exit)

    def _force_exit(self, number: int) -> None:
        try:
            if self.on_forced_exit is not None:
                self.on_forced_exit(number)
        finally:
            os._exit(128 + number)

    def fail(self, error: Exception) -> None:
        """End with this failure; from any thread."""
        self.call_later(self._handle_exception, error)

    def _handle_exception(self, error: Exception) -> None:
        """Keep what a widget, a handler, a worker or a timer has raised; all of it comes here."""
        cause = error.error if isinstance(error, WorkerFailed) else error
        self.failure = self.failure or cause
        super()._handle_exception(error)
        self._exit_renderables.clear()

    def _fatal_error(self) -> None:
        """Close without Textual's traceback, which shows the values of all variables."""
        self._close_messages_no_wait()
