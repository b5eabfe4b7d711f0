"""Checks on task leases, the order of a task's events, and what the scheduler says of itself.

Each check sees the state before its event is folded in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.events import RunInfo, SchedulerEvent
from replay.state.hidden_waiters import is_hidden_waiter
from replay.state.model import State
from replay.state.payload import amounts, count, mapping, text
from replay.state.task import Task
from replay.verify.ids import IssuedIds
from replay.verify.rules import RuleBook

Check = Callable[[State, SchedulerEvent], None]

UNKNOWN = "unknown"
"""The phase of a task that is not live."""

ORDER: dict[str, frozenset[str]] = {
    "dependency_ready": frozenset({UNKNOWN, "deferred"}),
    "ready_enqueued": frozenset({"ready"}),
    "selected": frozenset({"queued"}),
    "admission_denied": frozenset({"selected"}),
    "stale_selection": frozenset({"queued", "selected"}),
    "task_lease_acquired": frozenset({"selected"}),
    "worker_spawned": frozenset({"leased"}),
    "worker_spawn_failed": frozenset({"queued", "leased"}),
    "task_completed": frozenset({"running"}),
    "retry_deferred": frozenset({"running"}),
    "non_retryable_dropped": frozenset({"running", "deferred"}),
    "cancelled": frozenset({"ready", "queued", "selected", "running", "deferred"}),
    "task_lease_released": frozenset({"leased", "finished", "deferred"}),
}
"""Kind -> phases a task may be in before it, in headgate's own streams."""


