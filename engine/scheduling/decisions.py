"""The decisions of queue and admission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from engine.events.kinds import DenialReason
from engine.scheduling.types import SchedulableTask, SchedulerResourceRequest
from engine.scheduling.views import QueueView, TaskAdmissionView

ReleaseReason = Literal[
    "released", "duplicate", "stale_lease", "wrong_controller_generation", "unknown_lease"
]


class QueueSelection(msgspec.Struct, frozen=True, gc=False):
    """The next task in fair order, and the version of the queue in which that was true."""

    item: SchedulableTask
    queue_view: QueueView
    sequence_version: int


class TaskAdmissionLease(msgspec.Struct, frozen=True, gc=False):
    """A task may run: it holds these resources until the lease is released."""

    lease_id: str
    item: SchedulableTask
    resources: SchedulerResourceRequest
    acquired_at: float
    controller_generation: int


class TaskAdmissionDenied(msgspec.Struct, frozen=True, gc=False):
    """A task may not run now, and why."""

    item: SchedulableTask
    reason: DenialReason
    available_after: float | None = None
    snapshot: TaskAdmissionView | None = None
    diagnostics: Mapping[str, Any] = {}


TaskAdmissionDecision = TaskAdmissionLease | TaskAdmissionDenied


class TaskReleaseResult(msgspec.Struct, frozen=True, gc=False):
    """Whether a task lease was released, and why not."""

    released: bool
    reason: ReleaseReason
    diagnostics: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class TaskAdmissionBlockSummary:
    """Why no queued head may run.

    `dominant_reasons` maps each denial to its number of group heads, most frequent first.
    `diagnostics`: `groups` {group label: denial}, `resources` {resource label: {needed, limit,
    free, holders [{group, leases, oldest_age}]}}.
    """

    queued_count: int
    dominant_reasons: Mapping[DenialReason, int]
    available_after: float | None
    diagnostics: Mapping[str, Any]
