"""`RecordingQuery`: SQL on a recording that can read it and nothing else."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from replay.recording.reader import open_recording
from replay.recording.views import RECORDING, RUN_COLUMNS, VIEWS, create_macros, create_view
from replay.sources.base import SourceError
from replay.sources.text import clean_text

MEMORY_LIMIT = "2GB"
HAS_STRETCHES = (
    "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'recording'"
    " AND table_name IN ('rollup_stretches', 'blame_stretches')"
)
"""Beyond it a query spills to the folder for temporary files."""
ROWS_AT_ONCE = 1_000
BATCH_ROWS = 50_000

_READS = frozenset({"SELECT", "EXPLAIN", "MULTI"})
_RUN_TYPES = (
    "VARCHAR VARCHAR VARCHAR VARCHAR DOUBLE TIMESTAMP TIMESTAMP DOUBLE DOUBLE BIGINT BIGINT BIGINT"
    " VARCHAR"
)
_NO_TABLE = re.compile(r"Table with name (.+?) does not exist")
_DAMAGE = (
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.FatalException,
    duckdb.InternalException,
)


class ResultColumn(NamedTuple):
    name: str
    type: str
    """DuckDB's name of the type."""


class QueryError(SourceError):
    """The query can't be answered; one sentence that says why."""


class RecordingQuery:
    """The views of `replay.recording.views` and, under `recording`, the tables themselves.

    Everything is read-only; no file, network, extension or Python object can be reached from a
    query. One thread at a time, but for `interrupt`.
    """

    def __init__(self, path: Path) -> None:
        """Raises `SourceError` where `path` is no recording, or damaged."""
        reader = open_recording(path)
        try:
            run, status, bounds = reader.run(), reader.status(), reader.bounds()
        finally:
            reader.close()
        self._name = str(path)
        events = bounds.last_ordinal - bounds.first_ordinal + 1 if bounds.last_ordinal else 0
        wall = run.wall_start
        began = None if wall is None else wall + bounds.t0 - run.monotonic_start
        facts = (
            run.run_id,
            run.name,
            run.producer,
            run.producer_version,
            began,
            None if began is None else datetime.fromtimestamp(began, UTC).replace(tzinfo=None),
            None if began is None else datetime.fromtimestamp(began),
            bounds.t0,
            bounds.t1 - bounds.t0,
            events,
            run.records,
            run.row_groups,
            status.outcome,
            status.complete,
            status.lost,
        )
        self._spill = tempfile.TemporaryDirectory(prefix="headgate-sql-")
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": self._spill.name,
                "python_enable_replacements": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        execute = self._connection.execute
        try:
            quoted = str(path).replace("'", "''")
            execute(f"ATTACH '{quoted}' AS {RECORDING} (READ_ONLY)")
            types = [*_RUN_TYPES.split(), "BOOLEAN", "BOOLEAN"]
            declared = ", ".join(
                f'"{column.name}" {kind}' for column, kind in zip(RUN_COLUMNS, types, strict=True)
            )
            execute(f"CREATE TABLE run ({declared})")
            execute(f"INSERT INTO run VALUES ({', '.join('?' * len(facts))})", list(facts))
            for macro in create_macros(began):
                execute(macro)
            stretches = execute(HAS_STRETCHES).fetchone() == (2,)
            made = {view.name: view for view in VIEWS}
            for name in ("leases", *made.keys() - {"leases"}):  # tasks are asked of leases
                execute(create_view(made[name], bounds.t0, run.monotonic_start, stretches))
            execute("SET enable_external_access = false")
            execute("SET lock_configuration = true")
        except duckdb.Error as error:
            self.close()
            raise SourceError(
                f"{clean_text(self._name)} is damaged: {first_line(error)}", exit_code=4
            ) from error

    def run(self, sql: str) -> tuple[tuple[ResultColumn, ...], Iterator[Sequence[Any]]]:
        """Columns (with unique names) and rows of one reading statement; rows are not kept.

        Raises `QueryError`, here or while the rows are taken.
        """
        cursor = self._execute(sql)
        described = cursor.description or []
        columns = unique_names([ResultColumn(str(one[0]), str(one[1])) for one in described])
        return columns, self._rows(cursor)

    def batches(self, sql: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The same as Arrow record batches, for writing files. Raises `QueryError`."""
        self._check(sql)
        try:
            reader: pa.RecordBatchReader = self._connection.sql(sql).to_arrow_reader(BATCH_ROWS)
        except duckdb.Error as error:
            raise self._refused(error) from error
        return reader.schema, self._batches(reader)

    def interrupt(self) -> None:
        """Stop what runs, from another thread; it raises `QueryError`."""
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()
        self._spill.cleanup()

    def _execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        statement = self._check(sql)
        try:
            return self._connection.execute(statement)
        except duckdb.Error as error:
            raise self._refused(error) from error

    def _check(self, sql: str) -> duckdb.Statement:
        """The one statement in `sql`, which reads. Raises `QueryError`."""
        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise self._refused(error) from error
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

    def _rows(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
        while True:
            try:
                rows = cursor.fetchmany(ROWS_AT_ONCE)
            except duckdb.Error as error:
                raise self._refused(error) from error
            if not rows:
                return
            yield from rows

    def _batches(self, reader: Any) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise self._refused(error) from error
            yield batch

    def _refused(self, error: Exception) -> SourceError:
        name = clean_text(self._name)
        if isinstance(error, duckdb.InterruptException):
            return QueryError("The query was interrupted.")
        if isinstance(error, duckdb.OutOfMemoryException):
            return QueryError("The query needs too much memory or disk: ask for less at once.")
        if isinstance(error, _DAMAGE):
            return SourceError(f"{name} is damaged: {first_line(error)}", exit_code=4)
        if isinstance(error, duckdb.PermissionException):
            return QueryError("A query reads the recording and nothing else: no file, no network.")
        unknown = _NO_TABLE.search(str(error))
        if unknown is not None and isinstance(error, duckdb.CatalogException):
            views = ", ".join([*(view.name for view in VIEWS), "run"])
            return QueryError(f"There is no view {clean_text(unknown[1])}. There are: {views}.")
        if "pytz" in str(error):
            return QueryError("Times with a time zone can't be shown: cast them to TIMESTAMP.")
        return QueryError(f"The query can't be answered: {first_line(error)}")


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


def first_line(error: Exception) -> str:
    """What DuckDB says, as one sentence without its drawing of the query."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = clean_text(lines[0] if lines else type(error).__name__)
    hints = [line for line in lines[1:] if line.startswith(("Candidate", "Did you mean"))]
    if hints:
        said = f"{said.rstrip('!.')} ({clean_text(hints[0]).rstrip('.')})"
    return said if said.endswith((".", "!", "?", ")")) else f"{said}."
