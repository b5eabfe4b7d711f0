"""How a recording is opened: its memory limit, its spill folder, and the reasons for a refusal.

Every function goes through `replay.recording.connections`, and checks what is in a file before
anything in it is used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

import duckdb

from engine.events.safe_files import UnsafeFile, check_regular, open_regular
from replay.recording import connections
from replay.recording.connections import Setting
from replay.recording.machine_memory import machine_memory
from replay.recording.schema import check_recording
from replay.recording.temporary_folders import temporary_home
from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text

LARGEST_LIMIT_BYTES = 512 << 20
SMALLEST_LIMIT_BYTES = 256 << 20
"""Bounds of what DuckDB may hold in memory for a recording in a file that is read."""
WRITER_LIMIT_BYTES = 128 << 20
"""The same for one that is written: a recorder holds the fold of its run beside it."""
IN_MEMORY_LIMIT_BYTES = 64 << 20
"""The same for a database in memory: beside it a live console holds the fold of its run."""
_MACHINE_DIVISOR = 8
"""Between the bounds, the limit is this part of the machine's memory."""

IN_MEMORY = ":memory:"
_PROCESS_KEY = secrets.token_bytes(16)
_STORAGE = {"storage_compatibility_version": "v1.5.0"}
_MAGIC = b"DUCK"
_MAGIC_OFFSET = 8
_LOG_SUFFIXES = (".wal", ".wal.checkpoint", ".wal.recovery")
"""Names of the files that DuckDB reads beside a recording, without that of the recording."""


def open_file(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a finished recording read-only.

    Raises:
        SourceError: There is no such recording, or it is damaged; one sentence for people.
    """
    try:
        _check_logs(path)
        with open(open_regular(path), "rb") as file:
            head = file.read(_MAGIC_OFFSET + len(_MAGIC))
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {path}.") from error
    except UnsafeFile as error:
        raise SourceError(
            f"{error.filename} is not opened: {error.strerror}.", exit_code=4
        ) from error
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from error
    if head[_MAGIC_OFFSET:] != _MAGIC:
        raise SourceError(f"{path} is not a recording of headgate (no DuckDB file).")
    try:
        return connect_for_reading(path)
    except duckdb.Error as error:
        raise _open_error(path, error) from error


def bounded_memory(database: Path | str, limit_bytes: int | None = None) -> dict[str, str]:
    """Configuration by which what doesn't fit into a limit goes to `spill_folder`.

    Args:
        database: A recording in memory has `IN_MEMORY_LIMIT_BYTES`, whatever else is wanted.
        limit_bytes: None for as much as a reader may take on this machine.
    """
    if database == IN_MEMORY:
        limit = IN_MEMORY_LIMIT_BYTES
    elif limit_bytes is not None:
        limit = limit_bytes
    else:
        share = machine_memory() // _MACHINE_DIVISOR
        limit = max(SMALLEST_LIMIT_BYTES, min(LARGEST_LIMIT_BYTES, share))
    return {
        "memory_limit": f"{limit // 1_000_000}MB",
        "temp_directory": str(spill_folder(database)),
    }


def spill_folder(database: Path | str) -> Path:
    """DuckDB makes it when it needs it, and takes it away.

    Connections of one process to one file share a database, and so must share its folder.
    """
    name = f"{os.getpid()} {Path(database).resolve()}"
    if database == IN_MEMORY:
        name = secrets.token_hex(8)
    digest = hashlib.blake2b(name.encode(), key=_PROCESS_KEY, digest_size=8).hexdigest()
    return temporary_home() / f"headgate-{digest}"


def connect_for_writing(
    path: Path | str, spill: Path | str | None = None
) -> duckdb.DuckDBPyConnection:
    """Open or create a recording.

    Raises `duckdb.Error`, above all where another has it open, and `SourceError` where the file
    holds more than headgate writes.

    `spill`: the folder for what does not fit into memory, in place of this process's own.
    """
    # One writer's batches are too small to share: more threads only wait for each other.
    bounds = bounded_memory(path, WRITER_LIMIT_BYTES)
    config: dict[str, Setting] = {**_STORAGE, **bounds, "threads": 1}
    if spill is not None:
        config["temp_directory"] = str(spill)
    connection = connections.connect(path, config=config)
    try:
        # Closing goes by the path of long ago: in a folder that was renamed it would leave a log
        # that is in the file already, and can't be read again. And a log that is refused must not
        # get into the file.
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        if path != IN_MEMORY:
            check_recording(connection, str(path))
        tune_for_writing(connection)
    except (duckdb.Error, SourceError):
        connection.close()
        raise
    return connection


def connect_for_reading(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a recording read-only.

    Raises `duckdb.Error`, and `SourceError` as `check_recording` does, or where there is no run in
    it yet.
    """
    connection = connections.connect(path, read_only=True, config={**bounded_memory(path)})
    try:
        if check_recording(connection, str(path)) is None:
            raise SourceError(
                f"{clean_text(str(path))} is a DuckDB file, but not a recording of headgate."
            )
        connection.execute("SET lock_configuration = true")
    except (duckdb.Error, SourceError):
        connection.close()
        raise
    return connection


def tune_for_writing(connection: duckdb.DuckDBPyConnection) -> None:
    """Checkpoint only when told to: the default threshold stalls single commits."""
    connection.execute("SET checkpoint_threshold = '1GB'")


def _check_logs(path: Path) -> None:
    """Raises `UnsafeFile` where a log that DuckDB would read is no regular file."""
    for suffix in _LOG_SUFFIXES:
        with suppress(FileNotFoundError):
            check_regular(f"{path}{suffix}")


def _open_error(path: Path, error: duckdb.Error) -> SourceError:
    problem = str(error)
    if "Could not set lock" in problem:
        return SourceError(
            f"{path} is being written by a recorder; open its folder with headgate watch."
        )
    if "version number" in problem:
        first = problem.splitlines()[0]
        return SourceError(f"{path} was written by a newer DuckDB than this one: {first}")
    return connections.reading_error(error, str(path))
