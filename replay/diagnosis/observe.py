"""What an event changes: who is where, and which blames must be looked at again."""

from __future__ import annotations

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.diagnosis.cell import Key
from replay.diagnosis.division import queued_key
from replay.diagnosis.memory import Memory
from replay.diagnosis.population import BUCKETS, Call, Placed
from replay.diagnosis.trailing import CALLS_NEEDED
from replay.state import State, Task

OWN: Key = ("own", "")
LOST: Key = ("lost", "")

_QUIET = frozenset(
    {
        "model_request_started",
        "model_request_completed",
        "request_queue_formed",
        "request_queue_drained",
        "request_wait_completed",
        "request_release_diagnostic",
    }
)
"""These change neither a ceiling nor what counts against it."""
_RESOURCE_ENDS = frozenset({"model_request_completed", "request_lease_released"})


def observe(memory: Memory, state: State, event: Event, ordinal: int, run: RunInfo) -> None:
    """Take over the state after `event`, at `memory.time`."""
    if isinstance(event, SchedulerEvent):
        _scheduler(memory, state, event, ordinal, run)
    else:
        _request(memory, state, event, ordinal, run)
    population = memory.population
    if len(state.tasks) != len(population.placed) or len(state.attempts) != len(population.calls):
        resync(memory, state, ordinal, run)


def resync(memory: Memory, state: State, ordinal: int, run: RunInfo) -> None:
    """Take over the whole state, where it did not change event by event."""
    population = memory.population
    for attempt_id in [one for one in population.calls if one not in state.attempts]:
        _forget_call(memory, attempt_id, ordinal)
    for attempt_id, attempt in state.attempts.items():
        population.observe(attempt_id, attempt, ordinal)
    for task_id in [*population.placed, *state.tasks]:
        place(memory, state, task_id, ordinal, run)
    memory.doubt_all(state)


def lose_track(memory: Memory, stream: str, now: float) -> None:
    """Events are missing: what a live task does is unknown until an event tells of it again.

    A loss on the request stream leaves the facts about the queue as they are.
    """
    population = memory.population
    for call in population.calls.values():
        call.due = None
        population.count_overdue(call, False)
    for placed in population.placed.values():
        if placed.key != LOST and (stream != "request" or placed.bucket == "running"):
            memory.cells.add(placed.cell, placed.key, -1, now)
            placed.key = LOST
            memory.cells.add(placed.cell, LOST, 1, now)
    memory.doubtful_meters[LOST] = None


def place(memory: Memory, state: State, task_id: str, ordinal: int, run: RunInfo) -> None:
    """Put one task where the state has it."""
    population = memory.population
    task = state.tasks.get(task_id)
    old = population.placed.get(task_id)
    if task is None and old is None:
        return
    new = None
    if task is not None:
        request_resource = task.request_resource or _request_resource(memory, run, task)
        population.learn_group(task, request_resource)
        new = Placed(
            (task.column, task.row_group),
            _key(memory, run, task, request_resource),
            BUCKETS[task.phase],
            task.group,
            request_resource,
            task.execution_id,
        )
    population.put(task_id, new)
    _move(memory, old, new)
    for placed in (old, new):
        if placed is not None and (placed is old or old is None or old.group != placed.group):
            memory.doubtful_resources[placed.request_resource] = None
            population.hold(task_id, task, placed.group, ordinal)
            _group_changed(memory, state, placed.group)


def shift(memory: Memory, state: State, execution_id: str | None, run: RunInfo) -> None:
    """A call of this execution changed: its task may do something else now."""
    task_id = memory.population.executions.get(execution_id or "")
    task = state.tasks.get(task_id or "")
    placed = memory.population.placed.get(task_id or "")
    if task is not None and placed is not None and task.phase == "running":
        key = _key(memory, run, task, placed.request_resource)
        if key != placed.key:
            was = placed.key
            placed.key = key
            if memory.cells.add(placed.cell, key, 1, memory.time or 0.0):
                memory.doubtful_meters[key] = None
            memory.cells.add(placed.cell, was, -1, memory.time or 0.0)


