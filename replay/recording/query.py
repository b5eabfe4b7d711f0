"""`RecordingQuery`: SQL on a recording that can read it and nothing else.

A query runs in a process of its own (`replay.recording.query_process`): DuckDB does not ask often
enough whether it was interrupted, and allocates memory that it does not count. A process can be
killed at any moment, and the kernel bounds its memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from replay.recording import query_protocol as protocol
from replay.recording.machine_memory import machine_memory
from replay.recording.pipe_messages import read_message, write_message
from replay.recording.query_protocol import Ask, More, Open, QueryError, Request, ResultColumn
from replay.recording.temporary_folders import temporary_folder
from replay.sources.base import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["QueryError", "QueryProcess", "RecordingQuery", "ResultColumn"]

MOST_MEMORY_BYTES = 2_000_000_000
"""Beyond it a query spills to the folder for temporary files. Less where the machine has less."""
MEMORY_SHARE = 0.5
"""Of what the machine has."""
UNCOUNTED_BYTES = 1 << 30
"""What the process may allocate beside: its libraries and threads, and what DuckDB does not count.
More ends the query."""
_OUT_OF_MEMORY = (signal.SIGKILL, signal.SIGABRT)
TOO_MUCH = "The query needs too much memory or disk: ask for less at once."


class QueryProcess:
    """The other end, and its folder for temporary files. Both are gone after `close`.

    It takes a moment to start, in which its maker may do other things. When its maker dies, it ends
    itself and removes the folder.
    """

    def __init__(self) -> None:
        """Raises `SourceError` where there is no place for temporary files, or no other process
        can be started."""
        self._left = ExitStack()
        spill = self._left.enter_context(temporary_folder("headgate-sql-"))
        # -P: the folder headgate is started in must not shadow its modules. Its own session: what a
        # terminal interrupts is this process, which then kills the other.
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "replay.recording.query_process", str(spill)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._left.close()
            raise SourceError(
                f"The process that answers queries can't be started: {error.strerror}."
            ) from error
        self._left.callback(self._end)
        self._interrupted = False

    def __enter__(self) -> QueryProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, request: Request) -> tuple[bytes, bytes]:
        """Kind and content of the answer. Raises `SourceError` where it is a failure, or none."""
        try:
            write_message(_pipe(self._process.stdin), msgspec.msgpack.encode(request))
            answer = read_message(_pipe(self._process.stdout))
        except (BrokenPipeError, ValueError):
            answer = None
        if answer is None:
            raise self._death()
        kind, content = answer[:1], answer[1:]
        if kind == protocol.FAILED:
            raise protocol.failure_of(content)
        return kind, content

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it now, from any thread; a `request` under way raises `QueryError`."""
        self._interrupted = True
        self._process.kill()

    def close(self) -> None:
        self._left.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        _pipe(self._process.stdin).close()
        _pipe(self._process.stdout).close()

    def _death(self) -> SourceError:
        """Why it is gone."""
        self._process.kill()  # or what it sent did not fit into memory here
        code = self._process.wait()
        if self._interrupted:
            return QueryError("The query was interrupted.")
        if -code in _OUT_OF_MEMORY:
            return QueryError(TOO_MUCH)
        status = f"signal {-code}" if code < 0 else f"exit code {code}"
        return SourceError(
            f"DuckDB ended with {status}: the recording is damaged, or the query is more than it "
            "can do.",
            exit_code=4,
        )


class RecordingQuery:
    """The views of `replay.recording.views` and, under `recording`, the tables themselves.

    Everything is read-only; no file, network, extension or Python object can be reached from a
    query. One query at a time, and one thread, but for `interrupt`.
    """

    def __init__(self, path: Path, process: QueryProcess | None = None) -> None:
        """`process`: one that was started before, and is closed by whoever did.

        Raises `SourceError` where `path` is no recording, or damaged.
        """
        memory = min(MOST_MEMORY_BYTES, int(machine_memory() * MEMORY_SHARE))
        self._owned = process is None
        self._process = QueryProcess() if process is None else process
        self._current = 0
        try:
            self._process.request(Open(os.fsencode(path), memory, memory + UNCOUNTED_BYTES))
        except BaseException:
            self.close()
            raise

    def run(self, sql: str) -> tuple[tuple[ResultColumn, ...], Iterator[Sequence[Any]]]:
        """Columns (with unique names) and rows of one reading statement; rows are not kept.

        Raises `QueryError`, here or while the rows are taken; they end with the next query.
        """
        _, content = self._send(sql, arrow=False)
        columns = msgspec.msgpack.decode(content, type=list[ResultColumn])
        return unique_names(columns), self._rows(self._current)

    def batches(self, sql: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The same as Arrow record batches, for writing files. Raises `QueryError`."""
        import pyarrow as pa

        _, content = self._send(sql, arrow=True)
        return pa.ipc.read_schema(pa.py_buffer(content)), self._batches(self._current)

    def interrupt(self) -> None:
        """Stop what runs, from another thread; it raises `QueryError`, as does all that follows."""
        self._process.kill()

    def close(self) -> None:
        if self._owned:
            self._process.close()

    def _send(self, sql: str, *, arrow: bool) -> tuple[bytes, bytes]:
        try:
            request = Ask(sql, arrow)
            msgspec.msgpack.encode(request)
        except UnicodeEncodeError:
            raise QueryError("The query is not text: it has a lone surrogate.") from None
        self._current += 1
        return self._process.request(request)

    def _rows(self, query: int) -> Iterator[Sequence[Any]]:
        while query == self._current:
            kind, content = self._process.request(More())
            if kind == protocol.END:
                return
            yield from protocol.rows_of(content)

    def _batches(self, query: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        while query == self._current:
            kind, content = self._process.request(More())
            if kind == protocol.END:
                return
            yield from pa.ipc.open_stream(pa.py_buffer(content))


def unique_names(columns: Sequence[ResultColumn]) -> tuple[ResultColumn, ...]:
    """`a`, `a` as `a`, `a_2`."""
    taken: set[str] = set()
    named = []
    for column in columns:
        name, nth = column.name, 1
        while name in taken:
            nth += 1
            name = f"{column.name}_{nth}"
        taken.add(name)
        named.append(column._replace(name=name))
    return tuple(named)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
