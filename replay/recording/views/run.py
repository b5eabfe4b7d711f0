"""The view `run`: one row, computed from what the reader knows of the recording as a whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from engine.events import RunInfo
from replay.recording.views.view import (
    BIGINT,
    BOOLEAN,
    COUNT,
    DOUBLE,
    NO_UNIT,
    SECONDS,
    TIMESTAMP,
    VARCHAR,
)

if TYPE_CHECKING:
    from replay.recording.reader import Bounds, RecordingStatus


class RecordedRun(NamedTuple):
    """What a recording says of its run."""

    info: RunInfo
    status: RecordingStatus
    bounds: Bounds

    @property
    def wall_start(self) -> float | None:
        """Unix time of the first event, in seconds; None where the producer does not say."""
        wall = self.info.wall_start
        return None if wall is None else wall + self.bounds.t0 - self.info.monotonic_start

    @property
    def event_count(self) -> int:
        bounds = self.bounds
        return bounds.last_ordinal - bounds.first_ordinal + 1 if bounds.last_ordinal else 0

    @property
    def utc_time(self) -> datetime | None:
        wall = self.wall_start
        return None if wall is None else datetime.fromtimestamp(wall, UTC).replace(tzinfo=None)

    @property
    def local_time(self) -> datetime | None:
        """In the time zone of this process, as the macro `local` gives it."""
        wall = self.wall_start
        return None if wall is None else datetime.fromtimestamp(wall)


class RunColumn(NamedTuple):
    """One column of `run`, with what computes it."""

    name: str
    type: str
    unit: str
    meaning: str
    value: Callable[[RecordedRun], object]


class RunView(NamedTuple):
    """The declaration of the view `run`, and the statements that make and fill it."""

    name: str
    description: str
    columns: tuple[RunColumn, ...]

    def create(self) -> str:
        """The CREATE TABLE statement; the table is filled with `row`."""
        declared = ", ".join(f'"{column.name}" {column.type}' for column in self.columns)
        return f'CREATE TABLE "{self.name}" ({declared})'

    def insert(self) -> str:
        """The INSERT statement, with a parameter for each value of `row`."""
        return f'INSERT INTO "{self.name}" VALUES ({", ".join("?" * len(self.columns))})'

    def row(self, facts: RecordedRun) -> list[object]:
        return [column.value(facts) for column in self.columns]


RUN = RunView(
    "run",
    "one row: what was recorded",
    (
        RunColumn(
            "run_id",
            VARCHAR,
            NO_UNIT,
            "as the producer names it",
            lambda facts: facts.info.run_id,
        ),
        RunColumn("name", VARCHAR, NO_UNIT, "of the workflow", lambda facts: facts.info.name),
        RunColumn(
            "producer",
            VARCHAR,
            NO_UNIT,
            "headgate or data_designer",
            lambda facts: facts.info.producer,
        ),
        RunColumn(
            "producer_version",
            VARCHAR,
            NO_UNIT,
            "empty where it is not known",
            lambda facts: facts.info.producer_version,
        ),
        RunColumn(
            "wall_start",
            DOUBLE,
            "Unix s",
            "wall time of the first event; null where it is not known",
            lambda facts: facts.wall_start,
        ),
        RunColumn(
            "utc_time", TIMESTAMP, "UTC", "the same as a timestamp", lambda facts: facts.utc_time
        ),
        RunColumn(
            "local_time",
            TIMESTAMP,
            "local",
            "the same in the time zone of the reader",
            lambda facts: facts.local_time,
        ),
        RunColumn(
            "monotonic_start",
            DOUBLE,
            SECONDS,
            "the producer's clock at the first event",
            lambda facts: facts.bounds.t0,
        ),
        RunColumn(
            "seconds",
            DOUBLE,
            SECONDS,
            "from the first to the last event",
            lambda facts: facts.bounds.t1 - facts.bounds.t0,
        ),
        RunColumn("events", BIGINT, COUNT, "in the recording", lambda facts: facts.event_count),
        RunColumn(
            "records",
            BIGINT,
            COUNT,
            "rows that were asked for",
            lambda facts: facts.info.records,
        ),
        RunColumn(
            "row_groups",
            BIGINT,
            COUNT,
            "row groups they make",
            lambda facts: facts.info.row_groups,
        ),
        RunColumn(
            "outcome",
            VARCHAR,
            NO_UNIT,
            "success, failed, cancelled; null where no end was written",
            lambda facts: facts.status.outcome,
        ),
        RunColumn(
            "complete",
            BOOLEAN,
            NO_UNIT,
            "all of it is in the recording",
            lambda facts: facts.status.complete,
        ),
        RunColumn(
            "lost",
            BOOLEAN,
            NO_UNIT,
            "the producer died without an end",
            lambda facts: facts.status.lost,
        ),
    ),
)
