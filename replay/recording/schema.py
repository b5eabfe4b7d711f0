"""The tables of a recording and its schema version.

Rows are written in order of their ordinal (derived rows in order of their end), so that DuckDB's
zone maps answer ranges; there is no index. The format is readable by every DuckDB from 1.5 on.
"""

from __future__ import annotations

import duckdb
import msgspec

from engine.events import SCHEMA_VERSION
from replay.recording import connections
from replay.recording.soundness import check_numbers
from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text

EVENT_COLUMNS: tuple[tuple[str, str], ...] = (
    ("ordinal", "BIGINT"),
    ("stream", "VARCHAR"),
    ("kind", "VARCHAR"),
    ("t", "DOUBLE"),
    ("seq", "BIGINT"),
    ("run_id", "VARCHAR"),
    ("row_group", "BIGINT"),
    ("task_column", "VARCHAR"),
    ("task_type", "VARCHAR"),
    ("group_kind", "VARCHAR"),
    ("group_hash", "VARCHAR"),
    ("correlated_execution_id", "VARCHAR"),
    ("task_id", "VARCHAR"),
    ("execution_id", "VARCHAR"),
    ("attempt_id", "VARCHAR"),
    ("lease_id", "VARCHAR"),
    ("scheduler_resource", "VARCHAR"),
    ("provider_name", "VARCHAR"),
    ("model_id", "VARCHAR"),
    ("domain", "VARCHAR"),
    ("request_group", "VARCHAR"),
    ("reason", "VARCHAR"),
    ("snapshot", "VARCHAR"),
    ("diagnostics", "VARCHAR"),
)
"""Columns of `events`. `run_id` is null without a correlation, `provider_name` without a request
resource; `snapshot` and `diagnostics` are JSON, the latter null where it is empty."""

_ROLLUP = (
    ("bin", "BIGINT"),
    ("series", "VARCHAR"),
    ("key", "VARCHAR"),
    ("mean", "DOUBLE"),
    ("last", "DOUBLE"),
    ("peak", "DOUBLE"),
)
_BLAME = (
    ("bin", "BIGINT"),
    ("scope", "VARCHAR"),
    ("column", "VARCHAR"),
    ("row_group", "BIGINT"),
    ("resource", "VARCHAR"),
    ("verdict", "VARCHAR"),
    ("seconds", "DOUBLE"),
)
_BINS = ("bins", "BIGINT")
"""Length of a stretch, whose row stands for so many bins."""
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "meta": (("key", "VARCHAR"), ("value", "VARCHAR")),
    "events": EVENT_COLUMNS,
    "keyframes": (("ordinal", "BIGINT"), ("t", "DOUBLE"), ("state", "BLOB")),
    "keyframe_changes": (("ordinal", "BIGINT"), ("t", "DOUBLE"), ("changes", "BLOB")),
    "keyframe_parts": (("ordinal", "BIGINT"), ("part", "BIGINT"), ("data", "BLOB")),
    "resume": (
        ("position", "VARCHAR"),
        ("ordinal", "BIGINT"),
        ("fold_ordinal", "BIGINT"),
        ("fold", "BLOB"),
    ),
    "leases": (
        ("lease_id", "VARCHAR"),
        ("task_id", "VARCHAR"),
        ("column", "VARCHAR"),
        ("group", "VARCHAR"),
        ("row_group", "BIGINT"),
        ("row", "BIGINT"),
        ("attempt", "BIGINT"),
        ("execution_id", "VARCHAR"),
        ("ready_at", "DOUBLE"),
        ("enqueued_at", "DOUBLE"),
        ("selected_at", "DOUBLE"),
        ("acquired_at", "DOUBLE"),
        ("spawned_at", "DOUBLE"),
        ("released_at", "DOUBLE"),
        ("result", "VARCHAR"),
        ("error", "VARCHAR"),
        ("acquired_ordinal", "BIGINT"),
        ("released_ordinal", "BIGINT"),
    ),
    "attempts": (
        ("attempt_id", "VARCHAR"),
        ("resource", "VARCHAR"),
        ("execution_id", "VARCHAR"),
        ("column", "VARCHAR"),
        ("lease_id", "VARCHAR"),
        ("wait_started_at", "DOUBLE"),
        ("acquired_at", "DOUBLE"),
        ("started_at", "DOUBLE"),
        ("completed_at", "DOUBLE"),
        ("released_at", "DOUBLE"),
        ("outcome", "VARCHAR"),
        ("first_ordinal", "BIGINT"),
        ("last_ordinal", "BIGINT"),
    ),
    "rollup": _ROLLUP,
    "blame": _BLAME,
    "rollup_stretches": (*_ROLLUP, _BINS),
    "blame_stretches": (*_BLAME, _BINS),
    "verdicts": (
        ("verdict", "VARCHAR"),
        ("tier", "VARCHAR"),
        ("resource", "VARCHAR"),
        ("start", "DOUBLE"),
        ("end", "DOUBLE"),
        ("sentence", "VARCHAR"),
        ("evidence", "BIGINT[]"),
        ("detail", "VARCHAR"),
    ),
    "broken_lines": (("line_number", "BIGINT"), ("problem", "VARCHAR")),
}
"""Table -> (column, type)s. Those named like a struct in `replay.state.rows` hold its fields;
`rollup` and `blame` rows of one bin, and those with `_stretches` rows of more, in order of their
end. A large keyframe is empty, and its bytes are in `keyframe_parts`. Recordings of older versions
have none of `keyframe_changes`, `keyframe_parts` and stretches."""


