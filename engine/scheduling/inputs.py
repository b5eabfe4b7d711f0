"""What a scheduler is given besides its parts: the work itself, its settings, and what its events
say on behalf of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.capacity_plan import AsyncCapacityPlan
from engine.rows.admission import RowGroupSpec
from engine.scheduling.peaks import SchedulerPeaks
from engine.scheduling.plan import RetryPolicy
from engine.scheduling.resolver import MetadataDiagnostic
from engine.scheduling.task_outcomes import DroppedTask
from engine.scheduling.tracker import RestoredRows
from engine.scheduling.types import TaskPayload


class Work(Protocol):
    """What the tasks of a run do, and where their rows go."""

    async def execute(self, payload: TaskPayload) -> None:
        """Make the value of one task."""

    async def checkpoint(self, row_group: int, left_out: frozenset[int]) -> None:
        """Write the rows of a row group, by its index, but those left out."""

    def restore(self, spec: RowGroupSpec) -> RestoredRows | None:
        """What earlier parts of the run have made of a row group that is not finished."""

    def drop(self, task: DroppedTask) -> None:
        """The task has failed for good."""


@dataclass(frozen=True)
class SchedulerSettings:
    """What a workflow sets for retries, stops and drops, and how often the stream has keyframes."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    keyframe_seconds: float = 1.0
    """Most seconds between keyframes."""
    keyframe_events: int = 5000
    """Most events between keyframes."""
    heartbeat_seconds: float = 1.0
    """Seconds between heartbeats."""
    stop_seconds: float | None = None
    """Most seconds that running tasks may go on once the run stops; None for no limit."""
    most_dropped_share: float | None = None
    """Share of the tasks of a column that may be dropped; None for no bound."""


@dataclass(frozen=True)
class ReportSources:
    """Where the scheduler's events get what it does not know itself."""

    request_keyframe: Callable[[bool], dict[str, Any]]
    """Returns what request admission adds to a keyframe; its argument is True for a full one."""
    metadata_diagnostics: Sequence[MetadataDiagnostic] = ()
    """Fallbacks to report at the start."""
    warnings: Sequence[tuple[str, str]] = ()
    """Code and sentence of what a user should know at the start."""
    capacity_at_end: Callable[[SchedulerPeaks], AsyncCapacityPlan] | None = None
    """Returns the capacity that was used."""
