"""The terminal under the console: its real size, and what happens when it goes away."""

from __future__ import annotations

import errno
import io
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol, TextIO, cast

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

from console.playback_mode import terminal_size
from console.thin_writer import ThinWriter

POLL_SECONDS = 0.25
_SAVE_TITLE, _RESTORE_TITLE = "\x1b[22;0t", "\x1b[23;0t"
_GONE = (errno.EIO, errno.EBADF, errno.ENXIO)
"""Errors of reading from a terminal whose other end was closed."""


class TerminalOwner(Protocol):
    """What a driver needs of its app."""

    def end_by(self, number: int) -> None:
        """Leave as after this signal; from any thread."""

    def fail(self, error: Exception) -> None:
        """End with this failure; from any thread."""


class TerminalDriver(LinuxDriver):
    """Draws on stdout, at the size of the terminal, and ends the app with it.

    A terminal whose other end was closed reads as an endless end of file, on which Textual's input
    thread spins, and SIGHUP reaches only the processes whose controlling terminal it was. A thread
    of its own therefore polls the terminal for a hang-up.
    """

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        output = sys.__stdout__
        assert output is not None, "a console has a terminal as its stdout"
        output.reconfigure(errors="replace")
        size = size or terminal_size(output.fileno())
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._owner = cast(TerminalOwner, app)
        self._file: _Output = _Output(output, self._hung_up)  # type: ignore[assignment]
        self._ended = threading.Event()

    def _get_terminal_size(self) -> tuple[int, int]:
        return terminal_size(self._file.fileno())

    def start_application_mode(self) -> None:
        self._file.styles.forget()
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self.write(_SAVE_TITLE)
        self._ended.clear()
        threading.Thread(target=self._watch, name="hang-up", daemon=True).start()

    def stop_application_mode(self) -> None:
        self._ended.set()
        self.write("\x1b[?1016l")  # pixels as mouse positions, which Textual leaves on
        self.write("\x1b[0m" + _RESTORE_TITLE)
        super().stop_application_mode()

    def set_title(self, title: str) -> None:
        """Name the terminal's window; `title` holds no control characters."""
        self.write(f"\x1b]0;{title}\x07")

    def take_mouse(self, wanted: bool) -> None:
        """Get clicks and the wheel, or leave them to the terminal, which then selects text."""
        if wanted:
            self._enable_mouse_support()
        else:
            self._disable_mouse_support()
            self.write("\x1b[?1016l")

    def run_input_thread(self) -> None:
        try:
            super().run_input_thread()
        except OSError as error:
            if error.errno in _GONE:
                self._hung_up()
            else:
                self._owner.fail(error)
        except Exception as error:
            self._owner.fail(error)

    def _watch(self) -> None:
        """Wait until the terminal is hung up, or the app leaves it."""
        poll = select.poll()
        poll.register(self.fileno, 0)  # hang-up and error are always reported
        while not self._ended.is_set():
            for _, events in poll.poll(POLL_SECONDS * 1000):
                if events & (select.POLLHUP | select.POLLERR):
                    self._hung_up()
                return

    def _hung_up(self) -> None:
        self._owner.end_by(signal.SIGHUP)


class _Output(io.TextIOBase):
    """A terminal to write to; drops all output once the terminal is gone.

    Textual's writer thread must not die of it: the app waits until the thread has taken its output.
    """

    def __init__(self, file: TextIO, on_gone: Callable[[], None]) -> None:
        self._file = file
        self._on_gone = on_gone
        self._gone = False
        self.styles = ThinWriter()

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self._gone:
            try:
                self._file.write(self.styles.shorten(text))
            except OSError:
                self._end()
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            try:
                self._file.flush()
            except OSError:
                self._end()

    def _end(self) -> None:
        self._gone = True
        self._on_gone()
