"""What the two ends of a query say to each other, as bytes.

A request is MessagePack. An answer is a byte that names its kind and what belongs to it. Rows are
pickled, because a value of DuckDB is a Python object of many types; only those are unpickled.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text

COLUMNS = b"C"
"""The query is answered: `ResultColumn`s."""
ROWS = b"R"
SCHEMA = b"S"
"""The same for Arrow: the schema, then batches."""
BATCH = b"B"
END = b"E"
"""No more rows or batches; also: the recording is open."""
FAILED = b"F"
"""A `QueryFailure`."""

_VALUE_TYPES = {
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
    ("uuid", "UUID"),
}


class Open(msgspec.Struct, tag=True):
    """The first request. `memory` in bytes is what DuckDB may use, `data` what the process may."""

    path: bytes
    memory: int
    data: int


class Ask(msgspec.Struct, tag=True):
    """One statement; the answer is its columns, or the schema where `arrow`."""

    sql: str
    arrow: bool


class More(msgspec.Struct, tag=True):
    """The next rows or batch of it."""


Request = Open | Ask | More


class ResultColumn(NamedTuple):
    """A column of a query's result."""

    name: str
    type: str
    """DuckDB's name of the type."""


class QueryFailure(msgspec.Struct):
    """Why a query failed: a sentence, and the exit code of the command that asked."""

    sentence: str
    exit_code: int
    of_query: bool


class QueryError(SourceError):
    """The query can't be answered; one sentence that says why."""


def encode_failure(error: SourceError) -> bytes:
    """The answer to a query that failed; control characters of its text are replaced."""
    failure = QueryFailure(clean_text(str(error)), error.exit_code, isinstance(error, QueryError))
    return FAILED + msgspec.msgpack.encode(failure)


def failure_of(data: bytes) -> SourceError:
    """The error that `encode_failure` was told."""
    failure = msgspec.msgpack.decode(data, type=QueryFailure)
    kind = QueryError if failure.of_query else SourceError
    return kind(failure.sentence, failure.exit_code)


def encode_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    """The answer with some rows of a result."""
    return ROWS + pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)


def rows_of(data: bytes) -> list[Sequence[Any]]:
    """Raises `pickle.UnpicklingError` for anything but values."""
    rows: list[Sequence[Any]] = _Values(io.BytesIO(data)).load()
    return rows


class _Values(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _VALUE_TYPES:
            raise pickle.UnpicklingError(f"{module}.{name} is no value of a query")
        return super().find_class(module, name)
