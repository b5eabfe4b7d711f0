"""What an event changes: who is where, and which blames must be looked at again."""

from __future__ import annotations

from collections.abc import Callable

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.diagnosis.cell import Key
from replay.diagnosis.division import queued_key
from replay.diagnosis.leaks import CALL, LEAK_AFTER, Leak, Suspect
from replay.diagnosis.memory import Memory
from replay.diagnosis.population import BUCKETS, Call, Placed, Population
from replay.diagnosis.trailing import CALLS_NEEDED
from replay.payload import number
from replay.state import State, Task

OWN: Key = ("own", "")
LOST: Key = ("lost", "")


def observe(memory: Memory, state: State, event: Event, ordinal: int, run: RunInfo) -> None:
    """Note what `event` changed; `take_over` looks at it once, when the instant ends."""
    if type(event) is SchedulerEvent:
        task_id = event.task_id
        if task_id is None:
            memory.doubtful_resources[""] = None
        else:
            memory.touched_tasks[task_id] = ordinal
        fact = _SCHEDULER_FACTS.get(event.event_kind)
        if fact is not None:
            fact(memory, state, event, ordinal, run)
    elif type(event) is RequestEvent:
        attempt_id = event.request_attempt_id
        if attempt_id is not None:
            memory.touched_calls[attempt_id] = ordinal
        request_fact = _REQUEST_FACTS.get(event.event_kind)
        if request_fact is not None:
            request_fact(memory, state, event, ordinal)
        if event.pressure_snapshot is not None:
            _touch_resource(memory, state, event)


def take_over(memory: Memory, state: State, run: RunInfo) -> None:
    """Put all that the events of this instant told of where the state has it now."""
    population = memory.population
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
            task_id = population.executions.get(execution_id)
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
    if len(state.tasks) != len(population.placed) or len(state.attempts) != len(population.calls):
        resync(memory, state, run)
    if memory.touched_groups:
        for group in memory.touched_groups:
            _group_changed(memory, state, group)
        memory.touched_groups = {}
    if memory.touched_resources:
        for resource in memory.touched_resources:
            _resource_changed(memory, state, resource)
        memory.touched_resources = {}


def resync(memory: Memory, state: State, run: RunInfo) -> None:
    """Take over the whole state, where it did not change event by event."""
    population = memory.population
    ordinal = memory.ordinal
    for attempt_id in [one for one in population.calls if one not in state.attempts]:
        _take_call(memory, state, attempt_id, ordinal)
    for attempt_id in state.attempts:
        _take_call(memory, state, attempt_id, ordinal)
    for task_id in [*population.placed, *state.tasks]:
        place(memory, state, task_id, run, ordinal)
    memory.doubt_all(state)


def lose_track(memory: Memory, stream: str, now: float) -> None:
    """Events are missing: what a live task does is unknown until an event tells of it again.

    A loss on the request stream leaves the facts about the queue as they are.
    """
    population = memory.population
    for call in population.calls.values():
        call.lost = True
        population.count_overdue(call, False)
    for placed in population.placed.values():
        if placed.key != LOST and (stream != "request" or placed.bucket == "running"):
            memory.cells.add(placed.cell, placed.key, -1, now)
            placed.key = LOST
            memory.cells.add(placed.cell, LOST, 1, now)
    memory.doubtful_meters[LOST] = None


def place(memory: Memory, state: State, task_id: str, run: RunInfo, ordinal: int) -> None:
    """Put one task where the state has it; `ordinal` is of the event that tells of it."""
    population = memory.population
    task = state.tasks.get(task_id)
    placed = population.placed.get(task_id)
    now = memory.time or 0.0
    if task is None:
        if placed is not None:
            if task_id in population.leaks.suspects:
                clear_suspect(memory, task_id)
            _orphan_calls(memory, state, placed.execution_id)
            population.remove(task_id, placed)
            memory.cells.add(placed.cell, placed.key, -1, now)
            memory.touched_groups[placed.group] = None
            memory.doubtful_resources[placed.request_resource] = None
        return
    bucket = BUCKETS[task.phase]
    if placed is not None and (
        placed.group != task.group
        or (task.request_resource or placed.request_resource) != placed.request_resource
    ):
        population.remove(task_id, placed)
        memory.cells.add(placed.cell, placed.key, -1, now)
        memory.touched_groups[placed.group] = None
        memory.doubtful_resources[placed.request_resource] = None
        placed = None
    if placed is None:
        request_resource = task.request_resource or _request_resource(population, run, task)
        population.learn_group(task, request_resource)
        cell = (task.column, task.row_group)
        placed = Placed(cell, LOST, bucket, task.group, request_resource, task.execution_id)
        population.put(task_id, placed)
        _change_key(memory, placed, _key(memory, task, request_resource), now, 0)
    else:
        if bucket == "queued":
            population.learn_group(task, placed.request_resource)
        if placed.bucket != bucket or placed.execution_id != task.execution_id:
            population.move(task_id, placed, bucket, task.execution_id)
        key = _key(memory, task, placed.request_resource)
        if key != placed.key:
            _change_key(memory, placed, key, now, -1)
    population.hold(task_id, task)
    if task.result is not None and task.lease_id is not None:
        _suspect_task(memory, task, ordinal)
    elif task_id in population.leaks.suspects:
        clear_suspect(memory, task_id)
    memory.touched_groups[placed.group] = None
    memory.doubtful_resources[placed.request_resource] = None


