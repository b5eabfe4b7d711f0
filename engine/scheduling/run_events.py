"""The first and the last events of a run, as `plans/event-stream.md` words them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from engine.events import EventStream
from engine.identity import SchedulerResourceKey
from engine.row_groups import RowGroupSpec
from engine.scheduling.plan import RunResult
from engine.scheduling.resolver import MetadataDiagnostic


def tell_started(
    stream: EventStream,
    specs: Collection[RowGroupSpec],
    limits: Mapping[SchedulerResourceKey, int],
    metadata: Sequence[MetadataDiagnostic],
) -> None:
    stream.scheduler(
        "scheduler_job_started",
        diagnostics={
            "records": sum(spec.rows for spec in specs),
            "row_groups": len(specs),
            "buffer_size": max((spec.rows for spec in specs), default=0),
            "limits": {key.label: limit for key, limit in limits.items()},
        },
    )
    for one in metadata:
        stream.scheduler(
            "metadata_diagnostic",
            reason=one.code,
            diagnostics={"column": one.column, "message": one.message},
        )


def tell_completed(stream: EventStream, result: RunResult) -> None:
    diagnostics: dict[str, Any] = {
        "rows_done": result.rows_done,
        "rows_dropped": result.rows_dropped,
    }
    if result.message:
        diagnostics["message"] = result.message
    if result.capacity:
        diagnostics["capacity"] = result.capacity
    if stream.failures_by_sink:
        diagnostics["sink_failures"] = dict(stream.failures_by_sink)
    stream.scheduler("scheduler_job_completed", reason=result.outcome, diagnostics=diagnostics)
