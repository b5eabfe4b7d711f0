"""`EventHandlers`: what an event means beyond where its task or call is now.

Each handled kind has one method. The tasks and calls themselves are brought up to date by
`IndexSync`, from the state at the end of the instant.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.events import RequestEvent, SchedulerEvent
from replay.diagnosis.attribution import Attribution
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.index_sync import IndexSync
from replay.diagnosis.proofs import cooldown_verdict
from replay.diagnosis.rolling_stats import CALLS_NEEDED, FEW_CALLS_NEEDED, MOST_PAUSED
from replay.diagnosis.slot_ledger import WHOLE
from replay.state.failures import NEVER_A_FAILURE
from replay.state.model import Attempt, State


class EventHandlers:
    """Passes facts of single events to the stalls and marks as dirty what they may change."""

    def __init__(self, parts: DiagnosisState, sync: IndexSync, attribution: Attribution) -> None:
        self._changes = parts.changes
        self._index = parts.index
        self._dirty = parts.dirty
        self._cells = parts.cells
        self._stalls = parts.stalls
        self._errors = parts.errors
        self._loop = parts.loop
        self._sync = sync
        self._attribution = attribution

    def handle_scheduler(
        self, state: State, event: SchedulerEvent, now: float, ordinal: int
    ) -> None:
        """`now` is the time of the instant that the event belongs to."""
        task_id = event.task_id
        if task_id is None:
            self._dirty.invalidate_run()
        else:
            self._changes.add_task(task_id, ordinal)
        handler = _SCHEDULER_HANDLERS.get(event.event_kind)
        if handler is not None:
            handler(self, state, event, now, ordinal)

    def handle_request(self, state: State, event: RequestEvent, now: float, ordinal: int) -> None:
        """`now` is the time of the instant that the event belongs to."""
        attempt_id = event.request_attempt_id
        if attempt_id is not None:
            self._changes.add_call(attempt_id, ordinal)
        handler = _REQUEST_HANDLERS.get(event.event_kind)
        if handler is not None:
            handler(self, state, event, now, ordinal)
        if event.pressure_snapshot is not None:
            self._resource_changed(state, event)

    def _task_leased(self, state: State, event: SchedulerEvent, now: float, ordinal: int) -> None:
        self._stalls.admitted(WHOLE, now, ordinal)
        self._attribution.end_wakeup("", now, ordinal)
        self._dirty.invalidate_denied()
        if not self._index.attempts_seen:
            self._task_as_call(state, event, now, ordinal)

    def _task_as_call(self, state: State, event: SchedulerEvent, now: float, ordinal: int) -> None:
        """Without events about calls, tasks show what a resource admits and what succeeds."""
        task = state.tasks.get(event.task_id or "")
        if task is None:
            return
        resource = task.request_resource or self._sync.request_resource_of(task)
        if not resource or self._index.attempts_seen:
            return
        if event.event_kind == "task_lease_acquired":
            self._stalls.admitted(resource, now, ordinal)
        elif event.event_kind == "task_completed" and task.result == "completed":
            acquired_at = task.acquired_at if task.acquired_at is not None else now
            self._stalls.succeeded(resource, acquired_at, now)
            times = self._stalls.times_of(resource, task.column)
            paused = self._index.paused.get(task.task_id, 0.0)
            seconds = max(0.0, event.captured_at_monotonic - acquired_at - paused)
            if paused > MOST_PAUSED * (seconds + paused):
                times.skip(0.0, acquired_at)
            elif times.add(seconds, acquired_at, self._loop.lateness):
                self._stalls.usual_call_ended(resource, acquired_at, now)
                self._stalls.usual_task_ended(resource, task.column)
            else:
                self._stalls.slow_call_ended(resource, seconds)

    def _checkpoint(self, state: State, event: SchedulerEvent, now: float, ordinal: int) -> None:
        row_group = str(event.diagnostics.get("row_group"))
        if event.event_kind == "row_group_checkpoint_started":
            self._index.checkpointing[row_group] = None
        else:
            self._index.checkpointing.pop(row_group, None)

    def _snapshot(self, state: State, event: SchedulerEvent, now: float, ordinal: int) -> None:
        if event.snapshot is not None and "tasks" in event.snapshot:
            self._sync.resync_keyframe(state, now, ordinal)
        else:
            self._dirty.invalidate_all(self._cells.tallies, state.ceilings)
        for resource in state.ceilings:
            self._sync.follow_cooldown(state, resource, now, ordinal)

    def _blocked(self, state: State, event: SchedulerEvent, now: float, ordinal: int) -> None:
        denials = state.block.groups if state.block is not None else {}
        self._dirty.set_denied(
            group for group, denial in denials.items() if denial != "no_capacity"
        )

    def _task_failed(self, state: State, event: SchedulerEvent, now: float, ordinal: int) -> None:
        correlation = event.captured_correlation
        if event.reason_or_result is None and event.event_kind == "retry_deferred":
            column = "" if correlation is None else correlation.task_column or ""
            self._errors.unnamed[column] = self._errors.unnamed.get(column, 0) + 1
        self._stalls.closed += self._errors.update(state, ordinal)

    def _job(self, state: State, event: SchedulerEvent, now: float, ordinal: int) -> None:
        self._index.started = True
        self._dirty.invalidate_all(self._cells.tallies, state.ceilings)

    def _resource_changed(self, state: State, event: RequestEvent) -> str | None:
        """Label of the event's resource, now marked as changed; None if the state has none."""
        resource = event.request_resource_key.label if event.request_resource_key else None
        if resource is None or resource not in state.ceilings:
            return None
        self._changes.add_resource(resource)
        return resource

    def _request_leased(self, state: State, event: RequestEvent, now: float, ordinal: int) -> None:
        attempt = state.attempts.get(event.request_attempt_id or "")
        if attempt is not None:
            self._stalls.admitted(attempt.resource, now, ordinal)
            self._attribution.end_wakeup(attempt.resource, now, ordinal)

    def _rate_limited(self, state: State, event: RequestEvent, now: float, ordinal: int) -> None:
        resource = self._resource_changed(state, event)
        if resource is not None:
            ceiling = state.ceilings[resource]
            until = now if ceiling.blocked_until is None else ceiling.blocked_until
            overload = cooldown_verdict(ceiling) == "request_overload"
            self._stalls.rate_limited(resource, now, ordinal, until, overload=overload)

    def _limit_cut(self, state: State, event: RequestEvent, now: float, ordinal: int) -> None:
        resource = self._resource_changed(state, event)
        if resource is not None:
            self._stalls.limit_cut(resource, ordinal)

    def _wait_started(self, state: State, event: RequestEvent, now: float, ordinal: int) -> None:
        if event.diagnostics.get("reason") == "none":
            return
        resource = self._resource_changed(state, event)
        if resource is not None and state.ceilings[resource].waiters == 1:
            self._stalls.waiting_began(resource, ordinal)

    def _resource_event(self, state: State, event: RequestEvent, now: float, ordinal: int) -> None:
        self._resource_changed(state, event)
        self._dirty.invalidate_run()

    def _call_ended(self, state: State, event: RequestEvent, now: float, ordinal: int) -> None:
        """A call that succeeded shows how long calls take, and that a storm is over."""
        attempt_id = event.request_attempt_id or ""
        attempt = state.attempts.get(attempt_id)
        outcome = event.reason_or_outcome or event.diagnostics.get("outcome")
        if attempt is None:
            if attempt_id not in self._index.calls:
                self._resource_changed(state, event)
            if outcome != "success":
                self._note_error(state, event, outcome, ordinal)
            return
        if outcome != "success":
            self._call_failed(state, event, attempt, outcome, ordinal)
            return
        if attempt.started_at is None:
            return
        duration = event.diagnostics.get("duration_seconds")
        if not isinstance(duration, int | float):
            duration = max(0.0, event.captured_at_monotonic - attempt.started_at)
        known = self._index.calls.get(attempt_id)
        paused = known.paused if known is not None else 0.0
        seconds = float(duration) - paused
        resource = attempt.resource
        times = self._stalls.times_of(resource, attempt.column or "")
        if paused > MOST_PAUSED * float(duration):
            times.skip(seconds, attempt.started_at)
            if known is not None and known.overdue:
                self._stalls.slow_call_ended(resource, seconds)
        elif times.add(seconds, attempt.started_at, self._loop.lateness):
            self._stalls.usual_call_ended(resource, attempt.started_at, now)
        else:
            self._stalls.slow_call_ended(resource, seconds)
        level = times.early_level()
        if level is not None:
            self._stalls.was_slow(resource, attempt.column or "", level, ordinal)
        acquired_at = attempt.acquired_at if attempt.acquired_at is not None else attempt.started_at
        self._stalls.succeeded(resource, acquired_at, now)
        if len(times.durations.arrived) in (FEW_CALLS_NEEDED, CALLS_NEEDED):
            self._sync.schedule_overdue(resource)

    def _call_failed(
        self, state: State, event: RequestEvent, attempt: Attempt, outcome: object, ordinal: int
    ) -> None:
        self._note_error(state, event, outcome, ordinal)
        if type(outcome) is not str or outcome in NEVER_A_FAILURE:
            return
        index = self._index
        if attempt.execution_id is not None:
            index.failed[attempt.execution_id] = attempt.resource
        known = index.calls.get(attempt.attempt_id)
        if known is not None and known.overdue and known.started_at is not None:
            age = event.captured_at_monotonic - known.started_at - known.paused
            self._stalls.slow_call_ended(attempt.resource, age)

    def _note_error(self, state: State, event: RequestEvent, outcome: object, ordinal: int) -> None:
        resource, error = event.request_resource_key, event.diagnostics.get("error_type")
        if resource is not None and type(outcome) is str and outcome not in NEVER_A_FAILURE:
            self._index.failed_with[resource.label] = error if type(error) is str else outcome
        self._stalls.closed += self._errors.update(state, ordinal)


