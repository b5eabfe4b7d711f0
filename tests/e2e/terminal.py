"""A real program in a real pseudo-terminal, its screen kept by an emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte


class Terminal:
    """Runs `argv` at `columns` × `rows`; `wait_for` reads until the screen says something."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        columns: int = 120,
        rows: int = 40,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        self.raw = bytearray()
        self.resize(columns, rows)
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        for name in ("COLUMNS", "LINES"):  # a test runner's own
            if name not in (env or {}) or (env or {})[name] == os.environ.get(name):
                environment.pop(name, None)
        self.process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.hang_up()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def send(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def hang_up(self) -> None:
        """Close the terminal's own end; its programs may get SIGHUP."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def stalled(self) -> bool:
        """Is there no room for more output until someone reads?"""
        with open(f"/proc/{self.process.pid}/fd/1", "wb", buffering=0) as slave:
            return not select.select([], [slave], [], 0.2)[1]

    @property
    def after_the_screen(self) -> str:
        """What was written since the alternate screen was left last."""
        return self.raw.decode(errors="replace").rpartition("\x1b[?1049l")[2]

    @property
    def modes(self) -> list[object]:
        """The modes of the terminal, without its control characters."""
        return termios.tcgetattr(self.master)[:4]

    def check_restored(self, before: list[object]) -> None:
        """Its modes are those of before, and what was switched on in it is switched off again."""
        assert self.modes == before
        raw = self.raw.decode(errors="replace")
        for on, off in (
            ("\x1b[?1049h", "\x1b[?1049l"),  # alternate screen
            ("\x1b[?25l", "\x1b[?25h"),  # cursor
            ("\x1b[?1000h", "\x1b[?1000l"),  # mouse
            ("\x1b[?1003h", "\x1b[?1003l"),
            ("\x1b[?1006h", "\x1b[?1006l"),
            ("\x1b[?2004h", "\x1b[?2004l"),  # bracketed paste
        ):
            if on in raw:
                assert raw.rindex(off) > raw.rindex(on), repr(off)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def pump(self, seconds: float) -> bool:
        """Feed what the program wrote within `seconds`; False once it has closed its side."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                return True
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.raw += data
            self._stream.feed(data)
        return True

    def wait_until(self, condition: Callable[[str], bool], what: str, seconds: float = 30) -> str:
        deadline = time.monotonic() + seconds
        while not condition(self.text):
            alive = self.pump(0.05)
            if condition(self.text):
                break
            if not alive or time.monotonic() > deadline:
                raise AssertionError(f"never saw {what}; the screen:\n{self.text}")
        return self.text

    def wait_for(self, *words: str, seconds: float = 30) -> str:
        return self.wait_until(
            lambda text: all(word in text for word in words), repr(words), seconds
        )

    def wait_exit(self, seconds: float = 30) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.pump(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"did not leave; the screen:\n{self.text}")
        self.pump(0.2)
        return self.process.returncode
