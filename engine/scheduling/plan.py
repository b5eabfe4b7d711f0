"""What a scheduler needs to know of a run, and the result of one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from engine.capacity_plan import AsyncCapacityPlan
from engine.identity import RequestResourceKey, SchedulerResourceKey
from engine.rows.checkpoints import WrittenRows
from engine.scheduling.types import ResolvedTaskScheduling, TaskType

Outcome = Literal["success", "failed", "cancelled", "stopped"]
"""`stopped`: the engine ended the run by itself, because nothing more could succeed."""


BACK_OFF_GROWTH = 3.0


@dataclass(frozen=True)
class ColumnPlan:
    """What the scheduler needs to know of a column."""

    name: str
    task_type: TaskType
    depends_on: tuple[str, ...]
    scheduling: ResolvedTaskScheduling
    request_resource: RequestResourceKey | None = None
    """Where its first request goes, if that is known."""


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with jitter: the n-th failure is followed by base x 3^(n-1) seconds, at
    most `max_delay_seconds`, less a random part of up to one half, so that retries spread out. The
    first comes soon, since most failures are of one call, and the last ones wait long enough for a
    bad spell of a provider that answers others to pass."""

    max_attempts: int = 5
    base_delay_seconds: float = 0.3
    max_delay_seconds: float = 30.0

    def delay(self, failures: int, source: random.Random) -> float:
        """Seconds to wait after so many failures in a row."""
        full = self.base_delay_seconds * BACK_OFF_GROWTH ** min(failures - 1, 30)
        return min(full, self.max_delay_seconds) * (0.5 + 0.5 * source.random())


@dataclass(frozen=True)
class RunResult:
    """How a run ended, and what it has made."""

    outcome: Outcome
    rows_done: int
    rows_dropped: int
    message: str = ""
    rows_unfinished: int = 0
    """Rows that were begun and left unfinished."""
    capacity: AsyncCapacityPlan | None = field(default=None, compare=False, repr=False)
    """The capacity that was used, which the last event reports."""


@dataclass(frozen=True)
class ResumedRun:
    """What earlier parts of a run have made, and which ids they have used."""

    resumes: int
    """How often the run has been resumed, this time included."""
    paused_seconds: float | None
    """Wall time since the last sign of life; None where that is not known."""
    written: WrittenRows
    completed_by_column: Mapping[str, int]
    row_groups_done: int
    restored_cells: int
    """Cells of open row groups that need not be made again."""
    executions: int
    """Executions that the run has had."""
    wall: float | None = None
    """Unix seconds now."""


def check_limits(columns: Sequence[ColumnPlan], limits: Mapping[SchedulerResourceKey, int]) -> None:
    """Raises `ValueError` where a column asks for a resource without a limit, or for more than the
    limit."""
    for column in columns:
        for key, amount in column.scheduling.resource_request.amounts.items():
            limit = limits.get(key, 0)
            if amount > limit:
                raise ValueError(
                    f"column {column.name!r} needs {amount} of {key.label}, the limit is {limit}"
                )
