"""`LineRows`: lines of a journal as rows of `events`, their payloads as the bytes they are."""

from __future__ import annotations

import msgspec

from engine.events import RunInfo, RuntimeCorrelation
from replay.recording.event_rows import (
    NO_CORRELATION,
    Correlated,
    RequestLine,
    SchedulerLine,
    correlated_columns,
    request_row,
    scheduler_row,
)

_NULL = b"null"
_EMPTY = b"{}"
_UNKNOWN_COLUMN = (None, None, None)
_decoder = msgspec.json.Decoder(SchedulerLine | RequestLine)


class LineRows:
    """Rows as `replay.recording.event_rows.event_row` makes of the events that the lines say.

    The lines were read before: each is an event of either stream, compact JSON in ASCII.
    """

    def __init__(self, run: RunInfo) -> None:
        """`run`: of the header that the lines stand under."""
        self._run_id = run.run_id
        self._columns: dict[str | None, tuple[str | None, str | None, str | None]] = {
            column.name: (column.task_type, column.group_kind, column.group_hash)
            for column in run.columns
            if column.group_kind and column.group_hash
        }

    def of(self, lines: bytes, first_ordinal: int) -> list[tuple[object, ...]]:
        """`lines`: with a newline between them."""
        decode, row = _decoder.decode, self._row
        return [
            row(ordinal, decode(line))
            for ordinal, line in enumerate(lines.split(b"\n"), first_ordinal)
        ]

    def _row(self, ordinal: int, line: SchedulerLine | RequestLine) -> tuple[object, ...]:
        correlation = line.captured_correlation
        correlated = NO_CORRELATION if correlation is None else self._correlated(correlation)
        diagnostics = _payload(line.diagnostics)
        if diagnostics == _EMPTY:
            diagnostics = None
        if type(line) is SchedulerLine:
            return scheduler_row(ordinal, line, correlated, _payload(line.snapshot), diagnostics)
        assert isinstance(line, RequestLine)
        pressure = _payload(line.pressure_snapshot)
        return request_row(ordinal, line, correlated, pressure, diagnostics)

    def _correlated(self, correlation: RuntimeCorrelation) -> Correlated:
        """A line leaves out what the run and its columns say already."""
        if correlation.run_id:
            return correlated_columns(correlation)
        column = correlation.task_column
        return (
            self._run_id,
            correlation.row_group,
            column,
            *self._columns.get(column, _UNKNOWN_COLUMN),
            correlation.task_execution_id,
        )


def _payload(raw: msgspec.Raw) -> bytes | None:
    written = bytes(raw)
    return written if written and written != _NULL else None
