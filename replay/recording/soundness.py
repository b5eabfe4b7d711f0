"""Are the numbers in a recording such as a recorder writes? Asked before anything is read from it.

What reads a recording counts seconds and ordinals: a time of 1e308 or an ordinal of 2**63 - 1 from
somewhere else would keep it busy for years, or overflow. DuckDB answers most of these conditions
from the statistics of its blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from replay.sources.base import SourceError

LARGEST_TIME = 1e10
"""Seconds either side of 0, as `engine.events` has it."""
LARGEST_ORDINAL = 2**53
LARGEST_GAP = 1_000_000
"""Ordinals between the first and the last event that no event has. A recorder leaves none."""
LARGEST_BLOB = 1 << 30
"""Bytes of a keyframe or a fold, as it is stored."""
_AMOUNTS = ("mean", "last", "peak", "seconds")

_REQUIRED = {
    "meta": ("key", "value"),
    "events": ("ordinal", "stream", "kind", "t", "seq"),
    "keyframes": ("ordinal", "t", "state"),
    "resume": ("position", "ordinal"),
    "leases": (
        "lease_id",
        "task_id",
        "column",
        "group",
        "attempt",
        "acquired_at",
        "acquired_ordinal",
    ),
    "attempts": ("attempt_id", "resource", "first_ordinal"),
    "rollup": ("bin", "series", "key", "mean", "last", "peak"),
    "blame": ("bin", "scope", "column", "resource", "verdict", "seconds"),
    "verdicts": ("verdict", "tier", "start", "end", "sentence", "evidence", "detail"),
    "broken_lines": ("line_number", "problem"),
}
"""Columns that the structs of `replay.state.rows` and `engine.events` have no None for."""


def check_numbers(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Sequence[tuple[str, str]]],
    name: str,
) -> None:
    """Raises `SourceError` where a table holds what no recorder writes, `duckdb.Error` on damage.

    The recording must hold nothing but known tables: functions are named here.
    """
    present = {
        (table, column)
        for table, column in connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns()"
            " WHERE NOT internal AND database_name = current_catalog()"
        ).fetchall()
    }
    for table, columns in tables.items():
        conditions = [
            (column, condition)
            for column, kind in columns
            if (table, column) in present
            for condition in _wrong(column, kind, column in _REQUIRED.get(table, ()))
        ]
        if not conditions:
            continue
        query = " UNION ALL ".join(
            f"(SELECT '{column}' FROM \"{table}\" WHERE {condition} LIMIT 1)"
            for column, condition in conditions
        )
        row = connection.execute(f"{query} LIMIT 1").fetchone()
        if row is not None:
            raise SourceError(
                f"{name} is damaged: {table}.{row[0]} holds a value that no run has.", exit_code=4
            )
    if {(table, "ordinal") for table in ("events", "keyframes", "resume")} <= present:
        _check_gaps(connection, name)


def _wrong(column: str, kind: str, required: bool) -> list[str]:
    """SQL conditions that hold for a value which no recorder writes."""
    conditions = [f'"{column}" IS NULL'] if required else []
    if kind == "DOUBLE":  # NaN is the largest of all numbers here
        limit = "'infinity'::DOUBLE" if column in _AMOUNTS else repr(LARGEST_TIME)
        conditions += [f'"{column}" >= {limit}', f'"{column}" <= -{limit}']
    elif column in ("bin", "bins"):
        conditions += [f'"{column}" NOT BETWEEN {-2 * LARGEST_TIME} AND {2 * LARGEST_TIME}']
    elif column.endswith("ordinal"):
        conditions += [f'"{column}" NOT BETWEEN 0 AND {LARGEST_ORDINAL}']
    elif kind == "BLOB":
        conditions += [f'octet_length("{column}") > {LARGEST_BLOB}']
    return conditions


def _check_gaps(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Events follow one another, and keyframes and the point to resume at stand among them."""
    count, first, last = _row(connection, "SELECT count(*), min(ordinal), max(ordinal) FROM events")
    if count and last - first - count > LARGEST_GAP:
        raise SourceError(
            f"{name} is damaged: it has {count:,} events, and their ordinals run from {first:,} to "
            f"{last:,}.",
            exit_code=4,
        )
    for table in ("keyframes", "resume"):
        lowest, highest = _row(connection, f"SELECT min(ordinal), max(ordinal) FROM {table}")
        if lowest is None:
            continue
        if (lowest < first - 1 or highest > last) if count else lowest != highest:
            raise SourceError(
                f"{name} is damaged: {table}.ordinal names events that it does not have.",
                exit_code=4,
            )


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