def _follow_calls(memory: Memory, state: State, task_id: str) -> None:
    """No event told of the task itself, only of a call of its worker."""
    task, placed = state.tasks.get(task_id), memory.population.placed[task_id]
    if task is not None:
        key = _key(memory, task, placed.request_resource)
        if key != placed.key:
            _change_key(memory, placed, key, memory.time or 0.0, -1)


def _change_key(memory: Memory, placed: Placed, key: Key, now: float, before: int) -> None:
    """The task does something else from `now` on; `before` is -1 where it counted already."""
    was, placed.key = placed.key, key
    if memory.cells.add(placed.cell, key, 1, now):
        memory.doubtful_meters[key] = None
    if before:
        memory.cells.add(placed.cell, was, before, now)


def _key(memory: Memory, task: Task, request_resource: str) -> Key:
    phase = task.phase
    if phase == "queued":
        return queued_key(task.group)
    if task.lease_id is not None and task.result is not None:
        suspect = memory.population.leaks.suspects.get(task.task_id)
        if suspect is not None and suspect.confirmed:
            return ("leaked", suspect.about)
    if phase == "ready" or phase == "selected":
        return ("ready", "")
    if phase == "deferred":
        return ("deferred", request_resource)
    if phase == "running":
        key = memory.population.call_key(task.execution_id)
        if key is not None:
            return key
        if request_resource and not memory.standing.attempts_seen:
            return ("assumed", request_resource)
    return OWN


def _request_resource(population: Population, run: RunInfo, task: Task) -> str:
    known = population.request_of.get(task.group)
    if known is None:
        columns = (column for column in run.columns if column.name == task.column)
        column = next(columns, None)
        known = "" if column is None else column.request_resource or ""
        population.request_of[task.group] = known
    return known


def _group_changed(memory: Memory, state: State, key: str) -> None:
    """Doubt what the queue of this group, and of those it competes with, waits for."""
    group = state.groups.get(key)
    needs = memory.population.needs.get(key, {})
    memory.doubtful_meters[queued_key(key)] = None
    presence = (group is not None and group.queued > 0, group is not None and group.leased > 0)
    shifted = memory.presence.get(key) != presence
    memory.presence[key] = presence
    for resource in needs:
        free = state.limits.get(resource, 0) - state.leased.get(resource, 0)
        level = min(free, memory.population.most.get(resource, 1))
        if shifted or memory.levels.get(resource) != level:
            memory.levels[resource] = level
            memory.doubt_queued(resource)


