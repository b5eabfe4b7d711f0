"""What an event tells beyond where its task or call is: one function for each kind that does."""

from __future__ import annotations

from collections.abc import Callable

from engine.events import RequestEvent, RunInfo, SchedulerEvent
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.index_sync import request_resource_of, resync
from replay.diagnosis.invalidation import expect_slow, follow_cooldown
from replay.diagnosis.rolling_stats import CALLS_NEEDED
from replay.diagnosis.slot_division import queued_key
from replay.state.model import State
from replay.state.payload import number


def _task_leased(
    memory: DiagnosisState, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    memory.stalls.admitted("", memory.time or 0.0, ordinal)
    memory.end_wakeup("")
    memory.doubtful_meters.update(memory.capped)
    if not memory.standing.attempts_seen:
        _stand_in(memory, state, event, ordinal, run)


def _stand_in(
    memory: DiagnosisState, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    """Where no calls are told of, task leases and completions say what is let out and succeeds."""
    task = state.tasks.get(event.task_id or "")
    if task is None:
        return
    resource = task.request_resource or request_resource_of(memory.index, run, task)
    now = memory.time or 0.0
    if not resource or memory.standing.attempts_seen:
        return
    if event.event_kind == "task_lease_acquired":
        memory.stalls.admitted(resource, now, ordinal)
    elif event.event_kind == "task_completed" and task.result == "completed":
        memory.stalls.succeeded(resource, task.acquired_at or now, now)


def _heartbeat(
    memory: DiagnosisState, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    period = number(event.diagnostics.get("period"))
    memory.heartbeat_due = None if period is None else event.captured_at_monotonic + period


def _checkpoint(
    memory: DiagnosisState, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    row_group = str(event.diagnostics.get("row_group"))
    if event.event_kind == "row_group_checkpoint_started":
        memory.standing.checkpointing[row_group] = None
    else:
        memory.standing.checkpointing.pop(row_group, None)


def _snapshot(
    memory: DiagnosisState, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    if event.snapshot is not None and "tasks" in event.snapshot:
        resync(memory, state, run)
        for call in memory.index.calls.values():
            call.lost = False
    else:
        memory.doubt_all(state)
    for resource in state.ceilings:
        follow_cooldown(memory, state, resource, memory.time or 0.0)


def _blocked(
    memory: DiagnosisState, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    for key in memory.capped:
        memory.doubtful_meters[key] = None
    memory.capped = {}
    for group, denial in state.block.groups.items() if state.block is not None else ():
        if denial != "no_capacity":
            memory.capped[queued_key(group)] = None
            memory.doubtful_meters[queued_key(group)] = None


def _job(
    memory: DiagnosisState, state: State, event: SchedulerEvent, ordinal: int, run: RunInfo
) -> None:
    memory.doubt_all(state)


SCHEDULER_FACTS: dict[
    str, Callable[[DiagnosisState, State, SchedulerEvent, int, RunInfo], None]
] = {
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


def touch_resource(memory: DiagnosisState, state: State, event: RequestEvent) -> str | None:
    """Label of the event's resource, to be looked at again; None where the state has none."""
    resource = event.request_resource_key.label if event.request_resource_key else None
    if resource is None or resource not in state.ceilings:
        return None
    memory.touched_resources[resource] = None
    return resource


def _request_leased(
    memory: DiagnosisState, state: State, event: RequestEvent, ordinal: int
) -> None:
    attempt = state.attempts.get(event.request_attempt_id or "")
    if attempt is not None:
        memory.stalls.admitted(attempt.resource, memory.time or 0.0, ordinal)
        memory.end_wakeup(attempt.resource)


def _rate_limited(memory: DiagnosisState, state: State, event: RequestEvent, ordinal: int) -> None:
    resource = touch_resource(memory, state, event)
    if resource is not None:
        now = memory.time or 0.0
        until = state.ceilings[resource].blocked_until
        memory.stalls.rate_limited(resource, now, ordinal, until if until is not None else now)


def _limit_cut(memory: DiagnosisState, state: State, event: RequestEvent, ordinal: int) -> None:
    resource = touch_resource(memory, state, event)
    if resource is not None:
        memory.stalls.limit_cut(resource, ordinal)


def _wait_started(memory: DiagnosisState, state: State, event: RequestEvent, ordinal: int) -> None:
    if event.diagnostics.get("reason") == "none":
        return
    resource = touch_resource(memory, state, event)
    if resource is not None and state.ceilings[resource].waiters == 1:
        memory.stalls.waiting_began(resource, ordinal)


def _resource_told(memory: DiagnosisState, state: State, event: RequestEvent, ordinal: int) -> None:
    touch_resource(memory, state, event)
    memory.doubtful_resources[""] = None


def _call_ended(memory: DiagnosisState, state: State, event: RequestEvent, ordinal: int) -> None:
    """Learn from a call that succeeded: how long calls take, and that a storm is over."""
    attempt_id = event.request_attempt_id or ""
    attempt = state.attempts.get(attempt_id)
    if attempt is None:
        if attempt_id not in memory.index.calls:
            touch_resource(memory, state, event)
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


REQUEST_FACTS: dict[str, Callable[[DiagnosisState, State, RequestEvent, int], None]] = {
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
