"""`LiveIndex`: live tasks and calls, counted so that no verdict has to walk over all of them."""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import lru_cache

import msgspec

from replay.diagnosis.cell_ledger import Cell, Key
from replay.diagnosis.leaks import Leaks
from replay.state import id_table
from replay.state.id_table import IdTable
from replay.state.model import Attempt
from replay.state.task import Task


class TaskEntry(msgspec.Struct, frozen=True, gc=False):
    """A live task as the ledgers count it. Tasks without an execution share equal entries."""

    cell: Cell
    key: Key
    bucket: str
    """`ready`, `queued`, `running` (leased until released) or `deferred`."""
    group: str
    request_resource: str
    """"" where it calls no model, or nobody knows which."""
    execution_id: str | None
    unknown: bool = False
    """Events were lost since the last one about it: it may be elsewhere by now."""


def entry_of(
    cell: Cell,
    key: Key,
    bucket: str,
    group: str,
    request_resource: str,
    execution_id: str | None,
    unknown: bool = False,
) -> TaskEntry:
    """The entry with these values, shared where it can be: a run may have a million that wait."""
    if execution_id is None:
        return _shared_entry(cell, key, bucket, group, request_resource, unknown)
    return TaskEntry(cell, key, bucket, group, request_resource, execution_id, unknown)


@lru_cache(maxsize=16_384)
def _shared_entry(
    cell: Cell, key: Key, bucket: str, group: str, request_resource: str, unknown: bool
) -> TaskEntry:
    return TaskEntry(cell, key, bucket, group, request_resource, None, unknown)


class Call(msgspec.Struct):
    """A live request attempt."""

    resource: str
    phase: str
    execution_id: str | None
    column: str
    acquired_at: float | None = None
    started_at: float | None = None
    started_ordinal: int = 0
    paused: float = 0.0
    """Time since it started in which the event loop did not run."""
    overdue: bool = False
    """Slower than its provider's usual."""
    unknown: bool = False
    """Events were lost since the last one about it: it may have ended."""


