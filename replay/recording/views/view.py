"""`View` and `Column`: how a view is declared, and the statements that make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

RECORDING = "recording"
"""Catalog under which the tables of the recording are attached, read-only."""

VARCHAR = "VARCHAR"
BIGINT = "BIGINT"
DOUBLE = "DOUBLE"
BOOLEAN = "BOOLEAN"
TIMESTAMP = "TIMESTAMP"
BIGINT_LIST = "BIGINT[]"

SECONDS = "s"
COUNT = "count"
NO_UNIT = ""
"""Of names, ids, text and truth values."""


class Column(NamedTuple):
    """One column of a view, with the SQL that computes it."""

    name: str
    type: str
    """DuckDB's name of the type. A test compares it with the type of the SQL."""
    unit: str
    meaning: str
    sql: str
    """Expression over the `source` of the view; `{t0}` and `{start}` as there."""


class View(NamedTuple):
    """One view: its columns and the rows that they are computed from.

    The statement is built from the columns, so that a column stands in one place only.
    """

    name: str
    description: str
    time_column: str
    """Column whose time `utc_time` and `local_time` repeat."""
    computed: tuple[Column, ...]
    source: str
    """What follows FROM. `{t0}` is the time of the first event, `{start}` the time at which bin 0
    begins; `{rollup}` and `{blame}` are those tables with one row for each bin."""
    reads: tuple[str, ...] = ()
    """Other views in `source`, which must exist before this one."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns in order, with the two timestamps that every view ends with."""
        return (
            *self.computed,
            Column(
                "utc_time",
                TIMESTAMP,
                "UTC",
                f"{self.time_column} as a timestamp; null where the wall time is not known",
                f'utc("{self.time_column}")',
            ),
            Column(
                "local_time",
                TIMESTAMP,
                "local",
                f"{self.time_column} in the time zone of the reader",
                f'local("{self.time_column}")',
            ),
        )

    def create(self, t0: float, start: float, stretches: bool) -> str:
        """The CREATE VIEW statement for a database to which the recording is attached.

        Args:
            t0: Time of the first event, in seconds of the producer's clock.
            start: Time at which bin 0 begins, on the same clock.
            stretches: Whether the recording has the tables of stretches, which older ones lack.
        """
        timestamps = self.columns[len(self.computed) :]
        sql = (
            f'CREATE VIEW "{self.name}" AS SELECT *, {_select_list(timestamps)}'
            f" FROM (SELECT {_select_list(self.computed)} FROM {self.source})"
        )
        return sql.format(
            t0=_literal(t0),
            start=_literal(start),
            rollup=_by_bin("rollup", "series, key, mean, last, peak", stretches),
            blame=_by_bin(
                "blame", 'scope, "column", row_group, resource, verdict, seconds', stretches
            ),
        )


_GAP = """
    CREATE MACRO gap(begun, ended) AS
    CASE WHEN begun IS NOT NULL AND ended IS NOT NULL THEN greatest(0, ended - begun) END
"""
"""Length of an interval, null unless both ends are known: `greatest` alone would ignore a null."""

_UTC = "CREATE MACRO utc(seconds) AS make_timestamp({microseconds})"
_LOCAL = """
    CREATE MACRO local(seconds) AS
    timezone(current_setting('TimeZone'), make_timestamptz({microseconds}))
"""


def create_macros(
    wall_start: float | None, resumptions: Sequence[tuple[float, float]] = ()
) -> tuple[str, ...]:
    """The statements for the macros that views and queries use.

    Args:
        wall_start: Unix time of the first event in seconds, None where it is not known. `local`
            gives times in the time zone of this process.
        resumptions: When the run went on after an interruption, in seconds since its first event,
            and in Unix seconds.
    """
    wall = "NULL::DOUBLE" if wall_start is None else _literal(wall_start)
    if wall_start is not None:
        later = "".join(
            f" WHEN seconds >= {_literal(at)} THEN {_literal(moment - at)}"
            for at, moment in reversed(resumptions)
        )
        wall = f"CASE{later} ELSE {wall} END" if later else wall
    microseconds = f"TRY_CAST(({wall} + seconds) * 1e6 AS BIGINT)"
    return (
        _GAP,
        _UTC.format(microseconds=microseconds),
        _LOCAL.format(microseconds=microseconds),
    )


def _select_list(columns: tuple[Column, ...]) -> str:
    return ", ".join(f'{column.sql} AS "{column.name}"' for column in columns)


def _by_bin(table: str, columns: str, stretches: bool) -> str:
    """The rows of `table`, and each of its stretches once for each bin that it covers."""
    if not stretches:
        return f"{RECORDING}.{table}"
    return (
        f"(SELECT bin, {columns} FROM {RECORDING}.{table} UNION ALL"
        f" SELECT unnest(range(bin, bin + bins)) AS bin, {columns}"
        f" FROM {RECORDING}.{table}_stretches)"
    )


def _literal(seconds: float) -> str:
    return f"CAST('{seconds!r}' AS DOUBLE)"
