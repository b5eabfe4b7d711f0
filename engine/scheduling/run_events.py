"""The first and the last events of a run, as `plans/event-stream.md` defines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.events import EventStream
from engine.identity import SchedulerResourceKey
from engine.rows.admission import RowGroups
from engine.scheduling.plan import ResumedRun, RunResult
from engine.scheduling.resolver import MetadataDiagnostic


def emit_started(
    stream: EventStream,
    row_groups: RowGroups,
    limits: Mapping[SchedulerResourceKey, int],
    metadata: Sequence[MetadataDiagnostic],
    warnings: Sequence[tuple[str, str]] = (),
    resumed: bool = False,
) -> None:
    """The first events of a run: its size and limits, fallbacks of metadata, warnings."""
    if not resumed:
        stream.scheduler("scheduler_job_started", diagnostics=_size(row_groups, limits))
    for fallback in metadata:
        stream.scheduler(
            "metadata_diagnostic",
            reason=fallback.code,
            diagnostics={"column": fallback.column, "message": fallback.message},
        )
    for code, sentence in warnings:
        stream.scheduler("run_warning", reason=code, diagnostics={"message": sentence})


def emit_resumed(
    stream: EventStream,
    row_groups: RowGroups,
    limits: Mapping[SchedulerResourceKey, int],
    resumed: ResumedRun,
) -> None:
    """The first event of a run that goes on."""
    diagnostics = _size(row_groups, limits) | {
        "resumes": resumed.resumes,
        "rows_done": resumed.written.done,
        "rows_dropped": resumed.written.dropped,
        "row_groups_done": resumed.row_groups_done,
        "restored_cells": resumed.restored_cells,
        "completed_by_column": dict(resumed.completed_by_column),
    }
    if resumed.paused_seconds is not None:
        diagnostics["paused_seconds"] = round(resumed.paused_seconds, 3)
    if resumed.wall is not None:
        diagnostics["wall"] = resumed.wall
    stream.scheduler("run_resumed", diagnostics=diagnostics)


def _size(row_groups: RowGroups, limits: Mapping[SchedulerResourceKey, int]) -> dict[str, Any]:
    return {
        "records": row_groups.records,
        "row_groups": len(row_groups),
        "buffer_size": row_groups.buffer_size,
        "limits": {key.label: limit for key, limit in limits.items()},
    }


def emit_completed(stream: EventStream, result: RunResult) -> None:
    """The last event of a run: how it ended, with the rows it has made."""
    diagnostics: dict[str, Any] = {
        "rows_done": result.rows_done,
        "rows_dropped": result.rows_dropped,
    }
    if result.rows_unfinished:
        diagnostics["rows_unfinished"] = result.rows_unfinished
    if result.message:
        diagnostics["message"] = result.message
    if result.capacity is not None:
        diagnostics["capacity"] = result.capacity.observed_part()
    if stream.failures_by_sink:
        diagnostics["sink_failures"] = dict(stream.failures_by_sink)
    stream.scheduler("scheduler_job_completed", reason=result.outcome, diagnostics=diagnostics)
