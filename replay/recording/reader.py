"""`RecordingReader`: typed queries on a recording, finished or still written by a live console.

One class of many short methods: each is one query.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from engine.events import Event, RunInfo
from replay.diagnosis.verdicts import VerdictRow
from replay.recording.connections import reading_error
from replay.recording.cursors import Connection, Cursors
from replay.recording.event_rows import event_of
from replay.recording.keyframes import unpack_state
from replay.recording.opening import open_file
from replay.recording.rows import UNREADABLE, verdict_of
from replay.recording.schema import ImportEnding, column_list
from replay.recording.spending_sql import spending_query
from replay.sources.base import MENDED, BrokenLine, SourceError
from replay.state import reducer
from replay.state.model import State
from replay.state.rows import AttemptRow, BlameRow, LeaseRow, RollupRow
from replay.state.spending import SpendingRow

ATTEMPTS_PER_BAR = 16
"""Limit of the attempts that `bars` returns, for each lease of its own limit."""

_T = TypeVar("_T")
_CHANGES = "keyframe_changes"


class RecordingStatus(msgspec.Struct, frozen=True):
    """How far a recording goes, and how its run ended."""

    complete: bool
    """All is imported: nothing more will come."""
    outcome: str | None
    lost: bool
    """The producer died without an end; what is open in the recording ended unknown."""


class Bounds(msgspec.Struct, frozen=True):
    """First and last event. Ordinals are 0 and times the run's start where there is none."""

    first_ordinal: int
    last_ordinal: int
    t0: float
    t1: float