class DemandCounts(msgspec.Struct):
    """Live tasks by bucket."""

    ready: int = 0
    queued: int = 0
    running: int = 0
    deferred: int = 0

    def add(self, bucket: str, by: int) -> None:
        """One bucket has `by` more, or fewer."""
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
    """Written by `IndexSync` alone, but for the row groups that are being checkpointed."""

    tasks: MutableMapping[str, TaskEntry] = msgspec.field(default_factory=dict)
    """An `IdTable` where there are very many."""
    calls: dict[str, Call] = {}
    executions: dict[str, str] = {}
    """Task by execution."""
    calls_of: dict[str, dict[str, None]] = {}
    """Live attempts by execution, in the order they began."""
    demand: dict[str, DemandCounts] = {}
    """By request resource, and all together under the key ""."""
    running_by_column: dict[str, int] = {}
    queued_for: dict[str, dict[str, int]] = {}
    """Queued tasks by group, for each request resource ("" for none)."""
    unknown_for: dict[str, dict[str, int]] = {}
    """The same of unknown tasks, which count nowhere else."""
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
    requests_for: dict[str, dict[str, int]] = {}
    """How many of those groups have which request resource ("" for none)."""
    most: dict[str, int] = {}
    """The most that one task takes of each scheduler resource."""
    overdue: dict[str, int] = {}
    """Calls that are overdue, by request resource."""

    started: bool = False
    """The run exists: its job has started, or a task is known."""
    failed: dict[str, str] = {}
    """Executions whose last call failed and that have made no other since, with its resource."""
    failed_with: dict[str, str] = {}
    """The last error by request resource."""
    unsure: dict[str, None] = {}
    """Tasks that take longer than usual, where no event tells of their calls."""
    paused: dict[str, float] = {}
    """Of tasks with a lease, where no event tells of calls: time in which nothing came at all."""

    leaks: Leaks = msgspec.field(default_factory=Leaks)
    checkpointing: dict[str, None] = {}
    """Row groups whose checkpoint is being written."""
    attempts_seen: bool = False
    """The stream has events about single calls."""

    def learn_group(self, task: Task, request_resource: str) -> None:
        """Takes over what tasks of this group need."""
        if self.needs.get(task.group) != task.resources and task.resources:
            self.needs[task.group] = task.resources
            for resource, amount in task.resources.items():
                self.most[resource] = max(self.most.get(resource, 1), amount)
                self._learn_need(task.group, resource)
        if request_resource and self.request_of.get(task.group) != request_resource:
            self.learn_request(task.group, request_resource)

    def learn_request(self, group: str, request_resource: str) -> None:
        """The group's tasks call this resource ("" for none)."""
        before = self.request_of.get(group, "")
        self.request_of[group] = request_resource
        if request_resource != before:
            for resource, groups in self.needing.items():
                if group in groups:
                    _add(self.requests_for[resource], before, -1)
                    _add(self.requests_for[resource], request_resource, 1)

    def _learn_need(self, group: str, resource: str) -> None:
        groups = self.needing.setdefault(resource, {})
        if group not in groups:
            groups[group] = None
            requests = self.requests_for.setdefault(resource, {})
            _add(requests, self.request_of.get(group, ""), 1)

    def put(self, task_id: str, entry: TaskEntry) -> None:
        """Add a task that is not in the index."""
        self.started = True
        self.tasks[task_id] = entry
        if len(self.tasks) > id_table.WIDE and not isinstance(self.tasks, IdTable):
            self.tasks = IdTable(self.tasks)
        self._count(entry, 1)
        if entry.execution_id is not None:
            self.executions[entry.execution_id] = task_id

    def remove(self, task_id: str, entry: TaskEntry) -> None:
        del self.tasks[task_id]
        self._count(entry, -1)
        self.unsure.pop(task_id, None)
        self.paused.pop(task_id, None)
        if entry.execution_id is not None:
            self.executions.pop(entry.execution_id, None)
            self.failed.pop(entry.execution_id, None)
        held = self.leases.get(entry.group)
        if held is not None:
            held.pop(task_id, None)

    def change(
        self,
        task_id: str,
        entry: TaskEntry,
        key: Key,
        bucket: str,
        execution_id: str | None,
        unknown: bool = False,
    ) -> TaskEntry:
        """Replace the entry of a task by one with these values, and return that."""
        if execution_id != entry.execution_id:
            if entry.execution_id is not None:
                self.executions.pop(entry.execution_id, None)
                self.failed.pop(entry.execution_id, None)
            self.unsure.pop(task_id, None)
            if execution_id is not None:
                self.executions[execution_id] = task_id
        changed = entry_of(
            entry.cell, key, bucket, entry.group, entry.request_resource, execution_id, unknown
        )
        if bucket != entry.bucket or unknown != entry.unknown:
            self._count(entry, -1)
            self._count(changed, 1)
        self.tasks[task_id] = changed
        return changed

    def is_known(self, task_id: str) -> bool:
        """No events were lost since the last one about the task."""
        entry = self.tasks.get(task_id)
        return entry is not None and not entry.unknown

    def is_known_call(self, attempt_id: str) -> bool:
        call = self.calls.get(attempt_id)
        return call is not None and not call.unknown

    def update_lease(self, task_id: str, task: Task) -> None:
        """Add or remove the task lease, in the order of acquisition within its group."""
        held = self.leases.get(task.group)
        if held is None:
            held = self.leases[task.group] = {}
        if task.lease_id is None:
            held.pop(task_id, None)
            self.paused.pop(task_id, None)
        elif task_id not in held:
            held[task_id] = (task.acquired_at or task.since, task.acquired_ordinal or 0)

    def forget_call(self, attempt_id: str) -> Call | None:
        """Remove an attempt that is gone from the state. Returns its call, if it was known."""
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
        """Update a call from its attempt in the state; `ordinal` is of the event about it."""
        call = self.calls.get(attempt_id)
        if call is None:
            call = Call(attempt.resource, attempt.phase, attempt.execution_id, attempt.column or "")
            self.calls[attempt_id] = call
            if call.execution_id is not None:
                self.calls_of.setdefault(call.execution_id, {})[attempt_id] = None
                self.failed.pop(call.execution_id, None)
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
        """The call is, or is no longer, slower than usual."""
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

    def _count(self, entry: TaskEntry, by: int) -> None:
        bucket, resource = entry.bucket, entry.request_resource
        if entry.unknown:
            if bucket == "queued":
                _add(self.unknown_for.setdefault(resource, {}), entry.group, by)
            return
        self._demand_of("").add(bucket, by)
        if resource:
            self._demand_of(resource).add(bucket, by)
        if bucket == "queued":
            _add(self.queued_for.setdefault(resource, {}), entry.group, by)
        elif bucket == "running":
            _add(self.running_by_column, entry.cell[0], by)

    def _demand_of(self, resource: str) -> DemandCounts:
        counts = self.demand.get(resource)
        if counts is None:
            counts = self.demand[resource] = DemandCounts()
        return counts


def _add(counts: dict[str, int], name: str, by: int) -> None:
    """A count of 0 leaves the mapping."""
    number = counts.get(name, 0) + by
    if number:
        counts[name] = number
    else:
        del counts[name]