def _move(memory: Memory, old: Placed | None, new: Placed | None) -> None:
    now = memory.time or 0.0
    if old is not None and new is not None and old.key == new.key and old.cell == new.cell:
        return
    if new is not None and memory.cells.add(new.cell, new.key, 1, now):
        memory.doubtful_meters[new.key] = None
    if old is not None:
        memory.cells.add(old.cell, old.key, -1, now)


def _key(memory: Memory, run: RunInfo, task: Task, request_resource: str) -> Key:
    phase = task.phase
    if phase == "queued":
        return queued_key(task.group)
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


def _request_resource(memory: Memory, run: RunInfo, task: Task) -> str:
    known = memory.population.request_of.get(task.group)
    if known is not None:
        return known
    for column in run.columns:
        if column.name == task.column:
            return column.request_resource or ""
    return ""


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
        level = max(0, min(free, memory.population.most.get(resource, 1)))
        if shifted or memory.levels.get(resource) != level:
            memory.levels[resource] = level
            memory.doubt_queued(resource)


def _scheduler(
    memory: Memory, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    kind = event.event_kind
    memory.doubtful_resources[""] = None
    if event.task_id is not None:
        place(memory, state, event.task_id, ordinal, run)
        if kind == "task_lease_acquired":
            memory.stalls.admitted("", memory.time or 0.0, ordinal)
            memory.doubtful_meters.update(memory.capped)
            memory.capped = {}
        if not memory.standing.attempts_seen:
            _stand_in(memory, state, event, event.task_id, ordinal)
    elif kind == "row_group_checkpoint_started" or kind == "row_group_checkpointed":
        row_group = str(event.diagnostics.get("row_group"))
        if kind == "row_group_checkpoint_started":
            memory.standing.checkpointing[row_group] = None
        else:
            memory.standing.checkpointing.pop(row_group, None)
    elif kind == "scheduler_health_snapshot":
        if event.snapshot is not None and "tasks" in event.snapshot:
            resync(memory, state, ordinal, run)
        else:
            memory.doubt_all(state)
    elif kind == "group_capped" or kind == "admission_blocked":
        for key in memory.capped:
            memory.doubtful_meters[key] = None
        memory.capped = {}
        for group, denial in state.block.groups.items() if state.block is not None else ():
            if denial == "group_cap":
                memory.capped[queued_key(group)] = None
                memory.doubtful_meters[queued_key(group)] = None
    elif kind == "scheduler_job_started" or kind == "scheduler_job_completed":
        memory.doubt_all(state)


def _stand_in(
    memory: Memory, state: State, event: SchedulerEvent, task_id: str, ordinal: int
) -> None:
    """Where no calls are told of, task leases and completions say what is let out and succeeds."""
    task = state.tasks.get(task_id)
    placed = memory.population.placed.get(task_id)
    if task is None or placed is None or not placed.request_resource:
        return
    now = memory.time or 0.0
    resource = placed.request_resource
    if event.event_kind == "task_lease_acquired":
        memory.stalls.admitted(resource, now, ordinal)
    elif event.event_kind == "task_completed" and task.result == "completed":
        memory.stalls.succeeded(resource, task.acquired_at or now, now)


def _request(memory: Memory, state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    resource = event.request_resource_key.label if event.request_resource_key else None
    if event.request_attempt_id is not None:
        call = _attempt(memory, state, event, event.request_attempt_id, ordinal, run)
        if call is not None:
            resource = call.resource
    if resource is None or resource not in state.ceilings:
        return
    now = memory.time or 0.0
    ceiling = state.ceilings[resource]
    kind = event.event_kind
    if kind == "request_lease_acquired":
        memory.stalls.admitted(resource, now, ordinal)
    elif kind == "request_rate_limited":
        until = ceiling.blocked_until
        memory.stalls.rate_limited(resource, now, ordinal, until if until is not None else now)
    elif kind == "request_limit_decreased":
        memory.stalls.limit_cut(resource, ordinal)
    elif (
        kind == "request_wait_started"
        and ceiling.waiters == 1
        and event.diagnostics.get("reason") != "none"
    ):
        memory.stalls.waiting_began(resource, ordinal)
    if kind in _QUIET and event.pressure_snapshot is None:
        return
    if kind == "request_resource_registered" or kind == "request_effective_cap_changed":
        memory.doubtful_resources[""] = None
    siblings = memory.siblings.setdefault(ceiling.provider_model, {})
    siblings[resource] = None
    for sibling in siblings:
        memory.doubtful_resources[sibling] = None
        memory.doubtful_meters[("waiting", sibling)] = None
    _follow_cooldown(memory, state, resource, now)


def _follow_cooldown(memory: Memory, state: State, resource: str, now: float) -> None:
    watch = memory.stalls.watch(resource)
    until = state.ceilings[resource].blocked_until
    if until == watch.cooling_until:
        return
    watch.cooling_until = until
    doubt_cooling(memory, resource)
    if until is not None and until > now:
        memory.set_timer(until, "cooldown", resource)
        if not memory.standing.attempts_seen:
            memory.stalls.cooldown_seen(resource, now, memory.ordinal, until)


def doubt_cooling(memory: Memory, resource: str) -> None:
    """A cooldown began, moved or ended: doubt all that waits for this request resource."""
    memory.doubtful_resources[resource] = None
    memory.doubtful_meters[("waiting", resource)] = None
    memory.doubtful_meters[("assumed", resource)] = None
    for group in memory.population.queued_for.get(resource, ()):
        memory.doubtful_meters[queued_key(group)] = None


def follow_cooldowns(memory: Memory, state: State, now: float) -> None:
    """Cooldowns that a snapshot tells of, where no request event does."""
    for resource in state.ceilings:
        _follow_cooldown(memory, state, resource, now)


def _attempt(
    memory: Memory,
    state: State,
    event: RequestEvent,
    attempt_id: str,
    ordinal: int,
    run: RunInfo,
) -> Call | None:
    population = memory.population
    attempt = state.attempts.get(attempt_id)
    known = population.calls.get(attempt_id)
    was = known.phase if known is not None else None
    if attempt is None:
        call = _forget_call(memory, attempt_id, ordinal)
    else:
        call = population.observe(attempt_id, attempt, ordinal)
    if call is None:
        return None
    if event.event_kind in _RESOURCE_ENDS:
        _sample(memory, event, call)
    if attempt is not None and attempt.phase == "in_provider" and was != "in_provider":
        allowance = memory.stalls.watch(call.resource).times.allowance
        if allowance is not None and call.started_at is not None:
            expect(memory, attempt_id, call, call.started_at + allowance)
    elif call.overdue and (attempt is None or attempt.phase != "in_provider"):
        population.count_overdue(call, False)
        memory.doubtful_resources[call.resource] = None
    if not memory.standing.attempts_seen and call.execution_id is not None:
        memory.standing.attempts_seen = True
        resync(memory, state, ordinal, run)
    shift(memory, state, call.execution_id, run)
    return call


def _forget_call(memory: Memory, attempt_id: str, ordinal: int) -> Call | None:
    call = memory.population.observe(attempt_id, None, ordinal)
    if call is not None:
        memory.population.count_overdue(call, False)
        memory.doubtful_resources[call.resource] = None
    return call


def expect(memory: Memory, attempt_id: str, call: Call, due: float) -> None:
    """From `due` on this call is slow."""
    call.due = due
    memory.set_timer(due, "overdue", attempt_id)


def _sample(memory: Memory, event: RequestEvent, call: Call) -> None:
    """Learn from a call that succeeded: how long calls take, and that a storm is over."""
    outcome = event.reason_or_outcome or event.diagnostics.get("outcome")
    if outcome != "success" or call.sampled or call.started_at is None:
        return
    call.sampled = True
    now = memory.time or 0.0
    watch = memory.stalls.watch(call.resource)
    duration = event.diagnostics.get("duration_seconds")
    if not isinstance(duration, int | float):
        duration = max(0.0, now - call.started_at)
    watch.times.durations.add(float(duration))
    acquired_at = call.acquired_at if call.acquired_at is not None else call.started_at
    memory.stalls.succeeded(call.resource, acquired_at, now)
    allowance = watch.times.allowance
    if allowance is not None and len(watch.times.durations.arrived) == CALLS_NEEDED:
        for attempt_id in memory.population.requests.get(call.resource, ()):
            other = memory.population.calls.get(attempt_id)
            if (
                other is not None
                and other.phase == "in_provider"
                and other.due is None
                and other.started_at is not None
            ):
                expect(memory, attempt_id, other, max(now, other.started_at + allowance))
