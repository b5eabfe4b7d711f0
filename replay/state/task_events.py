"""How the events in the life of a task change the state. One function per kind.

What the counts mean: a task counts as queued in the phases `queued` and `selected`, as leased while
it has a `lease_id`, as running from its spawn to the release of its lease.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache

from engine.events import RunInfo, SchedulerEvent
from replay.state import failures
from replay.state.model import Group, State
from replay.state.payload import amounts, count, mapping, number, text
from replay.state.task import Task

Handler = Callable[[State, SchedulerEvent, int, RunInfo], None]


def group_of(state: State, key: str) -> Group:
    """The group of this key, which is made if it is new."""
    group = state.groups.get(key)
    if group is None:
        group = state.groups[key] = Group(key)
    return group


def add(into: dict[str, int], some: dict[str, int]) -> None:
    """Adds the amounts of `some` to those of `into`, in place."""
    for name, amount in some.items():
        into[name] = into.get(name, 0) + amount


def take(out_of: dict[str, int], some: dict[str, int]) -> None:
    """Subtract; what comes to nothing leaves the mapping."""
    for name, amount in some.items():
        left = out_of.get(name, 0) - amount
        if left > 0:
            out_of[name] = left
        else:
            out_of.pop(name, None)


def shared(resources: dict[str, int]) -> dict[str, int]:
    """One mapping for all tasks that take the same."""
    return _interned(tuple(resources.items()))


@lru_cache(maxsize=4096)
def _interned(resources: tuple[tuple[str, int], ...]) -> dict[str, int]:
    return dict(resources)


def _enter_queue(state: State, task: Task) -> None:
    group = group_of(state, task.group)
    group.queued += 1
    add(group.demand, task.resources)


def _leave_queue(state: State, task: Task) -> None:
    group = group_of(state, task.group)
    group.queued = max(0, group.queued - 1)
    take(group.demand, task.resources)


def _open_lease(state: State, task: Task, lease_id: str, at: float, ordinal: int) -> None:
    task.result = task.error = None
    task.lease_id = lease_id
    task.acquired_at = at
    task.acquired_ordinal = ordinal
    task.phase = "leased"
    task.since = at
    group = group_of(state, task.group)
    group.leased += 1
    add(group.leased_amounts, task.resources)
    add(state.leased, task.resources)


def _close_lease(state: State, task: Task) -> None:
    group = group_of(state, task.group)
    group.leased = max(0, group.leased - 1)
    take(group.leased_amounts, task.resources)
    take(state.leased, task.resources)
    if task.execution_id is not None:
        group.running = max(0, group.running - 1)
    task.lease_id = None
    task.acquired_at = None
    task.acquired_ordinal = None
    task.execution_id = None
    task.spawned_at = None


def withdraw(state: State, task: Task) -> None:
    """Take back whatever the task counts for."""
    if task.lease_id is not None:
        _close_lease(state, task)
    elif task.phase == "queued" or task.phase == "selected":
        _leave_queue(state, task)


def _new_task(state: State, event: SchedulerEvent, run: RunInfo) -> Task:
    """A task as its event tells it; what the event lacks comes from the column."""
    task_id = event.task_id
    if task_id is None:
        raise ValueError("no task")
    diagnostics = event.diagnostics
    correlation = event.captured_correlation
    column = row_group = None
    task_type = "cell"
    if correlation is not None:
        column = correlation.task_column
        row_group = count(correlation.row_group)
        task_type = correlation.task_type or "cell"
    if column is None:
        column = task_id.partition("/")[0]
    group = text(diagnostics.get("group"))
    if group is None:
        group = next((known.group for known in run.columns if known.name == column), "") or column
    now = event.captured_at_monotonic
    row = count(diagnostics.get("row"))
    attempt = count(diagnostics.get("attempt")) or 1
    task = state.tasks[task_id] = Task(
        task_id,
        sys.intern(column),
        sys.intern(group),
        "ready",
        now,
        row_group,
        row,
        "cell" if task_type == "cell" else sys.intern(task_type),
        now,
        None,
        attempt,
    )
    return task


def _orphan(state: State, event: SchedulerEvent, run: RunInfo) -> Task:
    """A task whose beginning was never seen."""
    task = _new_task(state, event, run)
    state.orphans += 1
    task.ready_at = None
    resources = amounts(event.diagnostics.get("resources"))
    if not resources:
        for column in run.columns:
            if column.name == task.column:
                resources = dict(column.resources)
    task.resources = resources
    return task


def dependency_ready(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """A task begins, or begins again for its next attempt."""
    old = state.tasks.get(event.task_id or "")
    task = _new_task(state, event, run)
    if old is not None:
        withdraw(state, old)
        if task.attempt <= old.attempt and old.result == "deferred":
            task.attempt = old.attempt + 1
    group_of(state, task.group)


def ready_enqueued(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    task = state.tasks.unpacked(event.task_id or "")
    if task is None:
        task = _orphan(state, event, run)
    elif task.phase != "ready":
        withdraw(state, task)
    diagnostics = event.diagnostics
    task.group = sys.intern(text(diagnostics.get("group")) or task.group)
    task.resources = shared(amounts(diagnostics.get("resources")) or task.resources)
    request_resource = text(diagnostics.get("request_resource"))
    task.request_resource = None if request_resource is None else sys.intern(request_resource)
    task.phase = "queued"
    task.since = task.enqueued_at = event.captured_at_monotonic
    _enter_queue(state, task)
    weight = number(diagnostics.get("weight"))
    if weight is not None and weight > 0:
        state.groups[task.group].weight = weight


def selected(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """The task has been chosen; it counts as queued until it has its lease."""
    task = state.tasks.unpacked(event.task_id or "")
    if task is None:
        task = _orphan(state, event, run)
        _enter_queue(state, task)
    elif task.phase != "queued":
        return
    task.phase = "selected"
    task.since = task.selected_at = event.captured_at_monotonic


def back_in_queue(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """`admission_denied`, `stale_selection`: the task was chosen and stays where it was."""
    task = state.tasks.unpacked(event.task_id or "")
    if task is not None and task.phase == "selected":
        task.phase = "queued"
        task.since = event.captured_at_monotonic


def task_lease_acquired(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """The task leaves the queue and takes its resources. Raises `ValueError` without a lease."""
    lease_id = event.task_lease_id
    if lease_id is None:
        raise ValueError("no lease")
    _owe(state, event)
    task = state.tasks.unpacked(event.task_id or "")
    if task is None:
        task = _orphan(state, event, run)
    else:
        withdraw(state, task)
    resources = amounts(event.diagnostics.get("resources"))
    if resources:
        task.resources = shared(resources)
    _open_lease(state, task, lease_id, event.captured_at_monotonic, ordinal)


def worker_spawned(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    execution_id = event.task_execution_id
    if execution_id is None:
        raise ValueError("no execution")
    now = event.captured_at_monotonic
    task = state.tasks.unpacked(event.task_id or "")
    if task is None or task.lease_id is None:
        if event.task_lease_id is None:
            raise ValueError("no lease")
        if task is None:
            task = _orphan(state, event, run)
        else:
            state.orphans += 1
            withdraw(state, task)
        _open_lease(state, task, event.task_lease_id, now, ordinal)
    if task.execution_id is None:
        group_of(state, task.group).running += 1
    task.execution_id = execution_id
    task.spawned_at = task.since = now
    task.phase = "running"


def _ended(state: State, event: SchedulerEvent, result: str) -> Task | None:
    """Note a task's end. A task without a lease leaves the state here, others at the release."""
    task = state.tasks.unpacked(event.task_id or "")
    if task is None:
        return None
    task.since = event.captured_at_monotonic
    task.result = result
    if task.lease_id is None:
        withdraw(state, task)
        del state.tasks[task.task_id]
    task.phase = "finished"
    return task


