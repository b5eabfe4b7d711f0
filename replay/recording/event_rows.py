"""Events as rows of `events` and back: the exact event that went in comes out.

A row is made of an event, or of its line without decoding what it holds; either way by the same two
functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.events import Event, RequestEvent, RequestResource, RuntimeCorrelation, SchedulerEvent

ABSENT = msgspec.Raw()
"""A payload that a line leaves out."""
Correlated = tuple[object, ...]
"""The seven columns of a correlation."""
NO_CORRELATION: Correlated = (None,) * 7
_NO_RESOURCE = (None,) * 3
_encoder = msgspec.json.Encoder()
_decode_object: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class SchedulerLine(msgspec.Struct, gc=False, tag_field="stream", tag="scheduler"):
    """A `SchedulerEvent` whose payloads are the bytes of its line."""

    event_kind: str
    captured_at_monotonic: float
    sequence: int
    captured_correlation: RuntimeCorrelation | None = None
    task_id: str | None = None
    task_execution_id: str | None = None
    task_lease_id: str | None = None
    scheduler_resource_key: str | None = None
    reason_or_result: str | None = None
    snapshot: msgspec.Raw = ABSENT
    diagnostics: msgspec.Raw = ABSENT


class RequestLine(msgspec.Struct, gc=False, tag_field="stream", tag="request"):
    """The same of a `RequestEvent`."""

    event_kind: str
    captured_at_monotonic: float
    sequence: int
    captured_correlation: RuntimeCorrelation | None = None
    request_attempt_id: str | None = None
    request_lease_id: str | None = None
    request_resource_key: RequestResource | None = None
    request_group_key: str | None = None
    reason_or_outcome: str | None = None
    pressure_snapshot: msgspec.Raw = ABSENT
    diagnostics: msgspec.Raw = ABSENT


def correlated_columns(correlation: RuntimeCorrelation) -> Correlated:
    """The values of a correlation in the order of their columns."""
    return (
        correlation.run_id,
        correlation.row_group,
        correlation.task_column,
        correlation.task_type,
        correlation.scheduling_group_kind,
        correlation.scheduling_group_identity_hash,
        correlation.task_execution_id,
    )


def scheduler_row(
    ordinal: int,
    event: SchedulerEvent | SchedulerLine,
    correlated: Correlated,
    snapshot: str | bytes | None,
    diagnostics: str | bytes | None,
) -> tuple[object, ...]:
    """`snapshot` and `diagnostics` are JSON; None where the event has none."""
    return (
        ordinal,
        "scheduler",
        event.event_kind,
        event.captured_at_monotonic,
        event.sequence,
        *correlated,
        event.task_id,
        event.task_execution_id,
        None,
        event.task_lease_id,
        event.scheduler_resource_key,
        None,
        None,
        None,
        None,
        event.reason_or_result,
        snapshot,
        diagnostics,
    )


def request_row(
    ordinal: int,
    event: RequestEvent | RequestLine,
    correlated: Correlated,
    pressure: str | bytes | None,
    diagnostics: str | bytes | None,
) -> tuple[object, ...]:
    """As `scheduler_row`; `pressure` is the snapshot of a request event."""
    resource = event.request_resource_key
    return (
        ordinal,
        "request",
        event.event_kind,
        event.captured_at_monotonic,
        event.sequence,
        *correlated,
        None,
        None,
        event.request_attempt_id,
        event.request_lease_id,
        None,
        *(
            _NO_RESOURCE
            if resource is None
            else (resource.provider_name, resource.model_id, resource.domain)
        ),
        event.request_group_key,
        event.reason_or_outcome,
        pressure,
        diagnostics,
    )


def event_row(ordinal: int, event: Event) -> tuple[object, ...]:
    """The row of a decoded event."""
    correlation = event.captured_correlation
    correlated = NO_CORRELATION if correlation is None else correlated_columns(correlation)
    diagnostics = _as_json(event.diagnostics) if event.diagnostics else None
    if isinstance(event, SchedulerEvent):
        return scheduler_row(ordinal, event, correlated, _as_json(event.snapshot), diagnostics)
    return request_row(ordinal, event, correlated, _as_json(event.pressure_snapshot), diagnostics)


def event_of(row: Sequence[Any]) -> tuple[int, Event]:
    """Inverse of `event_row`. Raises `msgspec.MsgspecError` or `TypeError` on a damaged row."""
    (ordinal, stream, kind, t, sequence, run_id) = row[:6]
    (task_id, execution_id, attempt_id, lease_id, scheduler_resource) = row[12:17]
    (provider, model, domain, request_group, reason, snapshot_json, diagnostics_json) = row[17:]
    correlation = None if run_id is None else RuntimeCorrelation(run_id, *row[6:12])
    snapshot = None if snapshot_json is None else from_json(snapshot_json)
    diagnostics = from_json(diagnostics_json)
    if stream == "scheduler":
        return ordinal, SchedulerEvent(
            kind,
            t,
            sequence,
            correlation,
            task_id,
            execution_id,
            lease_id,
            scheduler_resource,
            reason,
            snapshot,
            diagnostics,
        )
    resource = None if provider is None else RequestResource(provider, model, domain)
    return ordinal, RequestEvent(
        kind,
        t,
        sequence,
        correlation,
        attempt_id,
        lease_id,
        resource,
        request_group,
        reason,
        snapshot,
        diagnostics,
    )


def from_json(stored: str | None) -> dict[str, Any]:
    """A payload as a recording keeps it, with no facts for None.

    Raises `msgspec.MsgspecError` or `RecursionError` for what is none.
    """
    return {} if stored is None else _decode_object.decode(stored)


def _as_json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else _encoder.encode(value).decode()
