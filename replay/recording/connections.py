"""The only place that opens a DuckDB database, and what is checked before its content is used.

A recording may come from anybody. A database can hold views, macros, default values and more, all
of which are code that DuckDB runs when an innocent query names them: a macro called `+` or `count`
takes the place of the function. So nothing outside the recording can be reached from a connection,
and a recording that holds anything but the tables of `replay.recording.schema` is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text

Setting = str | bool | int | float | list[str]

ISOLATED: dict[str, Setting] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
}
"""In force before the file is opened, whose write-ahead log is replayed then. DuckDB still reaches
the file itself, its log and its folder for temporary files."""

# DuckDB 1 has no triggers and opens no file that holds one.
_HAS_TRIGGERS = int(duckdb.__version__.partition(".")[0]) >= 2

# Never a name that the recording could define: table functions with their catalog and schema, no
# function, no operator but NOT. Views are asked before columns, which may bind a view.
_FOREIGN_OBJECTS = tuple(
    (what, f"SELECT database_name, {column} FROM system.main.{function}(){internal}")
    for what, column, function, internal in (
        ("a function", "function_name", "duckdb_functions", " WHERE NOT internal"),
        ("a view", "view_name", "duckdb_views", " WHERE NOT internal"),
        ("a type", "type_name", "duckdb_types", " WHERE NOT internal"),
        ("a schema", "schema_name", "duckdb_schemas", " WHERE NOT internal"),
        ("a sequence", "sequence_name", "duckdb_sequences", ""),
        ("a trigger", "trigger_name", "duckdb_triggers", ""),
        ("an index", "index_name", "duckdb_indexes", ""),
    )
    if function != "duckdb_triggers" or _HAS_TRIGGERS
)
_TABLES = (
    "SELECT database_name, schema_name, table_name, sql FROM system.main.duckdb_tables()"
    " WHERE NOT internal"
)
_SCARCE = (
    "Too many open files",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    "No space left on device",
    "Disk quota exceeded",
)
_IN_MEMORY = ":memory:"
_MAIN = "main"
_SHOWN = 60


def connect(
    database: Path | str, *, read_only: bool = False, config: Mapping[str, Setting]
) -> duckdb.DuckDBPyConnection:
    """A connection to `database` from which nothing else can be reached.

    Raises `duckdb.Error`, and `SourceError` for a name that DuckDB can't open.
    """
    # Order matters: `temp_directory` is refused unless external access is turned off before.
    settings = {**ISOLATED, **config}
    return duckdb.connect(_location(database), read_only=read_only, config=settings)


def connect_beside(
    path: Path, catalog: str, config: Mapping[str, Setting]
) -> duckdb.DuckDBPyConnection:
    """A database in memory to which `path` is attached as `catalog`, read-only.

    Nothing but the two can be reached from it. Raises as `connect` does.
    """
    settings = {**ISOLATED, **config}
    del settings["enable_external_access"]  # or no path could be allowed
    connection = duckdb.connect(_IN_MEMORY, config=settings)
    try:
        location = os.path.realpath(_location(path))
        allowed = ", ".join(_literal(name) for name in (location, f"{location}.wal"))
        connection.execute(f"SET allowed_paths = [{allowed}]")
        connection.execute("SET enable_external_access = false")
        connection.execute(f"ATTACH {_literal(location)} AS {catalog} (READ_ONLY)")
    except duckdb.Error:
        connection.close()
        raise
    return connection


def reading_error(error: Exception, name: str) -> SourceError:
    """What a failure to read a recording says: that it is damaged, or that the machine has too
    little room."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, duckdb.OutOfMemoryException) or any(word in first for word in _SCARCE):
        return SourceError(f"{name} can't be read here: {first}")
    return SourceError(f"{name} is damaged: {first}", exit_code=4)


def refuse_code(
    connection: duckdb.DuckDBPyConnection, name: str, catalog: str | None = None
) -> None:
    """Raises `SourceError` where a database holds anything but tables.

    `catalog` is the name under which it is attached; None is what the connection was opened with.
    """
    catalog = catalog or _opened(connection)
    for what, query in _FOREIGN_OBJECTS:
        for database, object_name in _rows(connection, query):
            if database == catalog:
                raise _foreign(name, f"{what} named {_shown(object_name)}")


def refuse_foreign_tables(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Sequence[tuple[str, str]]],
    name: str,
    catalog: str | None = None,
    *,
    only: str | None = None,
) -> None:
    """Raises `SourceError` where a table is not one of `tables`, or is declared in another way.

    Tables and columns may be missing: older versions had fewer. `only` looks at one table.
    """
    catalog = catalog or _opened(connection)
    columns = _columns(connection, catalog)
    for database, schema, table, definition in _rows(connection, _TABLES):
        if database != catalog or (only is not None and table != only):
            continue
        if schema != _MAIN or table not in tables:
            raise _foreign(name, f"a table named {_shown(table)}")
        own, known = columns.get(table, []), list(tables[table])
        if own != [column for column in known if column in own]:
            raise _foreign(name, f"a table {table} with columns of its own")
        declared = ", ".join(f"{column} {kind}" for column, kind in own)
        if definition.replace('"', "") != f"CREATE TABLE {table}({declared});":
            raise _foreign(name, f"a table {table} with defaults or conditions of its own")


def table_names(connection: duckdb.DuckDBPyConnection, catalog: str | None = None) -> set[str]:
    """Names of the tables of `catalog`; of the opened recording where none is named."""
    catalog = catalog or _opened(connection)
    return {row[2] for row in _rows(connection, _TABLES) if row[0] == catalog}


def _columns(
    connection: duckdb.DuckDBPyConnection, catalog: str
) -> dict[str, list[tuple[str, str]]]:
    """Column names and types by table, in order."""
    columns: dict[str, list[tuple[str, str]]] = {}
    for database, table, column, kind in _rows(
        connection,
        "SELECT database_name, table_name, column_name, data_type"
        " FROM system.main.duckdb_columns() WHERE NOT internal",
    ):
        if database == catalog:
            columns.setdefault(table, []).append((column, kind))
    return columns


def _opened(connection: duckdb.DuckDBPyConnection) -> str:
    """The catalog of the file the connection was opened with, or of its memory."""
    names = _rows(
        connection,
        "SELECT database_name FROM system.main.duckdb_databases() WHERE NOT internal",
    )
    return str(names[0][0])


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[str, ...]]:
    return connection.execute(query).fetchall()


def _foreign(name: str, what: str) -> SourceError:
    return SourceError(
        f"{name} was not written by headgate alone: it holds {what}, so it is not opened. "
        "Ask for the journal or the JSON Lines of the run instead.",
        exit_code=4,
    )


def _shown(text: str) -> str:
    text = clean_text(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _location(database: Path | str) -> str:
    """A whole path: DuckDB takes the beginning of some names for that of an extension.

    Raises `SourceError` for a name whose write-ahead log DuckDB looks for elsewhere.
    """
    if str(database) == _IN_MEMORY:
        return _IN_MEMORY
    location = os.path.abspath(database)
    if "?" in location:
        raise SourceError(
            f"{clean_text(location)} has a question mark in its name, which DuckDB can't open: "
            "rename it."
        )
    return location


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"
