"""`Cursors`: one connection for several threads, and how damage of a recording is reported."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import duckdb

from replay.recording.connections import reading_error
from replay.sources.base import SourceError


class Result(Protocol):
    """The rows of a query, from the recording's file or from its recorder."""

    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """What a reader needs of DuckDB, or of somebody who asks it for us."""

    def cursor(self) -> Connection: ...

    def execute(self, query: str, parameters: list[object], /) -> Result:
        """Raises `duckdb.Error`."""

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class Cursors:
    """A cursor for each thread that asks.

    Args:
        connection: What is asked.
        name: Names the recording in messages.
        owned: Close the connection too.
    """

    def __init__(self, connection: Connection, name: str, owned: bool) -> None:
        self._connection = connection
        self._name = name
        self._owned = owned
        self._local = threading.local()
        self._cursors: list[Connection] = []
        self._lock = threading.Lock()
        self._known_tables: dict[str, bool] = {}

    def rows(self, query: str, *values: object) -> list[Any]:
        """All rows of a query. Raises `SourceError` where it fails or is interrupted."""
        try:
            return self._cursor().execute(query, list(values)).fetchall()
        except duckdb.InterruptException as error:
            raise SourceError(f"A query on {self._name} was interrupted.") from error
        except duckdb.Error as error:
            raise reading_error(error, self._name) from error

    def has(self, table: str) -> bool:
        """Whether the recording has this table; older ones lack some."""
        present = self._known_tables.get(table)
        if present is None:
            rows = self.rows(
                "SELECT count(*) FROM duckdb_tables() WHERE table_name = ?"
                " AND database_name = current_catalog()",
                table,
            )
            present = self._known_tables[table] = bool(rows[0][0])
        return present

    def interrupt(self) -> None:
        """Stop queries that run in other threads; they raise `SourceError`."""
        with self._lock:
            for cursor in self._cursors:
                cursor.interrupt()

    def close(self) -> None:
        """Closes the cursors, and the connection if it is owned."""
        with self._lock:
            for cursor in self._cursors:
                cursor.close()
            self._cursors.clear()
        if self._owned:
            self._connection.close()

    def _cursor(self) -> Connection:
        cursor: Connection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._connection.cursor()
            self._local.cursor = cursor
            with self._lock:
                self._cursors.append(cursor)
        return cursor
