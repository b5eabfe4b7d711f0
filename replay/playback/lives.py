"""`Lives`: reads what a `Focus` asks for, from the recording and the newest state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Literal

from engine.events import RunInfo
from replay.diagnosis.report.task_history import build_history
from replay.playback.focus import (
    CallFocus,
    EventLine,
    Focus,
    Focused,
    SpendingFocus,
    TaskFocus,
    TaskLine,
    TasksFocus,
)
from replay.playback.run_rows import RunRows
from replay.recording.reader import Bounds
from replay.state.model import State
from replay.state.rows import AttemptRow, BlameRow, LeaseRow, open_attempt_row
from replay.state.task import Task

MOST_EVENTS = 400
MOST_TASKS = 1_000
REST = 20.0
"""A focus of a growing run is read again after so many times the time that reading it took."""
_BATCHES = '"row" IS NULL AND row_group = ?'
_FAILED = (
    '"column" = ? AND (error = ? OR execution_id IN (SELECT execution_id FROM attempts'
    " WHERE resource = ? AND outcome NOT IN ('success', 'rate_limited', 'local_cancelled')))"
)
_ABOUT = "t >= ? AND (task_id = ? OR list_contains(?::VARCHAR[], attempt_id))"
_ORDER = {"running": 0, "leased": 1, "selected": 2, "queued": 3, "deferred": 4, "ready": 5}


class Lives:
    """Keeps the last one it has read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: Focused | None = None
        self._read_at: tuple[int, int] = (-1, -1)
        self._again_at = 0.0

    def read(
        self, focus: Focus | None, rows: RunRows, run: RunInfo, bounds: Bounds, here: State,
        newest: Callable[[], State],
    ) -> Focused | None:  # fmt: skip
        """
        Args:
            focus: What to read; None reads nothing.
            rows: The rows of the run.
            run: The run.
            bounds: First and last event that were read.
            here: The state at the cursor.
            newest: The state after the last event.
        """
        if focus is None:
            return None
        place = (bounds.last_ordinal, here.ordinal if isinstance(focus, TasksFocus) else 0)
        now = self._clock()
        if self._known is not None and self._known.focus == focus:
            if place == self._read_at:
                return self._known
            if place[1] == self._read_at[1] and now < self._again_at:
                return self._known
        life = _Life(rows, run, bounds, newest)
        if isinstance(focus, TaskFocus):
            self._known = life.task(focus)
        elif isinstance(focus, CallFocus):
            self._known = life.call(focus)
        elif isinstance(focus, SpendingFocus):
            self._known = Focused(focus, spending=tuple(rows.reader.spending()))
        else:
            self._known = life.tasks(focus, here)
        self._read_at = place
        after = self._clock()
        self._again_at = after + REST * (after - now)
        return self._known


