"""`WritingProcess`: a recording that is written on another core than the one that folds its events.

Both ends are here. The other one says that it is ready, then gets messages: first the paths of the
recording and of its spill folder, with a zero byte between, then batches of one `BatchEncoder`; an
empty one says that all were sent. It commits many of them at once and says nothing more unless it
fails. A thread would not do: building rows holds the lock that folding needs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO

import duckdb

from replay.recording.batch import BatchDecoder
from replay.recording.gc_control import gc_disabled
from replay.recording.opening import connect_for_writing, spill_folder
from replay.recording.pipe_messages import read_message, write_message
from replay.recording.writer import RecordingWriter

LEAST_PER_COMMIT = 4 << 20
MOST_PER_COMMIT = 8 << 20
"""Bytes of rows: the more at once, the less it costs, but nothing is to wait for no reason."""
BYTES_AHEAD = 32 << 20
"""So much of what was sent may wait to be written; then the sender waits."""
CHECKPOINT_EVERY = 122_880
"""Events: a row group. More often than one process would, since nothing waits but at the end."""
PIPE_BYTES = 1 << 20
SWITCH_SECONDS = 0.001
"""After so long the thread that reads the pipe gets its turn."""
_READY = b"ready\n"


class WritingProcess:
    """The near end. Raises `duckdb.Error` where the other fails; what it committed stays."""

    def __init__(self) -> None:
        # -P: the folder headgate is started in must not shadow its modules. Its own session: what a
        # terminal interrupts is the sender, and the end of its pipe is the end of this one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "replay.recording.writing_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pipesize=PIPE_BYTES,
            bufsize=0,
        )
        self._spill: Path | None = None

    @property
    def ready(self) -> bool:
        """Has it started, which takes a moment? To be asked until it has."""
        stdout = _pipe(self._process.stdout)
        os.set_blocking(stdout.fileno(), False)
        ready = stdout.read(len(_READY))
        os.set_blocking(stdout.fileno(), True)
        return ready == _READY

    def open(self, path: Path | str) -> None:
        """The recording belongs to it from now on; nobody here has it open."""
        self._spill = spill_folder(path)
        self._send(os.fsencode(f"{path}\0{self._spill}"))

    def append(self, batch: bytes) -> None:
        """Have what one `BatchEncoder` made committed, with others and in order, at the other
        side's own time."""
        self._send(batch)

    def finish(self) -> None:
        """Returns once all is in the file and the file is closed."""
        self._send(b"")
        if self._process.wait() != 0:
            raise self._failure()

    def close(self) -> None:
        """Ends the other side; what it has not committed by now is lost, unless it had finished."""
        self._process.kill()
        self._process.wait()
        _pipe(self._process.stdin).close()
        _pipe(self._process.stdout).close()
        if self._spill is not None:
            shutil.rmtree(self._spill, ignore_errors=True)  # who is killed leaves it

    def _send(self, data: bytes) -> None:
        pipe = _pipe(self._process.stdin)
        try:
            write_message(pipe, data)
        except BrokenPipeError:
            raise self._failure() from None

    def _failure(self) -> duckdb.Error:
        code = self._process.wait()
        message = _pipe(self._process.stdout).read().decode(errors="replace").strip()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return duckdb.Error(message or f"The process that writes it ended with {how}.")


def main() -> int:
    """The other side. Exit codes: 0 all is written, 1 it is not, for the reason on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_SECONDS)
    # An event is nested a little deeper in a batch than in its line, which was read elsewhere.
    sys.setrecursionlimit(2 * sys.getrecursionlimit())
    received = _Inbox()
    threading.Thread(target=received.fill, args=(0,), daemon=True).start()
    os.write(1, _READY)
    try:
        path, _, spill = os.fsdecode(received.get() or b"").partition("\0")
        return 0 if path and _write_all(path, spill, received) else 1
    except Exception as error:
        sys.stdout.write(str(error) or type(error).__name__)
        return 1


def _write_all(path: str, spill: str, received: _Inbox) -> bool:
    """False if the sender is gone without an end: then the rest would be of no use."""
    connection = connect_for_writing(path, spill)
    writer = RecordingWriter(connection, CHECKPOINT_EVERY)
    decoder = BatchDecoder()
    with gc_disabled():
        while data := received.get():
            writer.append(decoder.decode(data))
            enough = LEAST_PER_COMMIT if received.empty else MOST_PER_COMMIT
            if writer.uncommitted >= enough:
                writer.commit()
    if data is not None:
        writer.commit()
        writer.checkpoint()
    connection.close()
    return data is not None


class _Inbox:
    """What was sent and not taken yet: read by a thread, so that a commit need not hold it up."""

    def __init__(self) -> None:
        self._waiting: deque[bytes | None] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    @property
    def empty(self) -> bool:
        """Nothing waits now."""
        return not self._waiting

    def get(self) -> bytes | None:
        """The next message; empty after the last one, None where the pipe ends without that."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            data = self._waiting.popleft()
            self._bytes -= len(data or b"")
            self._changed.notify()
            return data

    def fill(self, descriptor: int) -> None:
        """Read until the last message. If the pipe ends before, what waits is not wanted either."""
        with open(descriptor, "rb", buffering=0, closefd=False) as pipe:
            data: bytes | None = b"some"
            while data:
                data = read_message(pipe)
                with self._changed:
                    if data is None:
                        self._waiting.clear()
                        self._bytes = 0
                    self._changed.wait_for(lambda: self._bytes < BYTES_AHEAD)
                    self._waiting.append(data)
                    self._bytes += len(data or b"")
                    self._changed.notify()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # all is closed, and somebody waits
