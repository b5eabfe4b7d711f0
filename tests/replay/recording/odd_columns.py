"""Recordings in which one column of one table holds what no run has: any column, any value."""

from __future__ import annotations

from collections.abc import Iterator

from replay.recording.schema import TABLES
from tests.replay.recording.crafted import Crafted

MANY = 200_000
LONG = 3_000_000
VERY_MANY = 9_000_000

_OF_TYPE: dict[str, dict[str, object]] = {
    "VARCHAR": {
        "null": None,
        "empty": "",
        "escapes": "\x1b[2J\u202e\x00\n\r\x9b31m",
        "long": "x" * LONG,
        "object": '{"a":1}',
        "number": "7",
        "nested": "[" * 100_000,
    },
    "BIGINT": {
        "null": None,
        "zero": 0,
        "negative": -1,
        "2^31": 2**31,
        "2^53": 2**53,
        "largest": 2**63 - 1,
        "smallest": -(2**63),
    },
    "DOUBLE": {
        "null": None,
        "NaN": float("nan"),
        "zero": 0.0,
        "long ago": -9e9,
        "far ahead": 9e9,
        "huge": 1e308,
        "infinite": float("inf"),
    },
    "BLOB": {"null": None, "empty": b"", "garbage": b"\x00" * 50},
    "BIGINT[]": {
        "null": None,
        "empty": [],
        "nulls": [None],
        "largest": [2**63 - 1],
        "negative": [-5],
        "many": list(range(MANY)),
    },
}


def with_odd_columns() -> Iterator[Crafted]:
    """A value in all rows of a column, or in every fifth."""
    for table, columns in TABLES.items():
        for column, kind in columns:
            for what, value in _OF_TYPE[kind].items():
                name, change = f"{table}.{column} {what}", f'UPDATE "{table}" SET "{column}" = ?'
                yield Crafted(name, [change], values=[value])
                yield Crafted(f"{name}, some", [f"{change} WHERE rowid % 5 = 3"], values=[value])


def with_odd_tables() -> Iterator[Crafted]:
    """Tables with too few rows, too many, or in another order."""
    for table in TABLES:
        name = f'"{table}"'
        yield Crafted(f"{table} empty", [f"DELETE FROM {name}"])
        yield Crafted(f"{table} twice", [f"INSERT INTO {name} SELECT * FROM {name}"])
        yield Crafted(f"{table} missing", [f"DROP TABLE {name}"])
        yield Crafted(
            f"{table} reversed",
            [
                f"CREATE TEMP TABLE kept AS SELECT * FROM {name} ORDER BY rowid DESC",
                f"DELETE FROM {name}",
                f"INSERT INTO {name} SELECT * FROM kept",
            ],
        )
        yield Crafted(
            f"{table} very many",
            [
                f"INSERT INTO {name} SELECT kept.* FROM (FROM {name} LIMIT 1) kept,"
                f" range({VERY_MANY})"
            ],
        )
