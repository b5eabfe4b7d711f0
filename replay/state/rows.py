"""What the fold derives from events: rows that a recording keeps beside them.

Times are monotonic seconds of the producer; a bin is one second, `floor(time - monotonic_start)`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from replay.state.model import Attempt
from replay.state.task import Task


class LeaseRow(msgspec.Struct, frozen=True, gc=False):
    """One task lease, from dependency-ready to release. Open ends are None."""

    lease_id: str
    task_id: str
    column: str
    group: str
    row_group: int | None
    row: int | None
    attempt: int
    execution_id: str | None
    ready_at: float | None
    enqueued_at: float | None
    selected_at: float | None
    acquired_at: float
    spawned_at: float | None
    released_at: float | None
    result: str | None
    """`completed`, `deferred`, `dropped`, `cancelled`; None while open."""
    error: str | None
    acquired_ordinal: int
    released_ordinal: int | None


class AttemptRow(msgspec.Struct, frozen=True, gc=False):
    """One request attempt, from its wait to the release of its lease. Open ends are None."""

    attempt_id: str
    resource: str
    execution_id: str | None
    column: str | None
    lease_id: str | None
    wait_started_at: float | None
    acquired_at: float | None
    started_at: float | None
    completed_at: float | None
    released_at: float | None
    """The end of the attempt, also where it never had a lease."""
    outcome: str | None
    first_ordinal: int
    last_ordinal: int | None


class RollupRow(msgspec.Struct, frozen=True, gc=False):
    """One series in one bin, or in each of a stretch of bins.

    `queue_depth` by group; `limit`, `in_flight`, `waiters`, `effective_max`, `cooling` (fraction of
    the bin), `completed`, `rate_limited`, `failed` (counts) and `latency` (seconds of the calls
    that came back well: their mean, 95th percentile and longest) by request resource; `leased` by
    scheduler resource; `blocked` (fraction of the bin) by block reason (`queue_empty` where it is
    that); `tasks_done` (counts) by column; `rows_done`, `tokens`, `events` (counts) under the key
    "".
    """

    bin: int
    series: str
    key: str
    mean: float
    last: float
    peak: float
    bins: int = 1
    """So many bins from `bin` on are alike."""


class BlameRow(msgspec.Struct, frozen=True, gc=False):
    """Seconds of blame in one bin, or in a stretch of bins of which each had as many.

    Scope `cell`: cell-seconds (each live cell counts one second a second). Scope `run`:
    capacity-seconds of `resource` (each slot of its effective maximum counts).
    """

    bin: int
    scope: Literal["cell", "run"]
    column: str
    row_group: int | None
    resource: str
    verdict: str
    per_bin: float = msgspec.field(name="each")
    """Seconds in each of its bins."""
    bins: int = 1
    """So many bins from `bin` on."""

    @property
    def seconds(self) -> float:
        """Of all its bins together."""
        return self.per_bin * self.bins


def lease_row(task: Task, released_at: float | None, ordinal: int | None) -> LeaseRow | None:
    """The task's lease as it stands; None where it holds none."""
    if task.lease_id is None or task.acquired_at is None:
        return None
    return LeaseRow(
        lease_id=task.lease_id,
        task_id=task.task_id,
        column=task.column,
        group=task.group,
        row_group=task.row_group,
        row=task.row,
        attempt=task.attempt,
        execution_id=task.execution_id,
        ready_at=task.ready_at,
        enqueued_at=task.enqueued_at,
        selected_at=task.selected_at,
        acquired_at=task.acquired_at,
        spawned_at=task.spawned_at,
        released_at=released_at,
        result=None if released_at is None else task.result,
        error=task.error,
        acquired_ordinal=task.acquired_ordinal or 0,
        released_ordinal=ordinal,
    )


def attempt_row(
    attempt: Attempt,
    completed_at: float | None,
    released_at: float | None,
    outcome: str | None,
    ordinal: int | None,
) -> AttemptRow:
    """The row of an attempt with the end that is known of it; None for what is not."""
    return AttemptRow(
        attempt_id=attempt.attempt_id,
        resource=attempt.resource,
        execution_id=attempt.execution_id,
        column=attempt.column,
        lease_id=attempt.lease_id,
        wait_started_at=attempt.wait_started_at,
        acquired_at=attempt.acquired_at,
        started_at=attempt.started_at,
        completed_at=completed_at,
        released_at=released_at,
        outcome=outcome,
        first_ordinal=attempt.first_ordinal,
        last_ordinal=ordinal,
    )


def open_attempt_row(attempt: Attempt) -> AttemptRow:
    """The row of an attempt that is still under way."""
    return attempt_row(attempt, attempt.completed_at, attempt.released_at, attempt.outcome, None)
