"""`RecordingWriter`: one batch of a run into DuckDB, all of it or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import duckdb
import msgspec
import pyarrow as pa

from engine.events import SCHEMA_VERSION, Event, RunInfo
from engine.events.run_folder import installed_versions
from replay.diagnosis.memory import DIAGNOSIS_VERSION
from replay.fold import FoldOutput
from replay.recording.rows import arrow_table, event_row, verdict_row
from replay.recording.schema import Ending, create_tables
from replay.sources.base import BrokenLine


class Keyframe(NamedTuple):
    ordinal: int
    t: float
    state: bytes
    """zlib-compressed msgpack of a `State`."""


class FoldDump(NamedTuple):
    ordinal: int
    data: bytes


class ResumePoint(NamedTuple):
    """Where an import goes on: all up to `ordinal` is in; the fold was kept at `fold.ordinal`."""

    position: dict[str, int]
    ordinal: int
    fold: FoldDump | None


class Prepared(NamedTuple):
    """One batch in the form in which it is written."""

    tables: dict[str, pa.Table]
    meta: dict[str, str]
    position: dict[str, int]
    ordinal: int
    fold: FoldDump | None


def prepared(
    events: Sequence[Event],
    first_ordinal: int,
    output: FoldOutput,
    position: dict[str, int],
    *,
    broken: Sequence[BrokenLine] = (),
    keyframes: Sequence[Keyframe] = (),
    fold: FoldDump | None = None,
    run: RunInfo | None = None,
    ending: Ending | None = None,
) -> Prepared:
    """See `RecordingWriter.append`."""
    rows: dict[str, Iterable[Sequence[object]]] = {
        "events": [
            event_row(ordinal, event) for ordinal, event in enumerate(events, first_ordinal)
        ],
        "leases": [msgspec.structs.astuple(row) for row in output.leases],
        "attempts": [msgspec.structs.astuple(row) for row in output.attempts],
        "rollup": [msgspec.structs.astuple(row) for row in output.rollup],
        "blame": [msgspec.structs.astuple(row) for row in output.blame],
        "verdicts": [verdict_row(row) for row in output.verdicts],
        "broken_lines": [msgspec.structs.astuple(row) for row in broken],
        "keyframes": keyframes,
    }
    meta = {}
    if run is not None:
        meta["run"] = msgspec.json.encode(run).decode()
    if ending is not None:
        meta["ending"] = msgspec.json.encode(ending).decode()
    return Prepared(
        {table: arrow_table(table, some) for table, some in rows.items() if some},
        meta,
        position,
        first_ordinal + len(events) - 1,
        fold,
    )


class RecordingWriter:
    """Owns a connection's tables. Raises `duckdb.Error`; what was committed before stays."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
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
        """Where the last commit left off; None for an empty recording."""
        row = self._connection.execute(
            "SELECT position, ordinal, fold_ordinal, fold FROM resume"
        ).fetchone()
        if row is None:
            return None
        position, ordinal, fold_ordinal, fold = row
        dump = None if fold is None else FoldDump(fold_ordinal, bytes(fold))
        return ResumePoint(msgspec.json.decode(position, type=dict[str, int]), ordinal, dump)

    def append(
        self,
        events: Sequence[Event],
        first_ordinal: int,
        output: FoldOutput,
        position: dict[str, int],
        *,
        broken: Sequence[BrokenLine] = (),
        keyframes: Sequence[Keyframe] = (),
        fold: FoldDump | None = None,
        run: RunInfo | None = None,
        ending: Ending | None = None,
    ) -> None:
        """Commit a batch with all that follows from it. `run` only where it changed."""
        self.commit(
            prepared(
                events,
                first_ordinal,
                output,
                position,
                broken=broken,
                keyframes=keyframes,
                fold=fold,
                run=run,
                ending=ending,
            )
        )

    def commit(self, batch: Prepared) -> None:
        """All of it or none."""
        connection = self._connection
        connection.execute("BEGIN TRANSACTION")
        try:
            for table, rows in batch.tables.items():
                self._insert(table, rows)
            for key, value in batch.meta.items():
                self.set_meta(key, value)
            self._set_resume(batch.position, batch.ordinal, batch.fold)
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def forget_fold(self) -> None:
        """A finished recording needs none."""
        self._connection.execute("UPDATE resume SET fold = NULL, fold_ordinal = NULL")

    def checkpoint(self) -> None:
        self._connection.execute("CHECKPOINT")

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._connection.register("incoming", rows)
        try:
            self._connection.execute(f'INSERT INTO "{table}" SELECT * FROM incoming')
        finally:
            self._connection.unregister("incoming")

    def _set_resume(self, position: dict[str, int], ordinal: int, fold: FoldDump | None) -> None:
        place = msgspec.json.encode(position).decode()
        execute = self._connection.execute
        if execute("SELECT count(*) FROM resume").fetchone() == (0,):
            execute("INSERT INTO resume VALUES (?, ?, NULL, NULL)", [place, ordinal])
        else:
            execute("UPDATE resume SET position = ?, ordinal = ?", [place, ordinal])
        if fold is not None:
            execute("UPDATE resume SET fold_ordinal = ?, fold = ?", [fold.ordinal, fold.data])

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.Error:
            return  # the failure itself ended the transaction, or the database with it
