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
LARGEST_BLOB = 128 << 20
"""Bytes of a keyframe or a fold, as it is stored: compressed, or a part of one."""
LARGEST_TEXT = 24 << 20
"""Bytes of a text: a line of JSON has 8 MB at most, and one of its bytes may become three."""
LARGEST_NAME = 256 << 10
"""Bytes of a name, an id or a word. A state has one for each task, and a page some for each row."""
LONGEST_STRETCH = 100_000
"""Seconds of one row: a recorder counts no silence that is longer than three hours."""
FEWEST_ROWS = 4_000_000
ROWS_PER_BYTE = 4
"""More rows than the one, and more than the other for each byte of the file, are no run's: what
takes no room is the same row over and over."""
# A struct or a text, by the version of DuckDB; at most 8 bytes of a text of the table are in it.
_LONGEST_TEXT = (
    "TRY_CAST(regexp_extract(lower(stats::VARCHAR), 'max.string.length\\D*(\\d+)', 1) AS BIGINT)"
)
_TEXTS = (
    "value",
    "snapshot",
    "diagnostics",
    "reason",
    "position",
    "sentence",
    "detail",
    "problem",
    "error",
)
"""Columns that hold more than a name."""
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
    for table in sorted({table for table, _ in present}):
        _check_size(connection, table, name)
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
    elif column == "bins":
        conditions += [f'"{column}" NOT BETWEEN 1 AND {LONGEST_STRETCH}']
    elif column == "bin":
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


def _check_size(connection: duckdb.DuckDBPyConnection, table: str, name: str) -> None:
    """What takes little room in the file may take very much of it in memory.

    Goes by what DuckDB keeps of each block, and reads no row.
    """
    (rows,) = _row(connection, f'SELECT count(*) FROM "{table}"')
    (size,) = _row(
        connection,
        "SELECT coalesce(max(total_blocks * block_size), 0) FROM pragma_database_size()",
    )
    if rows > max(FEWEST_ROWS, ROWS_PER_BYTE * size):
        raise SourceError(
            f"{name} is damaged: {table} has {rows:,} rows, more than a file of {size:,} bytes "
            "can hold of a run.",
            exit_code=4,
        )
    longest = connection.execute(
        f"SELECT column_name, max({_LONGEST_TEXT}) AS longest FROM pragma_storage_info('{table}')"
        " WHERE segment_type = 'VARCHAR' GROUP BY ALL"
        " HAVING longest > if(list_contains(?, column_name), ?, ?)",
        [list(_TEXTS), LARGEST_TEXT, LARGEST_NAME],
    ).fetchone()
    if longest is not None:
        raise SourceError(
            f"{name} is damaged: {table}.{longest[0]} holds a text of {longest[1]:,} bytes.",
            exit_code=4,
        )


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
