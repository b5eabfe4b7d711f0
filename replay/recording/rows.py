"""Structs to table rows and back: the exact event, lease, attempt … that went in comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from engine.events import Event, RequestEvent, RequestResource, RuntimeCorrelation, SchedulerEvent
from replay.diagnosis.verdicts import VerdictRow, decode_row, encode_facts
from replay.recording.schema import TABLES

_ARROW_TYPES: dict[str, pa.DataType] = {
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "BIGINT[]": pa.list_(pa.int64()),
}
_json = msgspec.json.Encoder()
_decode_object: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_NO_CORRELATION = (None,) * 7


def arrow_table(table: str, rows: Iterable[Sequence[object]]) -> pa.Table:
    """Rows of `table`, values in the order of its columns."""
    columns = TABLES[table]
    values = list(zip(*rows, strict=True)) or [() for _ in columns]
    arrays = [
        pa.array(column, _ARROW_TYPES[kind])
        for column, (_, kind) in zip(values, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])


def as_json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else _json.encode(value).decode()


def event_row(ordinal: int, event: Event) -> tuple[object, ...]:
    correlation = event.captured_correlation
    correlated = (
        _NO_CORRELATION
        if correlation is None
        else (
            correlation.run_id,
            correlation.row_group,
            correlation.task_column,
            correlation.task_type,
            correlation.scheduling_group_kind,
            correlation.scheduling_group_identity_hash,
            correlation.task_execution_id,
        )
    )
    diagnostics = as_json(event.diagnostics) if event.diagnostics else None
    if isinstance(event, SchedulerEvent):
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
            as_json(event.snapshot),
            diagnostics,
        )
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
        None if resource is None else resource.provider_name,
        None if resource is None else resource.model_id,
        None if resource is None else resource.domain,
        event.request_group_key,
        event.reason_or_outcome,
        as_json(event.pressure_snapshot),
        diagnostics,
    )


def event_of(row: Sequence[Any]) -> tuple[int, Event]:
    """Inverse of `event_row`. Raises `msgspec.MsgspecError` or `TypeError` on a damaged row."""
    (ordinal, stream, kind, t, sequence, run_id) = row[:6]
    (task_id, execution_id, attempt_id, lease_id, scheduler_resource) = row[12:17]
    (provider, model, domain, request_group, reason, snapshot_json, diagnostics_json) = row[17:]
    correlation = None if run_id is None else RuntimeCorrelation(run_id, *row[6:12])
    snapshot = None if snapshot_json is None else _decode_object.decode(snapshot_json)
    diagnostics = {} if diagnostics_json is None else _decode_object.decode(diagnostics_json)
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


def verdict_row(verdict: VerdictRow) -> tuple[object, ...]:
    """Tier, sentence and advice are kept as well, for those who read with SQL."""
    return (
        verdict.verdict,
        verdict.tier,
        verdict.resource,
        verdict.start,
        verdict.end,
        verdict.sentence,
        verdict.evidence,
        encode_facts(verdict).decode(),
    )


def verdict_of(row: Sequence[Any]) -> VerdictRow:
    """Inverse of `verdict_row`. Raises `msgspec.MsgspecError` or `TypeError` on a damaged row."""
    return decode_row(*row)