def _column(event: SchedulerEvent, task: Task | None) -> str | None:
    if task is not None:
        return task.column
    correlation = event.captured_correlation
    return None if correlation is None else correlation.task_column


def task_completed(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """The task is done; from foreign producers, deferred and dropped ones end so as well."""
    task = state.tasks.get(event.task_id or "")
    if task is None:
        state.orphans += 1
    elif task.result is not None:
        # A foreign producer also reports the execution of a deferred or dropped task as completed.
        return
    column = _column(event, task)
    _ended(state, event, "completed")
    progress = state.progress
    progress.last_done_at = event.captured_at_monotonic
    if column is not None:
        add(progress.completed_by_column, {column: 1})
        if task is not None and task.acquired_at is not None:
            seconds = progress.seconds_by_column
            spent = event.captured_at_monotonic - task.acquired_at
            seconds[column] = seconds.get(column, 0.0) + max(0.0, spent)


def _failed(
    state: State, event: SchedulerEvent, task: Task | None, ordinal: int, *, dropped: bool
) -> None:
    error = text(event.reason_or_result) or text(event.diagnostics.get("error_type"))
    if task is not None:
        if task.result == "completed":
            take(state.progress.completed_by_column, {task.column: 1})
        task.error = error
    if error is not None:
        add(state.progress.errors, {error: 1})
    column = _column(event, task)
    if column is not None:
        at = event.captured_at_monotonic
        message = text(event.diagnostics.get("message")) or ""
        failures.record_task(
            state, task, column, error, at, ordinal, dropped=dropped, message=message
        )


def retry_deferred(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    task = state.tasks.unpacked(event.task_id or "")
    if task is None:
        task = _orphan(state, event, run)
    elif task.lease_id is None:
        withdraw(state, task)
    _failed(state, event, task, ordinal, dropped=False)
    state.progress.retries += 1
    task.phase = "deferred"
    task.result = "deferred"
    task.since = event.captured_at_monotonic
    task.attempt = count(event.diagnostics.get("attempt")) or task.attempt
    task.retry_at = number(event.diagnostics.get("retry_at"))


def non_retryable_dropped(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    task = state.tasks.unpacked(event.task_id or "")
    _failed(state, event, task, ordinal, dropped=True)
    _ended(state, event, "dropped")


def cancelled(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """The task ends without a result, unless it has one already."""
    task = state.tasks.get(event.task_id or "")
    waits_for_retry = task is not None and task.phase == "deferred" and task.lease_id is None
    if task is not None and (task.result is None or waits_for_retry):
        _ended(state, event, "cancelled")


def _owe(state: State, event: SchedulerEvent) -> None:
    """What groups owe now, where a lease or its end has changed it."""
    for name, debts in mapping(event.diagnostics.get("debt")).items():
        owed = group_of(state, name).debt
        for resource, amount in mapping(debts).items():
            units = count(amount)
            if units:
                owed[resource] = units
            else:
                owed.pop(resource, None)


def task_lease_released(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """Gives the resources back; a task that never ran is queued again."""
    _owe(state, event)
    task = state.tasks.unpacked(event.task_id or "")
    if task is None or task.lease_id is None or task.lease_id != event.task_lease_id:
        state.orphans += 1
        return
    phase = task.phase
    _close_lease(state, task)
    if phase == "leased":
        # The selection had become stale (or the spawn failed): the task was never taken out.
        task.phase = "queued"
        task.since = event.captured_at_monotonic
        _enter_queue(state, task)
    elif phase != "deferred":
        del state.tasks[task.task_id]


def worker_spawn_failed(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    task = state.tasks.pop(event.task_id or "", None)
    if task is not None:
        withdraw(state, task)


HANDLERS: dict[str, Handler] = {
    "dependency_ready": dependency_ready,
    "ready_enqueued": ready_enqueued,
    "selected": selected,
    "task_lease_acquired": task_lease_acquired,
    "admission_denied": back_in_queue,
    "worker_spawned": worker_spawned,
    "worker_spawn_failed": worker_spawn_failed,
    "stale_selection": back_in_queue,
    "retry_deferred": retry_deferred,
    "non_retryable_dropped": non_retryable_dropped,
    "cancelled": cancelled,
    "task_completed": task_completed,
    "task_lease_released": task_lease_released,
}
