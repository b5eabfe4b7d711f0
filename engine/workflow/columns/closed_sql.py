"""`closed_connection`: DuckDB for the SQL of a workflow, which reaches no file, no network and no
extension."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "1GB"
MOST_QUERY_SECONDS = 5.0
"""Of one query over one row."""
MOST_SEED_SECONDS = 300.0
"""Of reading a seed file."""


class SqlError(Exception):
    """`str` says what is wrong with a query, as the end of a sentence, with nothing of a row."""


def closed_connection(allowed: Sequence[Path] = ()) -> duckdb.DuckDBPyConnection:
    """A database in memory. Nothing can open its settings again.

    Args:
        allowed: Files that it may read.
    """
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "threads": "1",
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": "",
            "python_enable_replacements": "false",
        },
    )
    if allowed:
        listed = ", ".join(_quoted(str(path)) for path in allowed)
        connection.execute(f"SET allowed_paths = [{listed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def check_single_query(sql: str) -> None:
    """Raises `SqlError` for SQL that is more, or other, than one SELECT."""
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise SqlError(first_line(error)) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise SqlError("it must be one SELECT")


@contextmanager
def bounded(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Interrupts what takes longer. Raises `SqlError` for that, and for any error of DuckDB whose
    message may hold row values."""
    import duckdb

    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException:
        raise SqlError(f"it takes more than {seconds:g} s") from None
    except duckdb.PermissionException:
        raise SqlError("it reaches for a file, the network or an extension") from None
    except duckdb.Error as error:
        raise SqlError(f"it fails ({type(error).__name__})") from None
    finally:
        timer.cancel()


def first_line(error: Exception) -> str:
    """The first line of a message about a query that no row has been put into."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line[:200].rstrip(".:")


def quoted_name(name: str) -> str:
    """A name as an SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def file_reader(path: Path) -> str:
    """The SQL that reads a file. Raises `SqlError` for a kind of file that is not read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    name = _quoted(str(path))
    if suffixes[-1:] == [".gz"]:
        suffixes = suffixes[:-1]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".csv":
        return f"read_csv({name})"
    if kind == ".tsv":
        return f"read_csv({name}, delim = '\t')"
    if kind == ".parquet":
        return f"read_parquet({name})"
    if kind in (".jsonl", ".ndjson"):
        return f"read_json({name}, format = 'newline_delimited')"
    raise SqlError("its name must end in .csv, .tsv, .parquet or .jsonl")


def plain(value: Any) -> Any:
    """A value as templates, JSON and Parquet take it: anything unusual as text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
