"""The process that answers the queries of a `RecordingQuery`, its far end.

It answers one request at a time, and sends rows only as they are asked for: a slow reader holds it
up, and nothing piles up. It ends with its maker: when the pipe of requests does.
"""

from __future__ import annotations

import io
import os
import queue
import re
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import duckdb
import msgspec
import pyarrow as pa

from replay.recording import query_protocol as protocol
from replay.recording.connections import connect_beside
from replay.recording.pipe_messages import read_message, write_message
from replay.recording.query import TOO_MUCH
from replay.recording.query_protocol import (
    Ask,
    More,
    Open,
    QueryError,
    Request,
    ResultColumn,
    encode_failure,
    encode_rows,
)
from replay.recording.reader import open_recording
from replay.recording.schema import check_schema
from replay.recording.views import (
    ALL_VIEWS,
    RECORDING,
    RUN,
    VIEWS,
    RecordedRun,
    create_macros,
    in_order_of_creation,
)
from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text

ROWS_AT_ONCE = 1_000
BATCH_ROWS = 50_000
MESSAGE_BYTES = 16 << 20
"""Rows are sent one by one where so many together take more."""
LARGEST_MESSAGE_BYTES = 256 << 20

_READS = frozenset({"SELECT", "EXPLAIN", "MULTI"})
_HAS_STRETCHES = (
    "SELECT count(*) FROM system.main.duckdb_tables() WHERE database_name = 'recording'"
    " AND table_name IN ('rollup_stretches', 'blame_stretches')"
)
_NO_TABLE = re.compile(r"Table with name (.+?) does not exist")
_DAMAGE = (
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.FatalException,
    duckdb.InternalException,
)


class Engine:
    """A recording with its views, and the query under way."""

    def __init__(self, opened: Open, spill: str) -> None:
        """Raises `SourceError` where it is no recording, or damaged."""
        path = Path(os.fsdecode(opened.path))
        self._name = clean_text(str(path))
        self._answers: Iterator[bytes] = iter(())
        reader = open_recording(path)
        try:
            facts = RecordedRun(reader.run(), reader.status(), reader.bounds())
            began = facts.bounds.t0
            resumptions = [(at - began, wall) for at, wall in reader.resumptions()]
        finally:
            reader.close()
        try:
            self._connection = connect_beside(
                path,
                RECORDING,
                {"memory_limit": f"{opened.memory}B", "temp_directory": spill},
            )
            check_schema(self._connection, str(path), RECORDING)
            execute = self._connection.execute
            execute(RUN.create())
            execute(RUN.insert(), RUN.row(facts))
            for macro in create_macros(facts.wall_start, resumptions):
                execute(macro)
            has_stretches = execute(_HAS_STRETCHES).fetchone() == (2,)
            for view in in_order_of_creation(VIEWS):
                execute(view.create(facts.bounds.t0, facts.info.monotonic_start, has_stretches))
            execute("SET lock_configuration = true")
        except duckdb.Error as error:
            raise SourceError(
                f"{self._name} is damaged: {first_line(error)}", exit_code=4
            ) from error

    def answer(self, request: Ask | More) -> bytes:
        """The whole answer, failures included."""
        try:
            if isinstance(request, Ask):
                return self._start(request.sql, request.arrow)
            return next(self._answers, protocol.END)
        except SourceError as error:
            return encode_failure(error)
        except (duckdb.Error, pa.ArrowException, OSError, MemoryError, RecursionError) as error:
            return encode_failure(self._refused(error))

    def _start(self, sql: str, arrow: bool) -> bytes:
        self._answers = iter(())
        statement = self._check(sql)
        if arrow:
            reader = self._connection.sql(sql).to_arrow_reader(BATCH_ROWS)
            self._answers = _batches(reader)
            schema: bytes = reader.schema.serialize().to_pybytes()
            return protocol.SCHEMA + schema
        cursor = self._connection.execute(statement)
        columns = [
            ResultColumn(str(name), str(kind)) for name, kind, *_ in cursor.description or ()
        ]
        self._answers = _rows(cursor)
        return protocol.COLUMNS + msgspec.msgpack.encode(columns)

    def _check(self, sql: str) -> duckdb.Statement:
        """The one statement in `sql`, which reads. Raises `QueryError`."""
        statements = self._connection.extract_statements(sql)
        if not statements:
            raise QueryError("There is no query: give a SELECT.")
        if len(statements) > 1:
            raise QueryError("One query at a time: give a single SELECT.")
        if statements[0].type.name not in _READS:
            raise QueryError(
                f"{statements[0].type.name} is not possible: a recording is only read. "
                "Give a SELECT."
            )
        return statements[0]

    def _refused(self, error: Exception) -> SourceError:
        if isinstance(error, duckdb.OutOfMemoryException | MemoryError | pa.ArrowMemoryError):
            return QueryError(TOO_MUCH)
        if isinstance(error, _DAMAGE):
            return SourceError(f"{self._name} is damaged: {first_line(error)}", exit_code=4)
        if isinstance(error, duckdb.PermissionException):
            return QueryError("A query reads the recording and nothing else: no file, no network.")
        unknown = _NO_TABLE.search(str(error))
        if unknown is not None and isinstance(error, duckdb.CatalogException):
            views = ", ".join(view.name for view in ALL_VIEWS)
            return QueryError(f"There is no view {clean_text(unknown[1])}. There are: {views}.")
        if "pytz" in str(error):
            return QueryError("Times with a time zone can't be shown: cast them to TIMESTAMP.")
        return QueryError(f"The query can't be answered: {first_line(error)}")


