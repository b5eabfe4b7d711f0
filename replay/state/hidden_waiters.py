"""Hidden waiters: workers that run without a lease of their own, or wait for one while they run."""

from __future__ import annotations

from engine.events import SchedulerEvent
from replay.state.task import Task

WAIT_KINDS = frozenset({"ready_enqueued", "selected", "task_lease_acquired"})
"""Kinds of events about tasks that wait for a scheduler resource, or waited until now."""


def is_hidden_waiter(task: Task | None, event: SchedulerEvent) -> bool:
    """Whether the event shows a hidden waiter.

    Args:
        task: The event's task in the state just before the event; None if it has none.
        event: An event of any kind.
    """
    if event.event_kind == "worker_spawned":
        if task is None or task.lease_id is None or task.lease_id != event.task_lease_id:
            return True
        return task.execution_id is not None
    return event.event_kind in WAIT_KINDS and task is not None and task.phase == "running"
