"""What a recording looks like inside: its tables, its version, and how it is opened for writing.

Rows are written in order of their ordinal (derived rows in order of their end), so that DuckDB's
zone maps answer ranges; there is no index. The format is readable by every DuckDB from 1.5 on.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import duckdb
import msgspec

from engine.events import SCHEMA_VERSION
from replay.sources.base import SourceError

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
    "rollup": (
        ("bin", "BIGINT"),
        ("series", "VARCHAR"),
        ("key", "VARCHAR"),
        ("mean", "DOUBLE"),
        ("last", "DOUBLE"),
        ("peak", "DOUBLE"),
    ),
    "blame": (
        ("bin", "BIGINT"),
        ("scope", "VARCHAR"),
        ("column", "VARCHAR"),
        ("row_group", "BIGINT"),
        ("resource", "VARCHAR"),
        ("verdict", "VARCHAR"),
        ("seconds", "DOUBLE"),
    ),
    "rollup_stretches": (
        ("bin", "BIGINT"),
        ("series", "VARCHAR"),
        ("key", "VARCHAR"),
        ("mean", "DOUBLE"),
        ("last", "DOUBLE"),
        ("peak", "DOUBLE"),
        ("bins", "BIGINT"),
    ),
    "blame_stretches": (
        ("bin", "BIGINT"),
        ("scope", "VARCHAR"),
        ("column", "VARCHAR"),
        ("row_group", "BIGINT"),
        ("resource", "VARCHAR"),
        ("verdict", "VARCHAR"),
        ("seconds", "DOUBLE"),
        ("bins", "BIGINT"),
    ),
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
"""Table -> (column, type)s. Those named like a struct in `replay.rows` hold exactly its fields;
`rollup` and `blame` rows of one bin, and those with `_stretches` rows of more, in order of their
end. A large keyframe is empty, and its bytes are in `keyframe_parts`. Recordings of older versions
have none of `keyframe_changes`, `keyframe_parts` and stretches."""


class Ending(msgspec.Struct, frozen=True):
    """How the import of a run ended, under the key `ending` of `meta`."""

    outcome: str | None
    lost: bool


MOST_MEMORY = 512 << 20
LEAST_MEMORY = 256 << 20
IN_MEMORY_LIMIT = 128 << 20
"""Of a database in memory: beside it a live console holds the fold of its run."""
_PART_OF_MACHINE = 8

IN_MEMORY = ":memory:"
_PROCESS_KEY = secrets.token_bytes(16)
_STORAGE = {"storage_compatibility_version": "v1.5.0"}


def column_list(table: str) -> str:
    """The columns of `table` for a SELECT, in order, quoted (some are SQL words)."""
    return ", ".join(f'"{name}"' for name, _ in TABLES[table])


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make what is missing. Raises `SourceError` if a newer headgate made the recording."""
    check_version(connection, "the recording")
    for table, columns in TABLES.items():
        declared = ", ".join(f'"{name}" {kind}' for name, kind in columns)
        connection.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({declared})')


def check_version(connection: duckdb.DuckDBPyConnection, name: str) -> int | None:
    """The schema version, None where the database holds none. `SourceError` if it is newer."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'meta' AND NOT internal"
        " AND database_name = current_catalog()"
    ).fetchone()
    if not found or not found[0]:
        return None
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None:
        return None
    written = int(row[0])
    if written > SCHEMA_VERSION:
        raise SourceError(
            f"{name} was written by a newer headgate (schema {written}; this one reads up to "
            f"{SCHEMA_VERSION})."
        )
    return written


def bounded_memory(database: Path | str) -> dict[str, str]:
    """Configuration by which what doesn't fit into memory goes to `spill_folder`.

    Also of a recording in memory.
    """
    limit = IN_MEMORY_LIMIT
    if database != IN_MEMORY:
        limit = max(LEAST_MEMORY, min(MOST_MEMORY, machine_memory() // _PART_OF_MACHINE))
    return {
        "memory_limit": f"{limit // 1_000_000}MB",
        "temp_directory": str(spill_folder(database)),
    }


@cache
def machine_memory() -> int:
    """Bytes that this process may use at most: of the machine, or of its control group."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _control_group_limits():
        with suppress(OSError, ValueError):  # no such limit, or "max"
            limits.append(int(file.read_text()))
    return min(limits)


def _control_group_limits() -> Iterator[Path]:
    """Files that may hold a limit: of the group of this process and those above it."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            root = Path("/sys/fs/cgroup")
            name = "memory.max"
            if controllers:
                if "memory" not in controllers.split(","):
                    continue
                root, name = root / "memory", "memory.limit_in_bytes"
            group = root / place.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(root):
                    yield folder / name


def spill_folder(database: Path | str) -> Path:
    """DuckDB makes it when it needs it, and takes it away.

    Connections of one process to one file share a database, and so must share its folder.
    """
    name = f"{os.getpid()} {Path(database).resolve()}"
    if database == IN_MEMORY:
        name = secrets.token_hex(8)
    place = hashlib.blake2b(name.encode(), key=_PROCESS_KEY, digest_size=8).hexdigest()
    return temporary_home() / f"headgate-{place}"


def temporary_home() -> Path:
    """Where temporary folders are made. Raises `SourceError` where there is no such place."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise SourceError(
            "No folder for temporary files can be written; name one that can in TMPDIR."
        ) from error


def connect_for_writing(
    path: Path | str, spill: Path | str | None = None
) -> duckdb.DuckDBPyConnection:
    """Open or create a recording. Raises `duckdb.Error`, above all where another has it open.

    `spill`: the folder for what does not fit into memory, in place of this process's own.
    """
    # One writer's batches are too small to share: more threads only wait for each other.
    config: dict[str, str | bool | int | float | list[str]] = {
        **_STORAGE,
        **bounded_memory(path),
        "threads": 1,
    }
    if spill is not None:
        config["temp_directory"] = str(spill)
    connection = duckdb.connect(str(path), config=config)
    # Closing goes by the path of long ago: in a folder that was renamed it would leave a log that
    # is in the file already, and can't be read again.
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    tune_for_writing(connection)
    return connection


def tune_for_writing(connection: duckdb.DuckDBPyConnection) -> None:
    """Checkpoint only when told to: the default threshold stalls single commits."""
    connection.execute("SET checkpoint_threshold = '1GB'")
