"""`LiveTask`: what the scheduler knows of a task between dependency-ready and its end.
`LiveTasks`: which tasks are live?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from engine.errors import RetryableTaskError
from engine.events import RuntimeCorrelation
from engine.scheduling.decisions import TaskAdmissionLease
from engine.scheduling.plan import ColumnPlan
from engine.scheduling.types import SchedulableTask, TaskPayload

LivePhase = Literal["ready", "queued", "selected", "leased", "running", "finished", "deferred"]


class LiveTask:
    """Times are those of the events that report them, so that a fold of the events agrees."""

    __slots__ = (
        "abandoned",
        "acquired_at",
        "attempt",
        "base_correlation",
        "correlation",
        "enqueued_at",
        "execution_id",
        "failed",
        "item",
        "last_error",
        "lease",
        "phase",
        "ready_at",
        "retry_at",
        "since",
        "skip_reported",
        "spawned_at",
        "timer",
        "unsettled",
        "worker",
    )

    def __init__(self, item: SchedulableTask, correlation: RuntimeCorrelation) -> None:
        self.item = item
        self.base_correlation = correlation
        self.correlation = correlation
        self.phase: LivePhase = "ready"
        self.since = 0.0
        self.attempt = 1
        self.failed = 0
        """Executions that used up one of the allowed attempts."""
        self.unsettled: list[Callable[[], bool | None]] = []
        """Failures of which it is not yet known whether they use up an attempt."""
        self.last_error: RetryableTaskError | None = None
        self.ready_at = 0.0
        self.enqueued_at: float | None = None
        self.lease: TaskAdmissionLease | None = None
        self.acquired_at: float | None = None
        self.execution_id: str | None = None
        self.spawned_at: float | None = None
        self.retry_at: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.worker: asyncio.Task[None] | None = None
        self.skip_reported = False
        """The stream says already that a peer went first because of request pressure."""
        self.abandoned = False
        """Its row was dropped while it ran: its result is ignored."""

    def enter(self, phase: LivePhase, since: float) -> None:
        self.phase = phase
        self.since = since

    def settle(self) -> bool:
        """Count the failures that have turned out to be the task's own; returns whether one turned
        out not to be."""
        excused = False
        left = []
        for blames_task in self.unsettled:
            own = blames_task()
            if own is None:
                left.append(blames_task)
            self.failed += own is True
            excused |= own is False
        self.unsettled = left
        return excused

    def close_lease(self) -> None:
        self.lease = None
        self.acquired_at = None
        self.execution_id = None
        self.spawned_at = None
        self.worker = None
        self.skip_reported = False
        self.correlation = self.base_correlation

    def row(self) -> dict[str, Any]:
        """Entry of a full keyframe, without the facts that no event has reported yet."""
        item, payload = self.item, self.item.payload
        enqueued = self.enqueued_at is not None
        request = item.request_resource_key
        facts = {
            "task_id": item.task_id,
            "column": payload.column,
            "row_group": payload.row_group,
            "row": payload.row,
            "task_type": payload.task_type,
            "group": item.group.key.label,
            "phase": self.phase,
            "since": self.since,
            "ready_at": self.ready_at,
            "enqueued_at": self.enqueued_at,
            "attempt": self.attempt,
            "resources": item.resource_request.labels if enqueued else None,
            "request_resource": request.label if enqueued and request is not None else None,
            "lease_id": None if self.lease is None else self.lease.lease_id,
            "acquired_at": self.acquired_at,
            "execution_id": self.execution_id,
            "spawned_at": self.spawned_at,
            "retry_at": self.retry_at,
        }
        return {name: value for name, value in facts.items() if value is not None}


class LiveTasks:
    """Live tasks by id. `running` have a worker, `deferred` wait for their next attempt."""

    def __init__(self, run_id: str) -> None:
        self.running: dict[str, LiveTask] = {}
        self.deferred: dict[str, LiveTask] = {}
        self._run_id = run_id
        self._by_id: dict[str, LiveTask] = {}
        self._by_row_group: dict[int, int] = {}
        self._correlations: dict[int, dict[str, RuntimeCorrelation]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, task_id: str) -> LiveTask:
        return self._by_id[task_id]

    def get(self, task_id: str) -> LiveTask | None:
        return self._by_id.get(task_id)

    def without_worker(self) -> list[LiveTask]:
        return [live for live in self._by_id.values() if live.worker is None]

    def rows(self) -> list[dict[str, Any]]:
        """The `tasks` of a full keyframe."""
        return [self._by_id[task_id].row() for task_id in sorted(self._by_id)]

    def begin_row_group(self, row_group: int) -> None:
        self._by_row_group[row_group] = 0
        self._correlations[row_group] = {}

    def in_row_group(self, row_group: int) -> int:
        return self._by_row_group[row_group]

    def end_row_group(self, row_group: int) -> None:
        del self._by_row_group[row_group]
        del self._correlations[row_group]

    def add(self, payload: TaskPayload, column: ColumnPlan) -> LiveTask:
        """Add a task of a row group that has begun."""
        item = SchedulableTask(
            payload.task_id,
            payload,
            column.scheduling.group,
            column.scheduling.resource_request,
            column.request_resource,
        )
        live = self._by_id[item.task_id] = LiveTask(item, self._correlation(payload, column))
        self._by_row_group[payload.row_group] += 1
        return live

    def forget(self, live: LiveTask) -> None:
        del self._by_id[live.item.task_id]
        self._by_row_group[live.item.payload.row_group] -= 1

    def _correlation(self, payload: TaskPayload, column: ColumnPlan) -> RuntimeCorrelation:
        """The correlation that all tasks of a column in a row group share."""
        known = self._correlations[payload.row_group]
        correlation = known.get(payload.column)
        if correlation is None:
            group = column.scheduling.group.key
            correlation = known[payload.column] = RuntimeCorrelation(
                self._run_id,
                payload.row_group,
                payload.column,
                payload.task_type,
                group.kind,
                group.identity_hash,
            )
        return correlation
