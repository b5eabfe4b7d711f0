"""Where each live task and call is: put once an instant where the state has it."""

from __future__ import annotations

from engine.events import RunInfo
from replay.diagnosis.cell_ledger import Cell, Key, cell_of
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.invalidation import doubt_leaked, expect_slow, group_changed, resource_changed
from replay.diagnosis.leaks import CALL, LEAK_AFTER, Leak, Suspect
from replay.diagnosis.live_index import BUCKETS, Call, LiveIndex, TaskEntry, entry_of
from replay.diagnosis.slot_division import queued_key
from replay.state.model import State
from replay.state.task import Task

OWN: Key = ("own", "")
LOST: Key = ("lost", "")


def take_over(memory: DiagnosisState, state: State, run: RunInfo) -> None:
    """Put all that the events of this instant told of where the state has it now."""
    index = memory.index
    calls, tasks = memory.touched_calls, memory.touched_tasks
    if calls:
        memory.touched_calls = {}
        executions: dict[str, None] = {}
        for attempt_id, ordinal in calls.items():
            call = _take_call(memory, state, attempt_id, ordinal)
            if call is not None:
                call.lost = False
                memory.touched_resources[call.resource] = None
                if call.execution_id is not None:
                    executions[call.execution_id] = None
        for execution_id in executions:
            task_id = index.executions.get(execution_id)
            if task_id is not None and task_id not in tasks:
                _follow_calls(memory, state, task_id)
        if executions and not memory.standing.attempts_seen:
            memory.standing.attempts_seen = True
            resync(memory, state, run)
    if tasks:
        memory.touched_tasks = {}
        for task_id, ordinal in tasks.items():
            place(memory, state, task_id, run, ordinal)
        memory.doubtful_resources[""] = None
    if len(state.tasks) != len(index.placed) or len(state.attempts) != len(index.calls):
        resync(memory, state, run)
    if memory.touched_groups:
        for group in memory.touched_groups:
            group_changed(memory, state, group)
        memory.touched_groups = {}
    if memory.touched_resources:
        for resource in memory.touched_resources:
            resource_changed(memory, state, resource)
        memory.touched_resources = {}


def resync(memory: DiagnosisState, state: State, run: RunInfo) -> None:
    """Take over the whole state, where it did not change event by event."""
    index = memory.index
    ordinal = memory.ordinal
    for attempt_id in [one for one in index.calls if one not in state.attempts]:
        _take_call(memory, state, attempt_id, ordinal)
    for attempt_id in state.attempts:
        _take_call(memory, state, attempt_id, ordinal)
    for task_id in [*index.placed, *state.tasks]:
        place(memory, state, task_id, run, ordinal)
    memory.doubt_all(state)


def lose_track(memory: DiagnosisState, stream: str, now: float) -> None:
    """Events are missing: what a live task does is unknown until an event tells of it again.

    A loss on the request stream leaves the facts about the queue as they are.
    """
    index = memory.index
    for call in index.calls.values():
        call.lost = True
        index.count_overdue(call, False)
    for task_id, placed in index.placed.items():
        moves = placed.key != LOST and (stream != "request" or placed.bucket == "running")
        if moves:
            memory.cells.add(placed.cell, placed.key, -1, now)
            memory.cells.add(placed.cell, LOST, 1, now)
        if moves or (stream != "request" and not placed.lost):
            index.change(
                task_id,
                placed,
                LOST if moves else placed.key,
                placed.bucket,
                placed.execution_id,
                placed.lost or stream != "request",
            )
    memory.doubtful_meters[LOST] = None


def place(memory: DiagnosisState, state: State, task_id: str, run: RunInfo, ordinal: int) -> None:
    """Put one task where the state has it; `ordinal` is of the event that tells of it."""
    index = memory.index
    task = state.tasks.get(task_id)
    placed = index.placed.get(task_id)
    now = memory.time or 0.0
    if task is None:
        if placed is not None:
            if task_id in index.leaks.suspects:
                clear_suspect(memory, task_id)
            _orphan_calls(memory, state, placed.execution_id)
            index.remove(task_id, placed)
            memory.cells.add(placed.cell, placed.key, -1, now)
            memory.touched_groups[placed.group] = None
            memory.doubtful_resources[placed.request_resource] = None
        return
    bucket = BUCKETS[task.phase]
    if placed is not None and (
        placed.group != task.group
        or (task.request_resource or placed.request_resource) != placed.request_resource
    ):
        index.remove(task_id, placed)
        memory.cells.add(placed.cell, placed.key, -1, now)
        memory.touched_groups[placed.group] = None
        memory.doubtful_resources[placed.request_resource] = None
        placed = None
    if placed is None:
        request_resource = task.request_resource or request_resource_of(index, run, task)
        index.learn_group(task, request_resource)
        cell = cell_of(task.column, task.row_group)
        key = _key(memory, task, request_resource)
        placed = entry_of(cell, key, bucket, task.group, request_resource, task.execution_id)
        index.put(task_id, placed)
        _count_cell(memory, cell, key, now)
    else:
        if bucket == "queued":
            index.learn_group(task, placed.request_resource)
        key = _key(memory, task, placed.request_resource)
        changed = index.change(task_id, placed, key, bucket, task.execution_id)
        _change_key(memory, placed, changed, now)
        placed = changed
    index.hold(task_id, task)
    if task.result is not None and task.lease_id is not None:
        _suspect_task(memory, task, ordinal)
    elif task_id in index.leaks.suspects:
        clear_suspect(memory, task_id)
    memory.touched_groups[placed.group] = None
    memory.doubtful_resources[placed.request_resource] = None