class RecordingReader:
    """Queries on a connection; each thread gets a cursor of its own.

    Every method raises `SourceError` (exit code 4) where the recording turns out to be damaged.
    """

    def __init__(
        self,
        connection: Connection,
        name: str = "the recording",
        owned: bool = False,
    ) -> None:
        self._name = name
        self._cursors = Cursors(connection, name, owned)
        self._rows, self._has = self._cursors.rows, self._cursors.has

    def run(self) -> RunInfo:
        """Raises `SourceError` where the recording has no run (yet)."""
        stored = self._meta("run")
        if stored is None:
            raise SourceError(f"{self._name} holds no run.")
        return self._decode(stored, RunInfo)

    def capacity_plan(self) -> dict[str, Any]:
        """The configured capacity, updated by what the run observed so far; may be empty."""
        last = self.bounds().last_ordinal
        return self.run().capacity_plan | self.state_at(last).capacity

    def status(self) -> RecordingStatus:
        stored = self._meta("ending")
        if stored is None:
            return RecordingStatus(False, None, False)
        ending = self._decode(stored, ImportEnding)
        return RecordingStatus(True, ending.outcome, ending.lost)

    def bounds(self) -> Bounds:
        row = self._rows("SELECT min(ordinal), max(ordinal), min(t), max(t) FROM events")[0]
        if row[0] is None:
            start = self.run().monotonic_start
            return Bounds(0, 0, start, start)
        return Bounds(*row)

    def resumptions(self) -> list[tuple[float, float]]:
        """When the run went on after interruptions: time of the producer, and Unix seconds."""
        rows = self._rows(
            "SELECT t,"
            " TRY_CAST(json_extract_string(diagnostics, '$.wall') AS DOUBLE)"
            " FROM events WHERE kind = 'run_resumed' ORDER BY ordinal"
        )
        return [
            (at, wall)
            for at, wall in rows
            if at is not None and wall is not None and math.isfinite(wall)
        ]

    def spending(self) -> list[SpendingRow]:
        """Tokens and money of the answered calls, by column and model."""
        return [SpendingRow(*row) for row in self._rows(spending_query())]

    def events(self, first: int, last: int) -> list[tuple[int, Event]]:
        """Events with `first` <= ordinal <= `last`, in order, with their ordinals."""
        return self.events_that("ordinal BETWEEN ? AND ?", first, last)

    def events_that(
        self, condition: str, *values: object, limit: int | None = None
    ) -> list[tuple[int, Event]]:
        """The first `limit` events that meet a condition on the table, in order."""
        rows = self._rows(
            f"SELECT {column_list('events')} FROM events WHERE {condition} ORDER BY ordinal"
            f"{'' if limit is None else f' LIMIT {int(limit)}'}",
            *values,
        )
        try:
            return [event_of(row) for row in rows]
        except UNREADABLE as error:
            raise self._damaged(error) from error

    def leases_that(self, condition: str, *values: object) -> list[LeaseRow]:
        """Task leases that meet a condition on the table, oldest first."""
        rows = self._rows(
            f"SELECT {column_list('leases')} FROM leases WHERE {condition}"
            " ORDER BY acquired_ordinal",
            *values,
        )
        return [LeaseRow(*row) for row in rows]

    def attempt(self, attempt_id: str) -> AttemptRow | None:
        """One request attempt."""
        rows = self._rows(
            f"SELECT {column_list('attempts')} FROM attempts WHERE attempt_id = ?", attempt_id
        )
        return AttemptRow(*rows[0]) if rows else None

    def event_where(self, columns: str, condition: str, ordinal: int, direction: int) -> int | None:
        """Ordinal of the event next to `ordinal` that meets a condition; None where none does.

        Args:
            columns: What follows SELECT, for the columns that `condition` names.
            condition: SQL, as `replay.recording.filters` compiles it; it reads nothing but columns.
            ordinal: Where to begin; not itself among the events looked at.
            direction: 1 looks forward, -1 back.
        """
        rows = f"SELECT {columns} FROM events"
        sign, function = (">", "min") if direction > 0 else ("<", "max")
        nearest = self._rows(
            f"SELECT {function}(ordinal) FROM ({rows} WHERE events.ordinal {sign} ?)"
            f" WHERE {condition}",
            ordinal,
        )
        return None if nearest[0][0] is None else int(nearest[0][0])

    def ordinal_at(self, t: float) -> int:
        """Ordinal of the last event whose time is at most `t`; 0 if there is none."""
        before = max(
            self._rows(f"SELECT coalesce(max(ordinal), 0) FROM {table} WHERE t <= ?", t)[0][0]
            for table in self._keyframe_tables
        )
        row = self._rows(
            "SELECT max(ordinal) FROM events WHERE ordinal >= ? AND t <= ?", before, t
        )[0]
        return row[0] or 0

    def state_at(self, ordinal: int) -> State:
        """The state after the event `ordinal`: the keyframe before it, and what followed."""
        keyframes = self._rows(
            "SELECT ordinal, state FROM keyframes WHERE ordinal ="
            " (SELECT max(ordinal) FROM keyframes WHERE ordinal <= ?)",
            ordinal,
        )
        run = self.run()
        if keyframes:
            done, packed = keyframes[0]
            changes = self._changes(done, ordinal)
            if changes:
                done = changes[-1][0]
            try:
                state = unpack_state(
                    self._whole(keyframes[0][0], packed),
                    (self._whole(number, change) for number, change in changes),
                )
            except (zlib.error, *UNREADABLE) as error:
                raise self._damaged(error) from error
        else:
            done, state = 0, reducer.begin(run)
        for number, event in self.events(done + 1, ordinal):
            reducer.reduce(state, event, number, run)
        return state

    def _whole(self, ordinal: int, packed: bytes) -> bytes:
        """The bytes of a keyframe; a large one is joined from its parts."""
        if packed:
            return packed
        rows = self._rows(
            "SELECT data FROM keyframe_parts WHERE ordinal = ? ORDER BY part", ordinal
        )
        return b"".join(part for (part,) in rows)

    def _changes(self, after: int, until: int) -> list[Any]:
        """(ordinal, changes) of the keyframes that hold only what has changed."""
        if not self._has(_CHANGES):
            return []
        return self._rows(
            f"SELECT ordinal, changes FROM {_CHANGES} WHERE ordinal > ? AND ordinal <= ?"
            " ORDER BY ordinal",
            after,
            until,
        )

    @property
    def _keyframe_tables(self) -> tuple[str, ...]:
        return ("keyframes", _CHANGES) if self._has(_CHANGES) else ("keyframes",)

    def bars(
        self, t0: float, t1: float, limit: int, ordinal: int | None = None
    ) -> tuple[list[LeaseRow], list[AttemptRow]]:
        """What overlaps the window from `t0` to `t1`: the newest `limit` leases, and attempts.

        Oldest first. At most `ATTEMPTS_PER_BAR * limit` attempts, the newest. Where `ordinal` is
        given, only what began with that event or before.
        """
        newest = 2**63 - 1 if ordinal is None else ordinal
        leases = self._overlapping(
            "leases",
            "acquired_at <= ? AND acquired_ordinal <= ?",
            "acquired_at DESC, acquired_ordinal DESC",
            (t1, newest),
            t0,
            limit,
        )
        attempts = self._overlapping(
            "attempts",
            "coalesce(wait_started_at, acquired_at, started_at, completed_at) <= ?"
            " AND first_ordinal <= ?",
            "first_ordinal DESC",
            (t1, newest),
            t0,
            limit * ATTEMPTS_PER_BAR,
        )
        return (
            [LeaseRow(*row) for row in reversed(leases)],
            [AttemptRow(*row) for row in reversed(attempts)],
        )

    def _overlapping(
        self,
        table: str,
        began: str,
        order: str,
        values: tuple[float, int],
        t0: float,
        limit: int,
    ) -> list[Any]:
        """Rows that `began` in time and ended at `t0` or later, or never.

        Rows stand in order of their end: asked one by one, either condition skips whole blocks.
        """
        columns = column_list(table)
        return self._rows(
            f"SELECT * FROM (SELECT {columns} FROM {table} WHERE released_at >= ? AND {began}"
            f" UNION ALL SELECT {columns} FROM {table} WHERE released_at IS NULL AND {began})"
            f" ORDER BY {order} LIMIT ?",
            t0,
            *values,
            *values,
            limit,
        )

    def rollup(self, bin0: int, bin1: int) -> list[RollupRow]:
        """Series in the bins `bin0` to `bin1`, both included, by bin; stretches as far as they lie
        in there."""
        rows = self._in_bins("rollup", "series, key, mean, last, peak", bin0, bin1)
        return [RollupRow(*row) for row in rows]

    def peaks(self) -> dict[str, dict[str, float]]:
        """Series -> key -> most at once, over all that is recorded."""
        tables = ["rollup", *(t for t in ("rollup_stretches",) if self._has(t))]
        every = " UNION ALL ".join(f"SELECT series, key, peak FROM {table}" for table in tables)
        peaks: dict[str, dict[str, float]] = {}
        for series, key, peak in self._rows(
            f"SELECT series, key, max(peak) FROM ({every}) GROUP BY ALL ORDER BY ALL"
        ):
            peaks.setdefault(series, {})[key] = peak
        return peaks

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        """Blame in the bins `bin0` to `bin1`, both included, by bin; stretches as far as they lie
        in there."""
        columns = 'scope, "column", row_group, resource, verdict, seconds'
        rows = self._in_bins("blame", columns, bin0, bin1, f"AND scope = '{scope}'")
        return [BlameRow(*row) for row in rows]

    def blame_end(self) -> int:
        """The bin behind the last one that has blame; 0 where none has."""
        ends = [self._rows("SELECT max(bin) + 1 FROM blame")[0][0]]
        if self._has("blame_stretches"):
            ends += self._rows("SELECT max(bin + bins) FROM blame_stretches")[0]
        return max((end for end in ends if end is not None), default=0)

    def _in_bins(
        self, table: str, columns: str, bin0: int, bin1: int, where: str = ""
    ) -> list[Any]:
        """Rows of one bin, and of stretches cut off at both ends."""
        single = f"SELECT bin, {columns}, 1 AS bins FROM {table} WHERE bin BETWEEN ? AND ? {where}"
        stretches = f"{table}_stretches"
        if not self._has(stretches):
            return self._rows(f"{single} ORDER BY bin", bin0, bin1)
        return self._rows(
            f"{single} UNION ALL SELECT greatest(bin, ?), {columns}, inside FROM"
            " (SELECT *, least(bin + bins - 1, ?) - greatest(bin, ?) + 1 AS inside"
            f" FROM {stretches} WHERE bin <= ? AND bin + bins > ? {where}) ORDER BY ALL",
            bin0,
            bin1,
            bin0,
            bin1,
            bin0,
            bin1,
            bin0,
        )

    def verdicts(self, t0: float | None = None, t1: float | None = None) -> list[VerdictRow]:
        """Verdicts that overlap the window (open where None), by start."""
        rows = self._rows(
            f"SELECT {column_list('verdicts')} FROM verdicts"
            ' WHERE "end" >= ? AND "start" <= ? ORDER BY "start", "end"',
            float("-inf") if t0 is None else t0,
            float("inf") if t1 is None else t1,
        )
        try:
            return [verdict_of(row) for row in rows]
        except UNREADABLE as error:
            raise self._damaged(error) from error

    def verdicts_written(self, after: int) -> list[VerdictRow]:
        """Verdicts in the order in which they were written, but for the first `after`."""
        rows = self._rows(f"SELECT {column_list('verdicts')} FROM verdicts WHERE rowid >= ?", after)
        try:
            return [verdict_of(row) for row in rows]
        except UNREADABLE as error:
            raise self._damaged(error) from error

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]:
        """The leases of one task and the request attempts made under them, oldest first."""
        leases = self.leases_that("task_id = ?", task_id)
        attempts = self._rows(
            f"SELECT {column_list('attempts')} FROM attempts WHERE execution_id IN"
            " (SELECT execution_id FROM leases WHERE task_id = ?) ORDER BY first_ordinal",
            task_id,
        )
        return leases, [AttemptRow(*row) for row in attempts]

    def diagnosis_version(self) -> int:
        """Version of the diagnosis that wrote blame and verdicts; 0 where it is not recorded."""
        stored = self._meta("diagnosis_version")
        return int(stored) if stored is not None and stored.isdecimal() else 0

    def broken_lines(self) -> list[BrokenLine]:
        rows = self._rows(f"SELECT {column_list('broken_lines')} FROM broken_lines")
        return [BrokenLine(*row) for row in rows]

    def count_broken_lines(self) -> tuple[int, int]:
        """Lines that could not be read, and lines that were read but for a part of them."""
        lines, mended = self._rows(
            "SELECT count(*), count(*) FILTER (WHERE suffix(problem, ?)) FROM broken_lines", MENDED
        )[0]
        return lines - mended, mended

    def keyframe_bounds(self) -> tuple[int, int]:
        """Ordinals of the first and the last keyframe; 0 where there is none."""
        rows = [
            self._rows(f"SELECT min(ordinal), max(ordinal) FROM {table}")[0]
            for table in self._keyframe_tables
        ]
        return rows[0][0] or 0, max(row[1] or 0 for row in rows)

    def interrupt(self) -> None:
        """Stop queries that run in other threads; they raise `SourceError`."""
        self._cursors.interrupt()

    def close(self) -> None:
        self._cursors.close()

    def _meta(self, key: str) -> str | None:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else None

    def _decode(self, stored: str, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(stored, type=kind)
        except UNREADABLE as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> SourceError:
        return reading_error(error, self._name)


def open_recording(path: Path) -> RecordingReader:
    """A reader of a finished recording, opened read-only.

    Raises:
        SourceError: There is no such recording, or it is damaged; one sentence for people.
    """
    return RecordingReader(open_file(path), str(path), owned=True)
