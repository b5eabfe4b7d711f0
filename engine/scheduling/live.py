"""`LiveTask`: what the scheduler knows of a task between dependency-ready and its end."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from engine.events import RuntimeCorrelation
from engine.scheduling.types import SchedulableTask, TaskAdmissionLease

LivePhase = Literal["ready", "queued", "selected", "leased", "running", "finished", "deferred"]


class LiveTask:
    """Times are those of the events that told them, so that a fold of the events agrees."""

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
        "lease",
        "passed_over",
        "phase",
        "ready_at",
        "retry_at",
        "since",
        "spawned_at",
        "timer",
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
        self.ready_at = 0.0
        self.enqueued_at: float | None = None
        self.lease: TaskAdmissionLease | None = None
        self.acquired_at: float | None = None
        self.execution_id: str | None = None
        self.spawned_at: float | None = None
        self.retry_at: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.worker: asyncio.Task[None] | None = None
        self.passed_over = False
        """It has been told that a peer went first because of request pressure."""
        self.abandoned = False
        """Its row was dropped while it ran: it may end, its result counts for nothing."""

    def enter(self, phase: LivePhase, since: float) -> None:
        self.phase = phase
        self.since = since

    def close_lease(self) -> None:
        self.lease = None
        self.acquired_at = None
        self.execution_id = None
        self.spawned_at = None
        self.worker = None
        self.passed_over = False
        self.correlation = self.base_correlation

    def row(self) -> dict[str, Any]:
        """Its entry in a full keyframe; a fact that no event has told yet is left out."""
        item, payload = self.item, self.item.payload
        told = self.enqueued_at is not None
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
            "resources": item.resource_request.labels if told else None,
            "request_resource": request.label if told and request is not None else None,
            "lease_id": None if self.lease is None else self.lease.lease_id,
            "acquired_at": self.acquired_at,
            "execution_id": self.execution_id,
            "spawned_at": self.spawned_at,
            "retry_at": self.retry_at,
        }
        return {name: value for name, value in facts.items() if value is not None}
