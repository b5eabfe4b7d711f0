"""A live task, as folded from its events. Times are monotonic seconds of the producer."""

from __future__ import annotations

from typing import Literal

import msgspec

TaskPhase = Literal["ready", "queued", "selected", "leased", "running", "finished", "deferred"]


class Task(msgspec.Struct, omit_defaults=True, gc=False):
    """A live task: dependency-ready, not yet closed.

    There may be very many: what several have in common, such as `resources`, they share.
    """

    task_id: str
    column: str
    group: str
    phase: TaskPhase
    since: float
    row_group: int | None = None
    row: int | None = None
    task_type: str = "cell"
    ready_at: float | None = None
    enqueued_at: float | None = None
    attempt: int = 1
    resources: dict[str, int] = {}
    request_resource: str | None = None
    lease_id: str | None = None
    acquired_at: float | None = None
    execution_id: str | None = None
    spawned_at: float | None = None
    retry_at: float | None = None
    error: str | None = None
    selected_at: float | None = None
    acquired_ordinal: int | None = None
    result: str | None = None
    """`completed`, `deferred`, `dropped`, `cancelled` between the end event and the release."""