def first_line(error: Exception) -> str:
    """DuckDB's message as one sentence, without its drawing of the query."""
    lines = [line.strip() for line in str(error).splitlines()]
    sentence = clean_text(lines[0] if lines else type(error).__name__)
    hints = [line for line in lines[1:] if line.startswith(("Candidate", "Did you mean"))]
    if hints:
        sentence = f"{sentence.rstrip('!.')} ({clean_text(hints[0]).rstrip('.')})"
    return sentence if sentence.endswith((".", "!", "?", ")")) else f"{sentence}."


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[bytes]:
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        together = encode_rows(rows)
        if len(together) <= MESSAGE_BYTES:
            yield together
            continue
        del together
        for row in rows:
            message = encode_rows([row])
            if len(message) > LARGEST_MESSAGE_BYTES:
                raise QueryError(TOO_MUCH)
            yield message


def _batches(reader: Any) -> Iterator[bytes]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        with io.BytesIO() as stream:
            with pa.ipc.new_stream(stream, batch.schema) as writer:
                writer.write_batch(batch)
            yield protocol.BATCH + stream.getvalue()


def main() -> None:
    """Answers until the pipe of requests ends; then removes its folder for temporary files."""
    spill = sys.argv[1]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with (
        open(0, "rb", 0, closefd=False) as requests_pipe,
        open(1, "wb", 0, closefd=False) as answers,
    ):
        first = read_message(requests_pipe)
        if first is None:
            shutil.rmtree(spill, ignore_errors=True)
            return
        opened = msgspec.msgpack.decode(first, type=Request)
        if not isinstance(opened, Open):
            raise TypeError("the first request opens a recording")
        threading.Thread(
            target=_receive, args=(requests_pipe, requests, spill), daemon=True
        ).start()
        resource.setrlimit(resource.RLIMIT_DATA, (opened.data, opened.data))
        try:
            engine = Engine(opened, spill)
        except SourceError as error:
            write_message(answers, encode_failure(error))
            return
        write_message(answers, protocol.END)
        while True:
            request = msgspec.msgpack.decode(requests.get(), type=Ask | More)
            write_message(answers, engine.answer(request))


def _receive(pipe: IO[bytes], requests: queue.SimpleQueue[bytes], spill: str) -> None:
    """Whatever the query is doing, the end of the pipe is the end of the process."""
    while (message := read_message(pipe)) is not None:
        requests.put(message)
    shutil.rmtree(spill, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit(0)
