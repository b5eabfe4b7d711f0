"""`LiveIndex`: who is where now, counted so that no verdict needs a walk over all live tasks."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from replay.diagnosis.cell_ledger import Cell, Key
from replay.diagnosis.leaks import Leaks
from replay.state.model import Attempt
from replay.state.task import Task


class TaskEntry(msgspec.Struct, frozen=True, gc=False):
    """A live task as the ledgers have it; many tasks share one, see `entry_of`."""

    cell: Cell
    key: Key
    bucket: str
    """`ready`, `queued`, `running` (leased until released) or `deferred`."""
    group: str
    request_resource: str
    """"" where it calls no model, or nobody knows which."""
    execution_id: str | None
    lost: bool = False
    """Events are missing since it was last told of: it may be elsewhere by now."""


def entry_of(
    cell: Cell,
    key: Key,
    bucket: str,
    group: str,
    request_resource: str,
    execution_id: str | None,
    lost: bool = False,
) -> TaskEntry:
    if execution_id is None:
        return _shared_entry(cell, key, bucket, group, request_resource, lost)
    return TaskEntry(cell, key, bucket, group, request_resource, execution_id, lost)


@lru_cache(maxsize=16_384)
def _shared_entry(
    cell: Cell, key: Key, bucket: str, group: str, request_resource: str, lost: bool
) -> TaskEntry:
    return TaskEntry(cell, key, bucket, group, request_resource, None, lost)


class Call(msgspec.Struct):
    """A live request attempt."""

    resource: str
    phase: str
    execution_id: str | None
    column: str
    acquired_at: float | None = None
    started_at: float | None = None
    started_ordinal: int = 0
    overdue: bool = False
    """Slower than its provider's usual."""
    lost: bool = False
    """Events are missing since it was last told of: it may have ended."""


class DemandCounts(msgspec.Struct):
    """Live tasks by bucket."""

    ready: int = 0
    queued: int = 0
    running: int = 0
    deferred: int = 0

    def add(self, bucket: str, by: int) -> None:
        if bucket == "running":
            self.running += by
        elif bucket == "queued":
            self.queued += by
        elif bucket == "ready":
            self.ready += by
        else:
            self.deferred += by


BUCKETS: dict[str, str] = {
    "ready": "ready",
    "selected": "ready",
    "queued": "queued",
    "leased": "running",
    "running": "running",
    "finished": "running",
    "deferred": "deferred",
}


class LiveIndex(msgspec.Struct):
    placed: dict[str, TaskEntry] = {}
    calls: dict[str, Call] = {}
    executions: dict[str, str] = {}
    """Task by execution."""
    calls_of: dict[str, dict[str, None]] = {}
    """Live attempts by execution, in the order they began."""
    wants: dict[str, DemandCounts] = {}
    """By request resource, and all together under the key ""."""
    running_by_column: dict[str, int] = {}
    queued_for: dict[str, dict[str, int]] = {}
    """Queued tasks by group, for each request resource ("" for none)."""
    lost_for: dict[str, dict[str, int]] = {}
    """The same of tasks that are lost, which count nowhere else."""
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
    queues_for: dict[str, dict[Key, None]] = {}
    """Meters of the queues of those groups."""
    most: dict[str, int] = {}
    """The most that one task takes of each scheduler resource."""
    overdue: dict[str, int] = {}
    """Calls that are overdue, by request resource."""

    leaks: Leaks = msgspec.field(default_factory=Leaks)

    def learn_group(self, task: Task, request_resource: str) -> None:
        if self.needs.get(task.group) != task.resources and task.resources:
            self.needs[task.group] = task.resources
            for resource, amount in task.resources.items():
                self.most[resource] = max(self.most.get(resource, 1), amount)
                self.needing.setdefault(resource, {})[task.group] = None
                self.queues_for.setdefault(resource, {})["queued", task.group] = None
        if request_resource:
            self.request_of[task.group] = request_resource

    def put(self, task_id: str, placed: TaskEntry) -> None:
        """A task that was not there before."""
        self.placed[task_id] = placed
        self._count(placed, 1)
        if placed.execution_id is not None:
            self.executions[placed.execution_id] = task_id

    def remove(self, task_id: str, placed: TaskEntry) -> None:
        del self.placed[task_id]
        self._count(placed, -1)
        if placed.execution_id is not None:
            self.executions.pop(placed.execution_id, None)
        held = self.leases.get(placed.group)
        if held is not None:
            held.pop(task_id, None)

    def change(
        self,
        task_id: str,
        placed: TaskEntry,
        key: Key,
        bucket: str,
        execution_id: str | None,
        lost: bool = False,
    ) -> TaskEntry:
        """Into another bucket, under another execution, or lost. Returns the entry of now."""
        if execution_id != placed.execution_id:
            if placed.execution_id is not None:
                self.executions.pop(placed.execution_id, None)
            if execution_id is not None:
                self.executions[execution_id] = task_id
        changed = entry_of(
            placed.cell, key, bucket, placed.group, placed.request_resource, execution_id, lost
        )
        if bucket != placed.bucket or lost != placed.lost:
            self._count(placed, -1)
            self._count(changed, 1)
        self.placed[task_id] = changed
        return changed

    def is_known(self, task_id: str) -> bool:
        """An event told of the task since events were last missing."""
        placed = self.placed.get(task_id)
        return placed is not None and not placed.lost

    def is_known_call(self, attempt_id: str) -> bool:
        call = self.calls.get(attempt_id)
        return call is not None and not call.lost

    def hold(self, task_id: str, task: Task) -> None:
        """Keep the order of task leases by group."""
        held = self.leases.get(task.group)
        if held is None:
            held = self.leases[task.group] = {}
        if task.lease_id is None:
            held.pop(task_id, None)
        elif task_id not in held:
            held[task_id] = (task.acquired_at or task.since, task.acquired_ordinal or 0)

    def forget_call(self, attempt_id: str) -> Call | None:
        """An attempt that is gone from the state. Returns what was known of it."""
        call = self.calls.pop(attempt_id, None)
        if call is not None:
            self.requests.get(call.resource, {}).pop(attempt_id, None)
            if call.execution_id is not None:
                siblings = self.calls_of.get(call.execution_id, {})
                siblings.pop(attempt_id, None)
                if not siblings:
                    self.calls_of.pop(call.execution_id, None)
        return call

    def observe(self, attempt_id: str, attempt: Attempt, ordinal: int) -> Call:
        """Take over what the state says of an attempt."""
        call = self.calls.get(attempt_id)
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

    def _count(self, placed: TaskEntry, by: int) -> None:
        bucket, resource = placed.bucket, placed.request_resource
        if placed.lost:
            if bucket == "queued":
                _add(self.lost_for.setdefault(resource, {}), placed.group, by)
            return
        self._wants_of("").add(bucket, by)
        if resource:
            self._wants_of(resource).add(bucket, by)
        if bucket == "queued":
            _add(self.queued_for.setdefault(resource, {}), placed.group, by)
        elif bucket == "running":
            _add(self.running_by_column, placed.cell[0], by)

    def _wants_of(self, resource: str) -> DemandCounts:
        wants = self.wants.get(resource)
        if wants is None:
            wants = self.wants[resource] = DemandCounts()
        return wants


def _add(counts: dict[str, int], name: str, by: int) -> None:
    """What comes to nothing leaves the mapping."""
    number = counts.get(name, 0) + by
    if number:
        counts[name] = number
    else:
        del counts[name]
