"""A live task, as folded from its events. Times are monotonic seconds of the producer."""

from __future__ import annotations

from typing import Literal

import msgspec

from replay.state.payload import Finite

TaskPhase = Literal["ready", "queued", "selected", "leased", "running", "finished", "deferred"]


class Task(msgspec.Struct, omit_defaults=True, gc=False):
    """A live task: dependency-ready, not yet closed.

    There may be very many: what several have in common, such as `resources`, they share.
    """

    task_id: str
    column: str
    group: str
    phase: TaskPhase
    since: Finite
    row_group: int | None = None
    row: int | None = None
    task_type: str = "cell"
    ready_at: Finite | None = None
    enqueued_at: Finite | None = None
    attempt: int = 1
    resources: dict[str, int] = {}
    request_resource: str | None = None
    lease_id: str | None = None
    acquired_at: Finite | None = None
    execution_id: str | None = None
    spawned_at: Finite | None = None
    retry_at: Finite | None = None
    error: str | None = None
    selected_at: Finite | None = None
    acquired_ordinal: int | None = None
    result: str | None = None
    """`completed`, `deferred`, `dropped`, `cancelled` between the end event and the release."""
