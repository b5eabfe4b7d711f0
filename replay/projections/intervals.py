"""`CorrelatedRuntimeView`: which task leases and request attempts lie between which events.

All that is needed lives in the state, so there is nothing to keep but rows not yet drained.
"""

from __future__ import annotations

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.state.model import Attempt, State
from replay.state.rows import AttemptRow, LeaseRow, attempt_row, lease_row, open_attempt_row
from replay.state.task import Task

MAY_REPLACE_A_LEASE = frozenset(
    {"dependency_ready", "ready_enqueued", "task_lease_acquired", "worker_spawn_failed"}
)
MAY_END_AN_ATTEMPT = frozenset(
    {
        "request_lease_released",
        "model_request_completed",
        "request_wait_timeout",
        "request_wait_cancelled",
        "request_acquire_denied",
    }
)
MAY_END_MANY = frozenset({"scheduler_health_snapshot", "scheduler_job_completed"})

ENDS = MAY_REPLACE_A_LEASE | MAY_END_AN_ATTEMPT | MAY_END_MANY | frozenset({"task_lease_released"})
"""`CorrelatedRuntimeView` need see no other kinds of events."""


def _lists_what_is_live(event: SchedulerEvent) -> bool:
    """All but a keyframe of counts alone, which ends nothing."""
    if event.event_kind != "scheduler_health_snapshot":
        return True
    return event.snapshot is not None and "tasks" in event.snapshot


class CorrelatedRuntimeView:
    """Joins the two streams as an observer of their fold: rows of leases and of the attempts that
    their executions made, each once, when it ends.

    One whose end was lost (the stream has a gap) gets its row, with an open end, when it is known
    to be gone; `finish` gives the rows of those still open.
    """

    def __init__(self, run: RunInfo) -> None:
        self.leases: list[LeaseRow] = []
        self.attempts: list[AttemptRow] = []
        self._lease: LeaseRow | None = None
        self._attempt: AttemptRow | None = None
        self._were_leased: list[Task] = []
        self._were_tried: list[Attempt] = []

    def before(self, state: State, event: Event, ordinal: int) -> bool:
        """True if something may end with this event: then `after` is to be called."""
        kind = event.event_kind
        if isinstance(event, RequestEvent):
            if kind in MAY_END_AN_ATTEMPT:
                self._before_end(state, event, ordinal)
                return self._attempt is not None
        elif kind == "task_lease_released":
            task = state.tasks.get(event.task_id or "")
            if task is not None and task.lease_id == event.task_lease_id:
                self._lease = lease_row(task, event.captured_at_monotonic, ordinal)
                return True
        elif kind in MAY_REPLACE_A_LEASE:
            task = state.tasks.get(event.task_id or "")
            if task is not None and task.lease_id is not None:
                self._lease = lease_row(task, None, None)
                return True
        elif kind in MAY_END_MANY and _lists_what_is_live(event):
            # Structs are replaced or removed there, never changed, so that these stay as they were.
            self._were_leased = [task for task in state.tasks.values() if task.lease_id is not None]
            self._were_tried = list(state.attempts.values())
            return True
        return False

    def after(self, state: State, event: Event, ordinal: int) -> None:
        if self._lease is not None:
            task = state.tasks.get(self._lease.task_id)
            if task is None or task.lease_id != self._lease.lease_id:
                self.leases.append(self._lease)
            self._lease = None
        if self._attempt is not None:
            if self._attempt.attempt_id not in state.attempts:
                self.attempts.append(self._attempt)
            self._attempt = None
        if self._were_leased or self._were_tried:
            for task in self._were_leased:
                current = state.tasks.get(task.task_id)
                if current is None or current.lease_id != task.lease_id:
                    row = lease_row(task, None, None)
                    if row is not None:
                        self.leases.append(row)
            for attempt in self._were_tried:
                if attempt.attempt_id not in state.attempts:
                    self.attempts.append(open_attempt_row(attempt))
            self._were_leased = []
            self._were_tried = []

    def finish(self, state: State) -> None:
        """What is still open."""
        for task in state.tasks.values():
            row = lease_row(task, None, None)
            if row is not None:
                self.leases.append(row)
        self.attempts += [open_attempt_row(attempt) for attempt in state.attempts.values()]

    def _before_end(self, state: State, event: RequestEvent, ordinal: int) -> None:
        attempt = state.attempts.get(event.request_attempt_id or "")
        if attempt is None:
            return
        now = event.captured_at_monotonic
        if event.event_kind == "model_request_completed":
            if attempt.released_at is not None:
                outcome = attempt.outcome or event.reason_or_outcome
                self._attempt = attempt_row(attempt, now, attempt.released_at, outcome, ordinal)
        else:
            outcome = attempt.outcome or event.reason_or_outcome
            self._attempt = attempt_row(attempt, attempt.completed_at, now, outcome, ordinal)