def _task_leased(
    memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    memory.stalls.admitted("", memory.time or 0.0, ordinal)
    memory.end_wakeup("")
    memory.doubtful_meters.update(memory.capped)
    if not memory.standing.attempts_seen:
        _stand_in(memory, state, event, ordinal, run)


def _stand_in(
    memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    """Where no calls are told of, task leases and completions say what is let out and succeeds."""
    task = state.tasks.get(event.task_id or "")
    if task is None:
        return
    resource = task.request_resource or _request_resource(memory.population, run, task)
    now = memory.time or 0.0
    if not resource or memory.standing.attempts_seen:
        return
    if event.event_kind == "task_lease_acquired":
        memory.stalls.admitted(resource, now, ordinal)
    elif event.event_kind == "task_completed" and task.result == "completed":
        memory.stalls.succeeded(resource, task.acquired_at or now, now)


def _heartbeat(
    memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    period = number(event.diagnostics.get("period"))
    memory.heartbeat_due = None if period is None else event.captured_at_monotonic + period


def _checkpoint(
    memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    row_group = str(event.diagnostics.get("row_group"))
    if event.event_kind == "row_group_checkpoint_started":
        memory.standing.checkpointing[row_group] = None
    else:
        memory.standing.checkpointing.pop(row_group, None)


def _snapshot(
    memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    if event.snapshot is not None and "tasks" in event.snapshot:
        resync(memory, state, run)
        for call in memory.population.calls.values():
            call.lost = False
    else:
        memory.doubt_all(state)
    for resource in state.ceilings:
        _follow_cooldown(memory, state, resource, memory.time or 0.0)


def _blocked(
    memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    for key in memory.capped:
        memory.doubtful_meters[key] = None
    memory.capped = {}
    for group, denial in state.block.groups.items() if state.block is not None else ():
        if denial != "no_capacity":
            memory.capped[queued_key(group)] = None
            memory.doubtful_meters[queued_key(group)] = None


def _job(memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    memory.doubt_all(state)


_SCHEDULER_FACTS: dict[str, Callable[[Memory, State, SchedulerEvent, int, RunInfo], None]] = {
    "task_lease_acquired": _task_leased,
    "task_completed": _stand_in,
    "row_group_checkpoint_started": _checkpoint,
    "row_group_checkpointed": _checkpoint,
    "scheduler_health_snapshot": _snapshot,
    "group_capped": _blocked,
    "queue_empty": _blocked,
    "queue_drained": _blocked,
    "admission_blocked": _blocked,
    "scheduler_loop_heartbeat": _heartbeat,
    "scheduler_job_started": _job,
    "scheduler_job_completed": _job,
}


def _touch_resource(memory: Memory, state: State, event: RequestEvent) -> str | None:
    """Label of the event's resource, to be looked at again; None where the state has none."""
    resource = event.request_resource_key.label if event.request_resource_key else None
    if resource is None or resource not in state.ceilings:
        return None
    memory.touched_resources[resource] = None
    return resource


def _request_leased(memory: Memory, state: State, event: RequestEvent, ordinal: int) -> None:
    attempt = state.attempts.get(event.request_attempt_id or "")
    if attempt is not None:
        memory.stalls.admitted(attempt.resource, memory.time or 0.0, ordinal)
        memory.end_wakeup(attempt.resource)


def _rate_limited(memory: Memory, state: State, event: RequestEvent, ordinal: int) -> None:
    resource = _touch_resource(memory, state, event)
    if resource is not None:
        now = memory.time or 0.0
        until = state.ceilings[resource].blocked_until
        memory.stalls.rate_limited(resource, now, ordinal, until if until is not None else now)


def _limit_cut(memory: Memory, state: State, event: RequestEvent, ordinal: int) -> None:
    resource = _touch_resource(memory, state, event)
    if resource is not None:
        memory.stalls.limit_cut(resource, ordinal)


def _wait_started(memory: Memory, state: State, event: RequestEvent, ordinal: int) -> None:
    if event.diagnostics.get("reason") == "none":
        return
    resource = _touch_resource(memory, state, event)
    if resource is not None and state.ceilings[resource].waiters == 1:
        memory.stalls.waiting_began(resource, ordinal)


def _resource_told(memory: Memory, state: State, event: RequestEvent, ordinal: int) -> None:
    _touch_resource(memory, state, event)
    memory.doubtful_resources[""] = None


def _call_ended(memory: Memory, state: State, event: RequestEvent, ordinal: int) -> None:
    """Learn from a call that succeeded: how long calls take, and that a storm is over."""
    attempt_id = event.request_attempt_id or ""
    attempt = state.attempts.get(attempt_id)
    if attempt is None:
        if attempt_id not in memory.population.calls:
            _touch_resource(memory, state, event)
        return
    outcome = event.reason_or_outcome or event.diagnostics.get("outcome")
    if outcome != "success" or attempt.started_at is None:
        return
    now = memory.time or 0.0
    watch = memory.stalls.watch(attempt.resource)
    duration = event.diagnostics.get("duration_seconds")
    if not isinstance(duration, int | float):
        duration = max(0.0, event.captured_at_monotonic - attempt.started_at)
    watch.times.durations.add(float(duration))
    acquired_at = attempt.acquired_at if attempt.acquired_at is not None else attempt.started_at
    memory.stalls.succeeded(attempt.resource, acquired_at, now)
    if len(watch.times.durations.arrived) == CALLS_NEEDED:
        expect_slow(memory, attempt.resource)


_REQUEST_FACTS: dict[str, Callable[[Memory, State, RequestEvent, int], None]] = {
    "request_resource_registered": _resource_told,
    "request_effective_cap_changed": _resource_told,
    "request_wait_started": _wait_started,
    "request_wait_reason_changed": _resource_told,
    "request_wait_timeout": _resource_told,
    "request_wait_cancelled": _resource_told,
    "request_acquire_denied": _resource_told,
    "request_lease_acquired": _request_leased,
    "model_request_completed": _call_ended,
    "request_rate_limited": _rate_limited,
    "request_limit_decreased": _limit_cut,
    "request_limit_increased": _resource_told,
    "request_soft_ceiling_recovered": _resource_told,
    "request_fully_recovered": _resource_told,
    "request_lease_released": _call_ended,
}


def _resource_changed(memory: Memory, state: State, resource: str) -> None:
    """Doubt the resource and those it shares its static cap with."""
    ceiling = state.ceilings.get(resource)
    if ceiling is None:
        return
    siblings = memory.siblings.setdefault(ceiling.provider_model, {})
    siblings[resource] = None
    for sibling in siblings:
        memory.doubtful_resources[sibling] = None
        memory.doubtful_meters[("waiting", sibling)] = None
    _follow_cooldown(memory, state, resource, memory.time or 0.0)


def _follow_cooldown(memory: Memory, state: State, resource: str, now: float) -> None:
    watch = memory.stalls.watch(resource)
    until = state.ceilings[resource].blocked_until
    before, watch.looked_at = watch.looked_at, now
    if until == watch.cooling_until:
        return
    watch.cooling_until = until
    doubt_cooling(memory, resource)
    if until is not None and until > now:
        memory.set_timer(until, "cooldown", resource)
        if not memory.standing.attempts_seen:
            before = now if before is None else before
            memory.stalls.cooldown_seen(resource, now, memory.ordinal, until, before)


def doubt_cooling(memory: Memory, resource: str) -> None:
    """A cooldown began, moved or ended: doubt all that waits for this request resource."""
    memory.doubtful_resources[resource] = None
    memory.doubtful_meters[("waiting", resource)] = None
    memory.doubtful_meters[("assumed", resource)] = None
    for group in memory.population.queued_for.get(resource, ()):
        memory.doubtful_meters[queued_key(group)] = None


def _take_call(memory: Memory, state: State, attempt_id: str, ordinal: int) -> Call | None:
    """Put one request attempt where the state has it."""
    population = memory.population
    attempt = state.attempts.get(attempt_id)
    if attempt is None:
        if population.leaks.suspects:
            clear_suspect(memory, CALL + attempt_id)
        call = population.forget_call(attempt_id)
        if call is not None:
            population.count_overdue(call, False)
        return call
    call = population.observe(attempt_id, attempt, ordinal)
    if attempt.phase == "in_provider":
        watch = memory.stalls.watch(call.resource)
        if not watch.slow_timer:
            expect_slow(memory, call.resource)
    else:
        if call.overdue:
            population.count_overdue(call, False)
        if attempt.phase == "returned" and attempt.released_at is None:
            _suspect_call(memory, state, attempt_id)
    return call


def _suspect_task(memory: Memory, task: Task, ordinal: int) -> None:
    """The task has ended and holds its lease still."""
    suspects = memory.population.leaks.suspects
    if task.task_id not in suspects:
        since, acquired_at = memory.time or 0.0, task.acquired_at or task.since
        evidence = [task.acquired_ordinal or 0, ordinal]
        suspects[task.task_id] = Suspect(
            dict(task.resources), task.group, since, acquired_at, evidence
        )
        memory.set_timer(since + LEAK_AFTER, "leak", task.task_id)


def _suspect_call(memory: Memory, state: State, attempt_id: str) -> None:
    """The call is over, or whoever made it is, and its lease is held still."""
    suspects = memory.population.leaks.suspects
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


def _orphan_calls(memory: Memory, state: State, execution_id: str | None) -> None:
    for attempt_id in memory.population.calls_of.get(execution_id or "", ()):
        if attempt_id in state.attempts:
            _suspect_call(memory, state, attempt_id)


def clear_suspect(memory: Memory, subject: str) -> None:
    """What was held after its owner's end is given back."""
    cleared = memory.population.leaks.clear(subject)
    if cleared is None:
        return
    suspect, leak = cleared
    doubt_leaked(memory, suspect)
    if leak is not None:
        tell_leak(memory, suspect.about, leak)


def doubt_leaked(memory: Memory, suspect: Suspect) -> None:
    for resource in suspect.resources:
        memory.doubt_queued(resource)
        memory.doubtful_resources[resource] = None
        memory.doubtful_meters[("waiting", resource)] = None
    memory.doubtful_resources[""] = None


def tell_leak(memory: Memory, about: str, leak: Leak) -> None:
    now = memory.time or 0.0
    memory.stalls.emit(("leaked_lease", about), leak.since, now, *leak.told(now))


def expect_slow(memory: Memory, resource: str) -> None:
    """Have the oldest calls of this resource looked at when the next one becomes slow."""
    watch = memory.stalls.watch(resource)
    allowance = watch.times.allowance
    if allowance is None or watch.slow_timer:
        return
    population = memory.population
    for attempt_id in population.requests.get(resource, ()):
        call = population.calls[attempt_id]
        if call.phase != "in_provider" or call.overdue or call.lost:
            continue
        if call.started_at is not None:
            watch.slow_timer = True
            memory.set_timer(call.started_at + allowance, "overdue", resource)
            return