_SchedulerHandler = Callable[[EventHandlers, State, SchedulerEvent, float, int], None]
_RequestHandler = Callable[[EventHandlers, State, RequestEvent, float, int], None]

_SCHEDULER_HANDLERS: dict[str, _SchedulerHandler] = {
    "task_lease_acquired": EventHandlers._task_leased,
    "task_completed": EventHandlers._task_as_call,
    "retry_deferred": EventHandlers._task_failed,
    "non_retryable_dropped": EventHandlers._task_failed,
    "row_group_checkpoint_started": EventHandlers._checkpoint,
    "row_group_checkpointed": EventHandlers._checkpoint,
    "scheduler_health_snapshot": EventHandlers._snapshot,
    "group_capped": EventHandlers._blocked,
    "queue_empty": EventHandlers._blocked,
    "queue_drained": EventHandlers._blocked,
    "admission_blocked": EventHandlers._blocked,
    "scheduler_job_started": EventHandlers._job,
    "run_resumed": EventHandlers._job,
    "scheduler_job_completed": EventHandlers._job,
}
_REQUEST_HANDLERS: dict[str, _RequestHandler] = {
    "request_resource_registered": EventHandlers._resource_event,
    "request_effective_cap_changed": EventHandlers._resource_event,
    "request_wait_started": EventHandlers._wait_started,
    "request_wait_reason_changed": EventHandlers._resource_event,
    "request_wait_timeout": EventHandlers._resource_event,
    "request_wait_cancelled": EventHandlers._resource_event,
    "request_acquire_denied": EventHandlers._resource_event,
    "request_lease_acquired": EventHandlers._request_leased,
    "model_request_completed": EventHandlers._call_ended,
    "request_rate_limited": EventHandlers._rate_limited,
    "request_outage": EventHandlers._resource_event,
    "request_suspended": EventHandlers._resource_event,
    "request_limit_decreased": EventHandlers._limit_cut,
    "request_limit_increased": EventHandlers._resource_event,
    "request_soft_ceiling_recovered": EventHandlers._resource_event,
    "request_fully_recovered": EventHandlers._resource_event,
    "request_lease_released": EventHandlers._call_ended,
}
