"""`LineRows`: lines of a journal as rows of `events`, their payloads as the bytes they are."""

from __future__ import annotations

import msgspec

from engine.events import RequestResource, RunInfo, RuntimeCorrelation

_ABSENT = msgspec.Raw()
_NULL = b"null"
_EMPTY = b"{}"
_NO_CORRELATION = (None,) * 7
_NO_RESOURCE = (None,) * 3
_UNKNOWN_COLUMN = (None, None, None)


class _SchedulerLine(msgspec.Struct, gc=False, tag_field="stream", tag="scheduler"):
    event_kind: str
    captured_at_monotonic: float
    sequence: int
    captured_correlation: RuntimeCorrelation | None = None
    task_id: str | None = None
    task_execution_id: str | None = None
    task_lease_id: str | None = None
    scheduler_resource_key: str | None = None
    reason_or_result: str | None = None
    snapshot: msgspec.Raw = _ABSENT
    diagnostics: msgspec.Raw = _ABSENT


class _RequestLine(msgspec.Struct, gc=False, tag_field="stream", tag="request"):
    event_kind: str
    captured_at_monotonic: float
    sequence: int
    captured_correlation: RuntimeCorrelation | None = None
    request_attempt_id: str | None = None
    request_lease_id: str | None = None
    request_resource_key: RequestResource | None = None
    request_group_key: str | None = None
    reason_or_outcome: str | None = None
    pressure_snapshot: msgspec.Raw = _ABSENT
    diagnostics: msgspec.Raw = _ABSENT


_decoder = msgspec.json.Decoder(_SchedulerLine | _RequestLine)


class LineRows:
    """Rows as `replay.recording.rows.event_row` makes of the events that the lines say.

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

    def _row(self, ordinal: int, line: _SchedulerLine | _RequestLine) -> tuple[object, ...]:
        correlation = line.captured_correlation
        correlated: tuple[object, ...]
        if correlation is None:
            correlated = _NO_CORRELATION
        elif correlation.run_id:
            correlated = (
                correlation.run_id,
                correlation.row_group,
                correlation.task_column,
                correlation.task_type,
                correlation.scheduling_group_kind,
                correlation.scheduling_group_identity_hash,
                correlation.task_execution_id,
            )
        else:
            column = correlation.task_column
            correlated = (
                self._run_id,
                correlation.row_group,
                column,
                *self._columns.get(column, _UNKNOWN_COLUMN),
                correlation.task_execution_id,
            )
        diagnostics = _payload(line.diagnostics)
        if type(line) is _SchedulerLine:
            return (
                ordinal,
                "scheduler",
                line.event_kind,
                line.captured_at_monotonic,
                line.sequence,
                *correlated,
                line.task_id,
                line.task_execution_id,
                None,
                line.task_lease_id,
                line.scheduler_resource_key,
                None,
                None,
                None,
                None,
                line.reason_or_result,
                _payload(line.snapshot),
                None if diagnostics == _EMPTY else diagnostics,
            )
        assert isinstance(line, _RequestLine)
        resource = line.request_resource_key
        named = (
            _NO_RESOURCE
            if resource is None
            else (resource.provider_name, resource.model_id, resource.domain)
        )
        return (
            ordinal,
            "request",
            line.event_kind,
            line.captured_at_monotonic,
            line.sequence,
            *correlated,
            None,
            None,
            line.request_attempt_id,
            line.request_lease_id,
            None,
            *named,
            line.request_group_key,
            line.reason_or_outcome,
            _payload(line.pressure_snapshot),
            None if diagnostics == _EMPTY else diagnostics,
        )


def _payload(raw: msgspec.Raw) -> bytes | None:
    written = bytes(raw)
    return written if written and written != _NULL else None