class TaskChecks:
    """The rules about tasks, with what they must remember of earlier events."""

    def __init__(self, book: RuleBook, run: RunInfo) -> None:
        self._book = book
        self.run = run
        self.acquired = 0
        self.spawned = 0
        self.hidden_waiters = 0
        self._leases = IssuedIds("t")
        self._executions = IssuedIds("e")
        self._last_explanation: tuple[object, ...] | None = None
        self._checkpointed: set[int] = set()
        self.checks: dict[str, Check] = {
            **dict.fromkeys(ORDER, self._in_order),
            "ready_enqueued": self._waits,
            "selected": self._waits,
            "admission_denied": self._waits,
            "task_lease_acquired": self._lease_acquired,
            "worker_spawned": self._worker_spawned,
            "task_lease_released": self._lease_released,
            "release_diagnostic": self._release_refused,
            "queue_empty": self._queue_empty,
            "queue_drained": self._queue_drained,
            "admission_blocked": self._blocked,
            "group_capped": self._blocked,
            "row_group_admitted": self._row_group_admitted,
            "row_group_checkpointed": self._row_group_checkpointed,
            "scheduler_job_completed": self._completed,
        }

    def forget(self) -> None:
        """What holds may be told again: events were missing, or a reader begins here."""
        self._last_explanation = None

    def _in_order(self, state: State, event: SchedulerEvent) -> None:
        self._order(state.tasks.get(event.task_id or ""), event)

    def _order(self, task: Task | None, event: SchedulerEvent) -> None:
        kind = event.event_kind
        phase = UNKNOWN if task is None else task.phase
        if phase not in ORDER[kind]:
            self._book.report(
                "order", f"{kind} while {phase}", f"{kind} of {event.task_id}, which is {phase}"
            )
        elif kind == "dependency_ready" and task is not None and task.lease_id is not None:
            self._book.report(
                "order",
                "a retry before its release",
                f"{event.task_id} is ready again while it holds {task.lease_id}",
            )

    def _wait_after_spawn(self, task: Task | None, event: SchedulerEvent) -> None:
        if task is not None and is_hidden_waiter(task, event):
            self.hidden_waiters += 1
            self._book.report(
                "hidden_waiters",
                "a running worker waits for a scheduler resource",
                f"{event.event_kind} of {event.task_id} while {task.execution_id} runs",
            )

    def _waits(self, state: State, event: SchedulerEvent) -> None:
        task = state.tasks.get(event.task_id or "")
        self._order(task, event)
        self._wait_after_spawn(task, event)

    def _lease_acquired(self, state: State, event: SchedulerEvent) -> None:
        self._last_explanation = None
        self.acquired += 1
        lease_id = event.task_lease_id
        task = state.tasks.get(event.task_id or "")
        self._order(task, event)
        self._wait_after_spawn(task, event)
        report = self._book.report
        if lease_id is None:
            report("task_leases", "no lease id", "an acquisition without id")
            return
        if not self._leases.is_new(lease_id):
            report("task_leases", "acquired twice", f"{lease_id} is given out again")
        if task is not None and task.lease_id is not None:
            report(
                "task_leases",
                "acquired over a lease",
                f"{event.task_id} gets {lease_id} while it holds {task.lease_id}",
            )
        needs = amounts(event.diagnostics.get("resources"))
        if not needs and task is not None:
            needs = task.resources
        limits, leased = state.limits, state.leased
        for resource, amount in needs.items():
            limit = limits.get(resource)
            if limit is not None and leased.get(resource, 0) + amount > limit:
                report(
                    "caps",
                    f"more than the limit of {resource}",
                    f"{lease_id} brings {resource} to {leased.get(resource, 0) + amount} of "
                    f"{limit}",
                )

    def _worker_spawned(self, state: State, event: SchedulerEvent) -> None:
        self.spawned += 1
        task = state.tasks.get(event.task_id or "")
        held = None if task is None else task.lease_id
        if is_hidden_waiter(task, event):
            self.hidden_waiters += 1
            self._book.report(
                "hidden_waiters",
                "a worker without its lease",
                f"{event.task_execution_id} of {event.task_id} runs "
                f"{'without a lease' if held is None else f'under {held} already in use'}",
            )
        else:
            self._order(task, event)
        execution_id = event.task_execution_id
        if execution_id is None or not self._executions.is_new(execution_id):
            self._book.report(
                "order",
                "an execution id twice",
                f"worker_spawned of {event.task_id} as {execution_id}",
            )

    def _lease_released(self, state: State, event: SchedulerEvent) -> None:
        task = state.tasks.get(event.task_id or "")
        lease_id = event.task_lease_id
        if task is None or task.lease_id is None or task.lease_id != lease_id:
            held = None if task is None else task.lease_id
            self._book.report(
                "task_leases",
                "released, but not held",
                f"{lease_id} of {event.task_id} is released, held is {held or 'nothing'}",
            )
            return
        self._order(task, event)

    def _release_refused(self, state: State, event: SchedulerEvent) -> None:
        self._book.report(
            "task_leases",
            f"release refused: {event.reason_or_result}",
            f"release of {event.task_lease_id} of {event.task_id}: {event.reason_or_result}",
        )

    # What the queue and admission say

    def _queue_empty(self, state: State, event: SchedulerEvent) -> None:
        self._is_empty(state, event)
        self._check_changed((event.event_kind,), event)

    def _queue_drained(self, state: State, event: SchedulerEvent) -> None:
        self._is_empty(state, event)

    def _is_empty(self, state: State, event: SchedulerEvent) -> None:
        queued = queued_total(state)
        if queued:
            self._book.report(
                "empty_blocked",
                f"{event.event_kind} with work queued",
                f"{event.event_kind} while {queued} are queued",
            )

    def _blocked(self, state: State, event: SchedulerEvent) -> None:
        kind, facts = event.event_kind, event.diagnostics
        queued = queued_total(state)
        recorded = count(facts.get("queued_count"))
        if not queued or recorded == 0:
            self._book.report(
                "empty_blocked", f"{kind} with nothing queued", f"{kind} while nothing is queued"
            )
        elif recorded is not None and recorded != queued:
            self._book.report(
                "numbers",
                f"{kind}: queued_count",
                f"{kind} tells {recorded} queued, the events before it leave {queued}",
                note=self._book.foreign,
            )
        resources = mapping(facts.get("resources"))
        for resource, shortage in resources.items():
            limit, free = state.limits.get(resource), count(mapping(shortage).get("free"))
            if limit is not None and free not in (None, limit - state.leased.get(resource, 0)):
                self._book.report(
                    "numbers",
                    f"{kind}: free of {resource}",
                    f"{kind} tells {free} of {resource} free, the leases leave "
                    f"{limit - state.leased.get(resource, 0)}",
                )
        groups, reasons = mapping(facts.get("groups")), mapping(facts.get("reasons"))
        explanation = (
            kind,
            event.reason_or_result,
            tuple(reasons.items()),
            tuple(groups.items()),
            facts.get("available_after"),
            {resource: _holders(mapping(shortage)) for resource, shortage in resources.items()},
        )
        self._check_changed(explanation, event)

    def _check_changed(self, explanation: tuple[object, ...], event: SchedulerEvent) -> None:
        """A state is told on entering it and when its explanation changes."""
        if explanation == self._last_explanation:
            self._book.report(
                "empty_blocked",
                f"{event.event_kind} again, with nothing new",
                f"{event.event_kind} repeats what was told last",
                note=self._book.foreign,
            )
        self._last_explanation = explanation

    # Row groups and the end

    def _row_group_admitted(self, state: State, event: SchedulerEvent) -> None:
        index, target = count(event.diagnostics.get("row_group")), state.row_groups.target
        recorded = count(event.diagnostics.get("target"))
        target = recorded if recorded is not None else target
        in_flight = len(state.row_groups.in_flight) + 1
        if target is not None and in_flight > target:
            self._book.report(
                "caps",
                "more row groups than the target",
                f"row group {index} is number {in_flight} in flight, the target is {target}",
            )

    def _row_group_checkpointed(self, state: State, event: SchedulerEvent) -> None:
        facts = event.diagnostics
        index = count(facts.get("row_group"))
        if index not in state.row_groups.in_flight:
            self._book.report(
                "rows",
                "a row group that is not in flight",
                f"row group {index} is checkpointed, in flight are {state.row_groups.in_flight}",
            )
        rows = count(facts.get("rows"))
        kinds = ("surviving_rows", "dropped_rows", "unfinished_rows")
        parts = sum(count(facts.get(kind)) or 0 for kind in kinds)
        if rows is not None and rows != parts:
            self._book.report(
                "rows",
                "rows of a row group unaccounted for",
                f"row group {index} has {rows} rows, {parts} are done, dropped or unfinished",
            )

    def _completed(self, state: State, event: SchedulerEvent) -> None:
        """`scheduler_job_completed`: everything was given back before."""
        left = {
            "task lease": [task.task_id for task in state.tasks.values() if task.lease_id],
            "live task": [task.task_id for task in state.tasks.values() if not task.lease_id],
            "queued task": ["?"] * (queued_total(state) if not state.tasks else 0),
            "request lease": [
                attempt.attempt_id
                for attempt in state.attempts.values()
                if attempt.phase != "waiting" and attempt.released_at is None
            ],
            "waiting request": [
                attempt.attempt_id
                for attempt in state.attempts.values()
                if attempt.phase == "waiting"
            ],
        }
        for what, names in left.items():
            for name in names:
                self._book.report("end_state", f"{what} left", f"{what} of {name} at the end")
        progress, records = state.progress, self.run.records
        done = progress.rows_done + progress.rows_dropped
        if text(event.reason_or_result) == "success" and records is not None and done != records:
            self._book.report(
                "rows",
                "rows unaccounted for",
                f"the run succeeded with {done} of {records} rows done or dropped",
            )


def _holders(shortage: dict[str, Any]) -> frozenset[str]:
    listed = shortage.get("holders")
    names = (
        text(mapping(holder).get("group")) for holder in (listed if type(listed) is list else ())
    )
    return frozenset(name for name in names if name is not None)


def queued_total(state: State) -> int:
    """Number of queued tasks in all groups."""
    return sum(group.queued for group in state.groups.values())