def _follow_calls(memory: DiagnosisState, state: State, task_id: str) -> None:
    """No event told of the task itself, only of a call of its worker."""
    index = memory.index
    task, placed = state.tasks.get(task_id), index.placed[task_id]
    if task is not None:
        key = _key(memory, task, placed.request_resource)
        if key != placed.key:
            bucket, execution_id = placed.bucket, placed.execution_id
            changed = index.change(task_id, placed, key, bucket, execution_id, placed.lost)
            _change_key(memory, placed, changed, memory.time or 0.0)


def _change_key(memory: DiagnosisState, before: TaskEntry, changed: TaskEntry, now: float) -> None:
    """The task does something else from `now` on."""
    if changed.key != before.key:
        _count_cell(memory, changed.cell, changed.key, now)
        memory.cells.add(before.cell, before.key, -1, now)


def _count_cell(memory: DiagnosisState, cell: Cell, key: Key, now: float) -> None:
    if memory.cells.add(cell, key, 1, now):
        memory.doubtful_meters[key] = None


def _key(memory: DiagnosisState, task: Task, request_resource: str) -> Key:
    phase = task.phase
    if phase == "queued":
        return queued_key(task.group)
    if task.lease_id is not None and task.result is not None:
        suspect = memory.index.leaks.suspects.get(task.task_id)
        if suspect is not None and suspect.confirmed:
            return ("leaked", suspect.about)
    if phase == "ready" or phase == "selected":
        return ("ready", "")
    if phase == "deferred":
        return ("deferred", request_resource)
    if phase == "running":
        key = memory.index.call_key(task.execution_id)
        if key is not None:
            return key
        if request_resource and not memory.standing.attempts_seen:
            return ("assumed", request_resource)
    return OWN


def request_resource_of(index: LiveIndex, run: RunInfo, task: Task) -> str:
    known = index.request_of.get(task.group)
    if known is None:
        columns = (column for column in run.columns if column.name == task.column)
        column = next(columns, None)
        known = "" if column is None else column.request_resource or ""
        index.request_of[task.group] = known
    return known


def _take_call(memory: DiagnosisState, state: State, attempt_id: str, ordinal: int) -> Call | None:
    """Put one request attempt where the state has it."""
    index = memory.index
    attempt = state.attempts.get(attempt_id)
    if attempt is None:
        if index.leaks.suspects:
            clear_suspect(memory, CALL + attempt_id)
        call = index.forget_call(attempt_id)
        if call is not None:
            index.count_overdue(call, False)
        return call
    call = index.observe(attempt_id, attempt, ordinal)
    if attempt.phase == "in_provider":
        watch = memory.stalls.watch(call.resource)
        if not watch.slow_timer:
            expect_slow(memory, call.resource)
    else:
        if call.overdue:
            index.count_overdue(call, False)
        if attempt.phase == "returned" and attempt.released_at is None:
            _suspect_call(memory, state, attempt_id)
    return call


def _suspect_task(memory: DiagnosisState, task: Task, ordinal: int) -> None:
    """The task has ended and holds its lease still."""
    suspects = memory.index.leaks.suspects
    if task.task_id not in suspects:
        since, acquired_at = memory.time or 0.0, task.acquired_at or task.since
        evidence = [task.acquired_ordinal or 0, ordinal]
        suspects[task.task_id] = Suspect(
            dict(task.resources), task.group, since, acquired_at, evidence
        )
        memory.set_timer(since + LEAK_AFTER, "leak", task.task_id)


def _suspect_call(memory: DiagnosisState, state: State, attempt_id: str) -> None:
    """The call is over, or whoever made it is, and its lease is held still."""
    suspects = memory.index.leaks.suspects
    attempt = state.attempts[attempt_id]
    if CALL + attempt_id not in suspects and attempt.lease_id is not None:
        since = memory.time or 0.0
        suspects[CALL + attempt_id] = Suspect(
            {attempt.resource: 1},
            attempt.column or attempt.resource,
            since,
            attempt.acquired_at or attempt.since,
            [attempt.first_ordinal, memory.ordinal],
        )
        memory.set_timer(since + LEAK_AFTER, "leak", CALL + attempt_id)


def _orphan_calls(memory: DiagnosisState, state: State, execution_id: str | None) -> None:
    for attempt_id in memory.index.calls_of.get(execution_id or "", ()):
        if attempt_id in state.attempts:
            _suspect_call(memory, state, attempt_id)


def clear_suspect(memory: DiagnosisState, subject: str) -> None:
    """What was held after its owner's end is given back."""
    cleared = memory.index.leaks.clear(subject)
    if cleared is None:
        return
    suspect, leak = cleared
    doubt_leaked(memory, suspect)
    if leak is not None:
        tell_leak(memory, suspect.about, leak)


def tell_leak(memory: DiagnosisState, about: str, leak: Leak) -> None:
    now = memory.time or 0.0
    memory.stalls.emit(leak.facts(now), about, leak.since, now)
