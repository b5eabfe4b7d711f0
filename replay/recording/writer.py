"""`RecordingWriter`: batches of a run into DuckDB, each commit whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from engine.events import SCHEMA_VERSION, RunInfo
from engine.events.run_record import installed_versions
from replay.diagnosis.diagnosis_state import DIAGNOSIS_VERSION
from replay.recording.batch import FoldCheckpoint, FoldedBatch
from replay.recording.event_rows import event_row
from replay.recording.keyframes import Keyframe
from replay.recording.opening import WRITER_LIMIT_BYTES
from replay.recording.rows import arrow_table, parts_table, verdict_row
from replay.recording.schema import create_tables
from replay.sources.base import SourceError

CHECKPOINT_EVERY = 2 * 122_880
"""Number of events after which the write-ahead log is checkpointed, which frees the memory that it
takes. Two row groups of DuckDB, which it writes as they are."""

CHECKPOINT_BYTES = WRITER_LIMIT_BYTES // 4
"""Bytes of rows after which it is checkpointed as well, whatever the number of events."""

LARGE_KEYFRAME_BYTES = 32 << 10
PART_BYTES = 4_000
"""DuckDB holds all that 2,048 rows have of a blob in memory at once, whatever its limit, where the
blobs are longer than 4,096 bytes: what is long is kept in parts."""


class ResumePoint(NamedTuple):
    """Where an import goes on: all up to `ordinal` is in; the fold was kept at `fold.ordinal`."""

    position: dict[str, int]
    ordinal: int
    fold: FoldCheckpoint | None


@dataclass
class _Pending:
    """Rows that were appended and are not committed."""

    tables: dict[str, list[pa.Table]] = field(default_factory=dict)
    events: int = 0
    bytes: int = 0
    run: RunInfo | None = None
    fold: FoldCheckpoint | None = None
    last: FoldedBatch | None = None


class RecordingWriter:
    """Owns a connection's tables. Raises `duckdb.Error`; what was committed before stays."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, checkpoint_every: int = CHECKPOINT_EVERY
    ) -> None:
        self._connection = connection
        self._checkpoint_every = checkpoint_every
        self.before_checkpoint: Callable[[], None] = lambda: None
        """Ends the transactions of others: none may be open then."""
        self._since_checkpoint = 0
        self._bytes_since_checkpoint = 0
        self._pending = _Pending()
        create_tables(connection)
        if self.meta("schema_version") is None:
            self.set_meta("schema_version", str(SCHEMA_VERSION))
            self.set_meta("diagnosis_version", str(DIAGNOSIS_VERSION))
            self.set_meta("versions", msgspec.json.encode(installed_versions()).decode())

    def meta(self, key: str) -> str | None:
        """The JSON under a key."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self._connection.execute("DELETE FROM meta WHERE key = ?", [key])
        self._connection.execute("INSERT INTO meta VALUES (?, ?)", [key, value])

    def resume_point(self) -> ResumePoint | None:
        """Where the last commit left off; None for an empty recording.

        Raises `SourceError` where the recording is damaged.
        """
        row = self._connection.execute(
            "SELECT position, ordinal, fold_ordinal, fold FROM resume"
        ).fetchone()
        if row is None:
            return None
        position, ordinal, fold_ordinal, fold = row
        dump = None if fold is None else FoldCheckpoint(fold_ordinal, bytes(fold))
        try:
            source_position = msgspec.json.decode(position, type=dict[str, int])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise SourceError(
                "The recording is damaged: it does not say how far it reaches.", 4
            ) from error
        return ResumePoint(source_position, ordinal, dump)

    @property
    def uncommitted(self) -> int:
        """Bytes of rows appended since the last commit, in memory."""
        return self._pending.bytes

    def append(self, batch: FoldedBatch) -> None:
        """Add the rows of a batch to the next commit."""
        pending = self._pending
        for table, rows in _rows(batch).items():
            if rows:
                self._add(table, arrow_table(table, rows))
        for keyframe in (*batch.keyframes, *batch.changes):
            if _is_large(keyframe):
                parts = parts_table(keyframe.ordinal, keyframe.state, PART_BYTES)
                self._add("keyframe_parts", parts)
        pending.last = batch
        pending.run = batch.run or pending.run
        if batch.fold is not None:
            pending.fold = batch.fold
            pending.bytes += len(batch.fold.data)
        pending.events += batch.size

    def _add(self, table: str, rows: pa.Table) -> None:
        self._pending.tables.setdefault(table, []).append(rows)
        self._pending.bytes += rows.nbytes

    def commit(self) -> None:
        """Write all that was appended since the last commit in one transaction."""
        pending, self._pending = self._pending, _Pending()
        if pending.last is None:
            return
        try:
            self._commit(pending, pending.last)
        except (duckdb.OutOfMemoryException, duckdb.TransactionException):
            self.checkpoint()  # It gives back the memory that the write-ahead log holds.
            self._commit(pending, pending.last)
        self._since_checkpoint += pending.events
        self._bytes_since_checkpoint += pending.bytes
        if (
            self._since_checkpoint >= self._checkpoint_every
            or self._bytes_since_checkpoint >= CHECKPOINT_BYTES
        ):
            self.checkpoint()

    def _commit(self, pending: _Pending, last: FoldedBatch) -> None:
        connection = self._connection
        connection.execute("BEGIN TRANSACTION")
        try:
            for table, parts in pending.tables.items():
                self._insert(table, pa.concat_tables(parts))
            if pending.run is not None:
                self.set_meta("run", msgspec.json.encode(pending.run).decode())
            if last.ending is not None:
                self.set_meta("ending", msgspec.json.encode(last.ending).decode())
            self._set_resume(last, pending.fold)
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def checkpoint(self) -> None:
        """Move what is committed from the write-ahead log into the file."""
        self.before_checkpoint()
        self._connection.execute("CHECKPOINT")
        self._since_checkpoint = self._bytes_since_checkpoint = 0

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._connection.register("incoming", rows)
        try:
            self._connection.execute(f'INSERT INTO "{table}" SELECT * FROM incoming')
        finally:
            self._connection.unregister("incoming")

    def _set_resume(self, last: FoldedBatch, fold: FoldCheckpoint | None) -> None:
        position = msgspec.json.encode(last.position).decode()
        execute = self._connection.execute
        if execute("SELECT count(*) FROM resume").fetchone() == (0,):
            execute("INSERT INTO resume VALUES (?, ?, NULL, NULL)", [position, last.last_ordinal])
        else:
            execute("UPDATE resume SET position = ?, ordinal = ?", [position, last.last_ordinal])
        if last.ending is not None:  # Who would go on?
            execute("UPDATE resume SET fold_ordinal = NULL, fold = NULL")
        elif fold is not None:
            execute("UPDATE resume SET fold_ordinal = ?, fold = ?", [fold.ordinal, fold.data])

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.Error:
            return  # the failure itself ended the transaction, or the database with it


def _is_large(keyframe: Keyframe) -> bool:
    return len(keyframe.state) > LARGE_KEYFRAME_BYTES


def _keyframe_row(keyframe: Keyframe) -> Keyframe:
    """The row of a keyframe. That of a large one has its ordinal and time only."""
    return keyframe._replace(state=b"") if _is_large(keyframe) else keyframe


def _rows(batch: FoldedBatch) -> dict[str, Sequence[Sequence[object]]]:
    """Rows by table, but for the parts of large keyframes."""
    astuple, output = msgspec.structs.astuple, batch.output
    return {
        "events": batch.event_rows
        or [
            event_row(ordinal, event)
            for ordinal, event in enumerate(batch.events, batch.first_ordinal)
        ],
        "leases": [astuple(row) for row in output.leases],
        "attempts": [astuple(row) for row in output.attempts],
        "rollup": [astuple(row)[:-1] for row in output.rollup if row.bins == 1],
        "rollup_stretches": [astuple(row) for row in output.rollup if row.bins != 1],
        "blame": [astuple(row)[:-1] for row in output.blame if row.bins == 1],
        "blame_stretches": [astuple(row) for row in output.blame if row.bins != 1],
        "verdicts": [verdict_row(row) for row in output.verdicts],
        "broken_lines": [astuple(row) for row in batch.broken],
        "keyframes": [_keyframe_row(keyframe) for keyframe in batch.keyframes],
        "keyframe_changes": [_keyframe_row(keyframe) for keyframe in batch.changes],
    }