class ImportEnding(msgspec.Struct, frozen=True):
    """How the import of a run ended, under the key `ending` of `meta`."""

    outcome: str | None
    lost: bool


def column_list(table: str) -> str:
    """The columns of `table` for a SELECT, in order, quoted (some are SQL words)."""
    return ", ".join(f'"{name}"' for name, _ in TABLES[table])


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make what is missing."""
    for table, columns in TABLES.items():
        declared = ", ".join(f'"{name}" {kind}' for name, kind in columns)
        connection.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({declared})')


def check_schema(
    connection: duckdb.DuckDBPyConnection, name: str, catalog: str | None = None
) -> int | None:
    """The schema version of a recording, None of a database that is empty.

    Nothing in it is used before it is known. Raises `SourceError` where the database holds more
    than headgate writes, or comes from a newer headgate. `catalog` is the name under which it is
    attached; None is what the connection was opened with.
    """
    name = clean_text(name)
    connections.refuse_code(connection, name, catalog)
    tables = connections.table_names(connection, catalog)
    version = None
    if "meta" in tables:
        connections.refuse_foreign_tables(connection, TABLES, name, catalog, only="meta")
        version = _written_version(connection, name, catalog)
    elif tables:
        raise SourceError(f"{name} is a DuckDB file, but not a recording of headgate.")
    connections.refuse_foreign_tables(connection, TABLES, name, catalog)
    return version


def check_recording(connection: duckdb.DuckDBPyConnection, name: str) -> int | None:
    """As `check_schema`, and what is in the tables is what a recorder writes."""
    version = check_schema(connection, name)
    if version is not None:
        check_numbers(connection, TABLES, clean_text(name))
    return version


def _written_version(
    connection: duckdb.DuckDBPyConnection, name: str, catalog: str | None
) -> int | None:
    meta = "meta" if catalog is None else f"{catalog}.meta"
    row = connection.execute(f"SELECT value FROM {meta} WHERE key = 'schema_version'").fetchone()
    if row is None:
        return None
    try:
        written = int(row[0])
    except (TypeError, ValueError):
        raise SourceError(
            f"{name} is damaged: its schema version is not a number.", exit_code=4
        ) from None
    if written > SCHEMA_VERSION:
        raise SourceError(
            f"{name} was written by a newer headgate (schema {written}; this one reads up to "
            f"{SCHEMA_VERSION})."
        )
    return written