class _Life:
    """The rows of a run as a task's history reads them."""

    def __init__(
        self, rows: RunRows, run: RunInfo, bounds: Bounds, newest: Callable[[], State]
    ) -> None:
        self._rows = rows
        self._run = run
        self._bounds = bounds
        self._newest = newest

    def run(self) -> RunInfo:
        return self._run

    def bounds(self) -> Bounds:
        return self._bounds

    def ordinal_at(self, t: float) -> int:
        return self._rows.reader.ordinal_at(t)

    def state_at(self, ordinal: int) -> State:
        last = ordinal >= self._bounds.last_ordinal
        return self._newest() if last else self._rows.reader.state_at(ordinal)

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]:
        return self._rows.reader.life(task_id)

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        return self._rows.blame(bin0, bin1, scope)

    def task(self, focus: TaskFocus) -> Focused:
        bounds = self._bounds
        try:
            history = build_history(self, focus.task_id, self._rows.verdicts())
        except LookupError:
            return Focused(focus)
        _, calls = self.life(focus.task_id)
        state = self._newest()
        task = state.tasks.get(focus.task_id)
        known = {call.attempt_id for call in calls}
        if task is not None and task.execution_id is not None:
            calls += [
                open_attempt_row(attempt)
                for attempt in state.attempts.values()
                if attempt.execution_id == task.execution_id and attempt.attempt_id not in known
            ]
        begin = min((step.start for step in history.steps), default=0.0)
        ids = [call.attempt_id for call in calls]
        return Focused(
            focus,
            history,
            tuple(self._in_run_time(call) for call in calls),
            events=self._events(focus.task_id, ids, bounds.t0 + begin),
        )

    def call(self, focus: CallFocus) -> Focused:
        reader, state = self._rows.reader, self._newest()
        call = reader.attempt(focus.attempt_id)
        live = state.attempts.get(focus.attempt_id)
        if call is None and live is not None:
            call = open_attempt_row(live)
        if call is None:
            return Focused(focus)
        owner: TaskLine | None = None
        if call.execution_id is not None:
            leases = reader.leases_that("execution_id = ?", call.execution_id)
            if leases:
                owner = self._of_leases(leases)
            else:
                tasks = state.tasks.values()
                task = next(
                    (task for task in tasks if task.execution_id == call.execution_id), None
                )
                owner = None if task is None else self._of_task(task)
        began = call.wait_started_at or call.acquired_at or call.started_at or self._bounds.t0
        return Focused(
            focus,
            calls=(self._in_run_time(call),),
            owner=owner,
            events=self._events(None, [focus.attempt_id], began),
        )

    def tasks(self, focus: TasksFocus, here: State) -> Focused:
        if focus.group is not None:
            group = [task for task in here.tasks.values() if task.group == focus.group]
            group.sort(key=lambda task: (_ORDER.get(task.phase, 9), task.enqueued_at or task.since))
            lines = tuple(self._of_task(task, here.time) for task in group[:MOST_TASKS])
            return Focused(focus, tasks=lines, total=len(group))
        reader, state = self._rows.reader, self._newest()
        live: list[Task] = []
        if focus.row is not None:
            leases = reader.leases_that('"row" = ?', focus.row)
            live = [task for task in state.tasks.values() if task.row == focus.row]
            row_groups = {lease.row_group for lease in leases} | {task.row_group for task in live}
            for row_group in row_groups - {None}:
                leases += reader.leases_that(_BATCHES, row_group)
                batches = (task for task in state.tasks.values() if task.row is None)
                live += [task for task in batches if task.row_group == row_group]
        else:
            assert focus.failure is not None
            resource, column, error = focus.failure
            leases = reader.leases_that(_FAILED, column, error, resource)
        by_task: dict[str, list[LeaseRow]] = {}
        for lease in leases:
            by_task.setdefault(lease.task_id, []).append(lease)
        lines = (
            *(self._of_leases(rows) for task_id, rows in by_task.items()
              if all(task.task_id != task_id for task in live)),
            *(self._of_task(task) for task in live),
        )  # fmt: skip
        order = {column.name: index for index, column in enumerate(self._run.columns)}
        if focus.row is not None:
            lines = tuple(sorted(lines, key=lambda line: (order.get(line.column, 99), line.column)))
        return Focused(focus, tasks=lines[:MOST_TASKS], total=len(lines))

    def _events(
        self, task_id: str | None, attempts: Iterable[str], begin: float
    ) -> tuple[EventLine, ...]:
        rows = self._rows.reader.events_that(
            _ABOUT, begin, task_id, list(attempts), limit=MOST_EVENTS
        )
        t0 = self._bounds.t0
        return tuple(
            EventLine(ordinal, event.captured_at_monotonic - t0, event) for ordinal, event in rows
        )

    def _of_leases(self, leases: list[LeaseRow]) -> TaskLine:
        first, last, t0 = leases[0], leases[-1], self._bounds.t0
        queued = None if last.enqueued_at is None else last.acquired_at - last.enqueued_at
        return TaskLine(
            last.task_id,
            last.column,
            last.row_group,
            last.row,
            last.attempt,
            last.result or "open",
            (first.acquired_at if first.ready_at is None else first.ready_at) - t0,
            None if last.released_at is None else last.released_at - t0,
            queued,
            last.error,
        )

    def _of_task(self, task: Task, at: float | None = None) -> TaskLine:
        """`at`: the instant that it is seen at; the last one where None."""
        t0, now = self._bounds.t0, self._bounds.t1 if at is None else at
        until = now if task.acquired_at is None else task.acquired_at
        return TaskLine(
            task.task_id,
            task.column,
            task.row_group,
            task.row,
            task.attempt,
            task.phase,
            (task.since if task.ready_at is None else task.ready_at) - t0,
            None,
            None if task.enqueued_at is None else max(0.0, until - task.enqueued_at),
            task.error,
        )

    def _in_run_time(self, call: AttemptRow) -> AttemptRow:
        t0 = self._bounds.t0

        def of(t: float | None) -> float | None:
            return None if t is None else t - t0

        return AttemptRow(
            call.attempt_id,
            call.resource,
            call.execution_id,
            call.column,
            call.lease_id,
            of(call.wait_started_at),
            of(call.acquired_at),
            of(call.started_at),
            of(call.completed_at),
            of(call.released_at),
            call.outcome,
            call.first_ordinal,
            call.last_ordinal,
        )
