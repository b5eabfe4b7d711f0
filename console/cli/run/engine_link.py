"""`EngineLink` and `FrontLink`: how the two ends of a start speak, over two pipes.

The engine says on its pipe that it is ready, or why it is not; later that its loop reacts, and how
the run ended. None of this needs room on a disk. On the other pipe the front says that the run may
begin. If that pipe ends before, the engine ends too, and the run has never been. Later each byte is
a question whether the loop reacts; the pipe's end then means only that nobody asks any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

_BEGIN = b"b"
_QUESTION = b"?"
_READ_BYTES = 65536


class Ready(msgspec.Struct, frozen=True, tag=True):
    """All that can fail at a start has been done."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The run can't begin, for a reason that its user can mend."""

    message: str


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The engine failed at its start by a fault of its own."""

    traceback: str


class Reacts(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The answer of the engine's loop, and what a run that stops still waits for."""

    tasks_out: int = 0
    oldest: tuple[str, ...] = ()
    """The tasks that are out longest, each with what it waits for and how long."""
    seconds_left: float | None = None
    """Until they are cancelled."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """How the run ended."""

    outcome: str
    message: str
    rows_done: int
    rows_dropped: int


class Note(msgspec.Struct, frozen=True, tag=True):
    """A sentence for the user, said after `Ended`."""

    message: str


Message = Ready | Refused | Broken | Reacts | Ended | Note
_decoder = msgspec.json.Decoder(Message)


class FrontLink:
    """The front's end. The constructor raises `OSError` where there are no pipes left."""

    def __init__(self) -> None:
        self._read, self._engine_write = os.pipe()
        try:
            self._engine_read, self._write = os.pipe()
        except OSError:
            os.close(self._read)
            os.close(self._engine_write)
            raise
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._rest = b""
        self._closed = False

    @property
    def engine_ends(self) -> tuple[int, int]:
        """Descriptors for the engine to inherit: it reads the first and writes the second."""
        return self._engine_read, self._engine_write

    def close_engine_ends(self) -> None:
        """Once the engine has them."""
        os.close(self._engine_read)
        os.close(self._engine_write)

    def receive(self, timeout_seconds: float) -> list[Message]:
        """What the engine has said since the last call; waits at most so long for something."""
        if self._closed:
            time.sleep(timeout_seconds)
            return []
        ready, _, _ = select.select([self._read], [], [], timeout_seconds)
        if not ready:
            return []
        try:
            data = os.read(self._read, _READ_BYTES)
        except BlockingIOError:
            return []
        self._closed = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages = []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):
                messages.append(_decoder.decode(line))
        return messages

    def begin(self) -> None:
        """From here on the run is no longer tied to this process."""
        self._send(_BEGIN)

    def ask(self) -> None:
        """`Reacts` is the answer, if the loop does."""
        self._send(_QUESTION)

    def close(self) -> None:
        """Before `begin` this ends the engine, after it nothing."""
        os.close(self._read)
        os.close(self._write)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._write, data)


class EngineLink:
    """The engine's end."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        for descriptor in (read, write):  # no child of a user's function is to hold them
            os.set_inheritable(descriptor, False)
        os.set_blocking(write, False)
        self._preparing = threading.Lock()

    @contextmanager
    def preparing(self, abandoned: Callable[[], object]) -> Iterator[None]:
        """While the user's code is loaded, which may take for ever: if the front is gone meanwhile,
        `abandoned` is called and the process ends."""
        threading.Thread(target=self._watch, args=(abandoned,), daemon=True).start()
        yield
        self._preparing.acquire()  # the front's next byte belongs to `await_begin`

    def await_begin(self) -> bool:
        """Say that all is ready, and wait; False if the front is gone."""
        self.say(Ready())
        return os.read(self._read, 1) == _BEGIN

    def answer_questions(
        self, loop: asyncio.AbstractEventLoop, answer: Callable[[], Reacts] = Reacts
    ) -> None:
        """Answers from now on what the console asks, on `loop`."""
        os.set_blocking(self._read, False)
        loop.add_reader(self._read, self._answer, loop, answer)

    def say(self, message: Message) -> None:
        """To whoever still listens."""
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._write, msgspec.json.encode(message) + b"\n")

    def _watch(self, abandoned: Callable[[], object]) -> None:
        select.select([self._read], [], [])
        # Nothing is sent before `Ready`, so what can be read now is the end of the pipe.
        if self._preparing.acquire(blocking=False):
            abandoned()
            os._exit(1)

    def _answer(self, loop: asyncio.AbstractEventLoop, answer: Callable[[], Reacts]) -> None:
        if os.read(self._read, _READ_BYTES):
            self.say(answer())
        else:
            loop.remove_reader(self._read)
