"""`TaskEvents`: the events about one live task, as `plans/event-stream.md` defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.events import EventStream
from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import TaskReleaseResult
from engine.scheduling.live_tasks import LiveTask

Debts = Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]]


class TaskEvents:
    """Emits them. `at` is the monotonic time of the fact. Builds no event that no sink takes."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    def emit(
        self,
        kind: str,
        live: LiveTask,
        at: float,
        reason: str | None = None,
        diagnostics: dict[str, Any] | None = None,
    ) -> None:
        self._stream.scheduler(
            kind,
            correlation=live.correlation,
            task_id=live.item.task_id,
            task_execution_id=live.execution_id,
            task_lease_id=None if live.lease is None else live.lease.lease_id,
            reason=reason,
            diagnostics=diagnostics,
            at=at,
        )

    def ready(self, live: LiveTask, at: float) -> None:
        if self._stream.scheduler_enabled:
            diagnostics: dict[str, Any] = {"group": live.item.group.key.label}
            self.emit("dependency_ready", live, at, diagnostics=_with_row(live, diagnostics))

    def enqueued(self, live: LiveTask, at: float) -> None:
        if not self._stream.scheduler_enabled:
            return
        item = live.item
        diagnostics = {
            "group": item.group.key.label,
            "weight": item.group.weight,
            "resources": item.resource_request.labels,
        }
        if item.group.admitted_limit is not None:
            diagnostics["admitted_limit"] = item.group.admitted_limit
        if item.request_resource_key is not None:
            diagnostics["request_resource"] = item.request_resource_key.label
        self.emit("ready_enqueued", live, at, diagnostics=_with_row(live, diagnostics))

    def leased(self, live: LiveTask, at: float, debts: Debts) -> None:
        if self._stream.scheduler_enabled:
            diagnostics = _with_debts({"resources": live.item.resource_request.labels}, debts)
            self.emit("task_lease_acquired", live, at, diagnostics=diagnostics)

    def released(self, live: LiveTask, at: float, result: TaskReleaseResult, debts: Debts) -> None:
        if self._stream.scheduler_enabled:
            kind = "task_lease_released" if result.released else "release_diagnostic"
            self.emit(kind, live, at, result.reason, _with_debts({}, debts))


def _with_debts(diagnostics: dict[str, Any], debts: Debts) -> dict[str, Any]:
    """Add `debt`: what groups owe now, where acquiring or releasing the lease changed it."""
    if debts:
        diagnostics["debt"] = {
            group.label: {resource.label: amount for resource, amount in owed.items()}
            for group, owed in debts.items()
        }
    return diagnostics


def _with_row(live: LiveTask, diagnostics: dict[str, Any]) -> dict[str, Any]:
    row = live.item.payload.row
    if row is not None:
        diagnostics["row"] = row
    if live.attempt > 1:
        diagnostics["attempt"] = live.attempt
    return diagnostics
