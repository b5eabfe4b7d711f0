"""`Population`: who is where now, counted so that no verdict needs a walk over all live tasks."""

from __future__ import annotations

import msgspec

from replay.diagnosis.cell import Cell, Key
from replay.state import Attempt, Task


class Placed(msgspec.Struct):
    """A live task as the ledgers have it."""

    cell: Cell
    key: Key
    bucket: str
    """`ready`, `queued`, `running` (leased until released) or `deferred`."""
    group: str
    request_resource: str
    """"" where it calls no model, or nobody knows which."""
    execution_id: str | None


class Call(msgspec.Struct):
    """A live request attempt."""

    resource: str
    phase: str
    execution_id: str | None
    column: str
    acquired_at: float | None = None
    started_at: float | None = None
    started_ordinal: int = 0
    due: float | None = None
    """From here on it is slower than its provider's usual."""
    overdue: bool = False
    sampled: bool = False
    """Its duration counts among those of its resource."""


class Wants(msgspec.Struct):
    """Live tasks by bucket."""

    ready: int = 0
    queued: int = 0
    running: int = 0
    deferred: int = 0

    def add(self, bucket: str, by: int) -> None:
        setattr(self, bucket, getattr(self, bucket) + by)


BUCKETS: dict[str, str] = {
    "ready": "ready",
    "selected": "ready",
    "queued": "queued",
    "leased": "running",
    "running": "running",
    "finished": "running",
    "deferred": "deferred",
}


class Population(msgspec.Struct):
    placed: dict[str, Placed] = {}
    calls: dict[str, Call] = {}
    executions: dict[str, str] = {}
    """Task by execution."""
    calls_of: dict[str, dict[str, None]] = {}
    """Live attempts by execution, in the order they began."""
    wants: dict[str, Wants] = {}
    """By request resource, and all together under the key ""."""
    running_by_column: dict[str, int] = {}
    queued_for: dict[str, dict[str, int]] = {}
    """Queued tasks by group, for each request resource ("" for none)."""
    leases: dict[str, dict[str, tuple[float, int]]] = {}
    """(acquired at, ordinal) by task, oldest first, for each group."""
    requests: dict[str, dict[str, tuple[float, int]]] = {}
    """(acquired at, ordinal) by attempt, oldest first, for each request resource."""
    needs: dict[str, dict[str, int]] = {}
    """What a task of the group takes of each scheduler resource."""
    request_of: dict[str, str] = {}
    """The request resource of a group's tasks."""
    needing: dict[str, dict[str, None]] = {}
    """Groups by the scheduler resource they take from."""
    most: dict[str, int] = {}
    """The most that one task takes of each scheduler resource."""
    overdue: dict[str, int] = {}
    """Calls that are overdue, by request resource."""

    def learn_group(self, task: Task, request_resource: str) -> None:
        if self.needs.get(task.group) != task.resources and task.resources:
            self.needs[task.group] = dict(task.resources)
            for resource, amount in task.resources.items():
                self.most[resource] = max(self.most.get(resource, 1), amount)
                self.needing.setdefault(resource, {})[task.group] = None
        if request_resource:
            self.request_of[task.group] = request_resource

    def put(self, task_id: str, new: Placed | None) -> Placed | None:
        """Replace what is known of a task (None: it is gone). Returns what was known."""
        old = self.placed.get(task_id)
        if old is not None:
            self._count(old, -1)
            if old.execution_id is not None and (
                new is None or new.execution_id != old.execution_id
            ):
                self.executions.pop(old.execution_id, None)
        if new is None:
            self.placed.pop(task_id, None)
        else:
            self.placed[task_id] = new
            self._count(new, 1)
            if new.execution_id is not None:
                self.executions[new.execution_id] = task_id
        return old

    def hold(self, task_id: str, task: Task | None, group: str, ordinal: int) -> None:
        """Keep the order of task leases by group."""
        held = self.leases.setdefault(group, {})
        if task is not None and task.lease_id is not None:
            if task_id not in held:
                held[task_id] = (task.acquired_at or task.since, ordinal)
        else:
            held.pop(task_id, None)

    def observe(self, attempt_id: str, attempt: Attempt | None, ordinal: int) -> Call | None:
        """Take over what the state says of an attempt. Returns the call, also if it just ended."""
        call = self.calls.get(attempt_id)
        if attempt is None:
            if call is not None:
                del self.calls[attempt_id]
                self.requests.get(call.resource, {}).pop(attempt_id, None)
                if call.execution_id is not None:
                    siblings = self.calls_of.get(call.execution_id, {})
                    siblings.pop(attempt_id, None)
                    if not siblings:
                        self.calls_of.pop(call.execution_id, None)
            return call
        if call is None:
            call = Call(attempt.resource, attempt.phase, attempt.execution_id, attempt.column or "")
            self.calls[attempt_id] = call
            if call.execution_id is not None:
                self.calls_of.setdefault(call.execution_id, {})[attempt_id] = None
        if attempt.acquired_at is not None and call.acquired_at is None:
            call.acquired_at = attempt.acquired_at
            self.requests.setdefault(call.resource, {})[attempt_id] = (attempt.acquired_at, ordinal)
        if attempt.phase == "in_provider" and call.started_at is None:
            call.started_at = (
                attempt.started_at if attempt.started_at is not None else attempt.since
            )
            call.started_ordinal = ordinal
        call.phase = attempt.phase
        return call

    def count_overdue(self, call: Call, overdue: bool) -> None:
        if call.overdue != overdue:
            call.overdue = overdue
            self.overdue[call.resource] = self.overdue.get(call.resource, 0) + (
                1 if overdue else -1
            )

    def call_key(self, execution_id: str | None) -> Key | None:
        """What a running task does by its calls: a call in the provider, a wait, or neither."""
        waiting: Key | None = None
        provider: Key | None = None
        for attempt_id in self.calls_of.get(execution_id or "", ()):
            call = self.calls[attempt_id]
            if call.phase == "in_provider":
                if not call.overdue:
                    return ("provider", call.resource)
                provider = ("overdue", call.resource)
            elif call.phase == "waiting" and waiting is None:
                waiting = ("waiting", call.resource)
        return provider or waiting

    def _count(self, placed: Placed, by: int) -> None:
        self.wants.setdefault("", Wants()).add(placed.bucket, by)
        if placed.request_resource:
            self.wants.setdefault(placed.request_resource, Wants()).add(placed.bucket, by)
        if placed.bucket == "queued":
            groups = self.queued_for.setdefault(placed.request_resource, {})
            groups[placed.group] = groups.get(placed.group, 0) + by
            if groups[placed.group] == 0:
                del groups[placed.group]
        elif placed.bucket == "running":
            column = placed.cell[0]
            self.running_by_column[column] = self.running_by_column.get(column, 0) + by
            if self.running_by_column[column] == 0:
                del self.running_by_column[column]
