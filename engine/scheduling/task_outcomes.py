"""`TaskOutcomes`: what follows from the end of a worker?"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from engine.clock import Clock
from engine.errors import FailureDetails, RetryableTaskError, TaskError
from engine.rows.admission import RowGroups
from engine.scheduling.dispatch import Dispatch
from engine.scheduling.drop_rate import DropRate
from engine.scheduling.live_tasks import LiveTask, LiveTasks
from engine.scheduling.plan import RetryPolicy
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.tracker import CompletionTracker
from engine.scheduling.types import TaskPayload
from engine.workers.local import WorkerHandle

StopCause = Literal["stopped", "drain", "abort", "run_failed"]
"""`stopped`: by the engine itself, because nothing more could succeed."""


_NOTHING_COMPLETED: Mapping[str, int] = MappingProxyType({})


class DroppedTask(NamedTuple):
    """A task that failed for good, and with it its rows."""

    payload: TaskPayload
    rows: Iterable[int]
    error_type: str
    failure: str
    """Class of the failure, as in `engine.events.failures`; "" for a fault of the column's own
    code."""
    attempts: int


class TaskOutcomes:
    """Completes, defers, drops or cancels a task: its last event, the release of its lease, and the
    tasks that became ready by it.

    Args:
        tracker: Learns of every completion and drop.
        queue: Loses the tasks that are cancelled while they are queued.
        dispatch: Releases leases.
        row_groups: The row groups of the run, by index.
        random: Source of the random part of back-off delays.
        on_ready_again: Called when the back-off of a deferred task has passed.
        on_dropped_late: Called when a task is dropped at the end of its back-off, with the tasks
            that became ready by it.
        drop_rate: Learns how the tasks of each column end.
        on_dropped: Called for each task that failed for good.
        completed_by_column: Tasks that earlier parts of the run have completed.
    """

    def __init__(
        self,
        *,
        tracker: CompletionTracker,
        queue: FairTaskQueue,
        dispatch: Dispatch,
        live: LiveTasks,
        events: TaskEvents,
        row_groups: RowGroups,
        clock: Clock,
        random: random.Random,
        retry: RetryPolicy,
        on_ready_again: Callable[[LiveTask], None],
        on_dropped_late: Callable[[Iterable[TaskPayload]], None],
        drop_rate: DropRate,
        on_dropped: Callable[[DroppedTask], None] = lambda task: None,
        completed_by_column: Mapping[str, int] = _NOTHING_COMPLETED,
    ) -> None:
        self.completed_by_column = dict(completed_by_column)
        self._on_dropped = on_dropped
        self._tracker = tracker
        self._queue = queue
        self._dispatch = dispatch
        self._live = live
        self._events = events
        self._row_groups = row_groups
        self._clock = clock
        self._random = random
        self._retry = retry
        self._on_ready_again = on_ready_again
        self._on_dropped_late = on_dropped_late
        self._drop_rate = drop_rate

    def worker_ended(
        self, live: LiveTask, worker: WorkerHandle, stop_cause: StopCause | None
    ) -> Iterable[TaskPayload]:
        """Handle the end of the worker of `live`; returns the tasks whose dependencies it met.

        Args:
            stop_cause: Why the run is stopping; None while it is not. A run that stops retries
                nothing.
        """
        now = self._clock.monotonic()
        if worker.cancelled():
            if stop_cause is None:
                return self._drop(live, now, "CancelledError", "the worker was cancelled")
            self._end(live, now, "cancelled", stop_cause)
            return ()
        error = worker.exception()
        if error is None:
            return self._complete(live, now)
        if isinstance(error, RetryableTaskError):
            return self._retry_later(live, now, error, stop_cause)
        if isinstance(error, TaskError):
            return self._drop(live, now, error.error_type, error.message, error.details)
        return self._drop(live, now, type(error).__name__, "")

    def cancel(self, live: LiveTask, cause: str) -> None:
        """End a task that holds no lease, wherever it waits."""
        task_id = live.item.task_id
        if live.timer is not None:
            live.timer.cancel()
        self._live.deferred.pop(task_id, None)
        self._queue.discard(task_id)
        self._events.emit("cancelled", live, self._clock.monotonic(), cause)
        self._live.forget(live)

    def _complete(self, live: LiveTask, now: float) -> Iterable[TaskPayload]:
        column = live.item.payload.column
        self.completed_by_column[column] = self.completed_by_column.get(column, 0) + 1
        self._drop_rate.note(column, None)
        self._end(live, now, "task_completed")
        return self._tracker.mark_complete(live.item.task_id)

    def _retry_later(
        self,
        live: LiveTask,
        now: float,
        error: RetryableTaskError,
        stop_cause: StopCause | None,
    ) -> Iterable[TaskPayload]:
        if stop_cause is not None or live.abandoned:
            self._end(live, now, "cancelled", stop_cause or "row_dropped")
            return ()
        live.settle()
        if error.blames_task is not None:
            live.unsettled.append(error.blames_task)
        else:
            live.failed += error.uses_attempt
        if live.failed >= self._retry.max_attempts:
            return self._drop(live, now, error.error_type, error.message, error.details)
        live.last_error = error
        delay = error.delay_seconds
        if delay is None:
            # Failures of a resource that was out are no reason to wait longer once it is back.
            failures = max(1, live.failed + len(live.unsettled))
            delay = self._retry.delay(failures, self._random)
        live.retry_at = now + delay
        diagnostics = {
            "attempt": live.attempt,
            "delay_seconds": delay,
            "retry_at": live.retry_at,
            "message": error.message,
            **({} if error.details is None else error.details.payload()),
        }
        live.enter("deferred", now)
        self._events.emit("retry_deferred", live, now, error.error_type, diagnostics)
        self._dispatch.release(live)
        self._live.deferred[live.item.task_id] = live
        live.timer = asyncio.get_running_loop().call_later(delay, self._retry_now, live)
        return ()

    def _retry_now(self, live: LiveTask) -> None:
        del self._live.deferred[live.item.task_id]
        now = self._clock.monotonic()
        live.timer = live.retry_at = live.enqueued_at = None
        excused = live.settle()
        error = live.last_error
        if live.failed >= self._retry.max_attempts and error is not None:
            ready = self._drop(live, now, error.error_type, error.message, error.details)
            self._on_dropped_late(ready)
            return
        diagnostics = {"attempt": live.attempt + 1, "deferred_seconds": now - live.since}
        if excused:
            diagnostics["uses_attempt"] = False
        self._events.emit("salvage_redispatched", live, now, diagnostics=diagnostics)
        live.attempt += 1
        self._tracker.mark_ready_again(live.item.task_id)
        self._on_ready_again(live)

    def _drop(
        self,
        live: LiveTask,
        now: float,
        error_type: str,
        message: str,
        details: FailureDetails | None = None,
    ) -> Iterable[TaskPayload]:
        """The task failed for good, and with it its row; a batch drops every row of its group."""
        payload = live.item.payload
        diagnostics: dict[str, Any] = {"attempt": live.attempt}
        if message:
            diagnostics["message"] = message
        if details is not None:
            diagnostics.update(details.payload())
        self._end(live, now, "non_retryable_dropped", error_type, diagnostics)
        rows: Iterable[int] = () if payload.row is None else (payload.row,)
        if payload.row is None:
            rows = self._row_groups[payload.row_group].row_range()
        failure = None if details is None else details.failure
        self._on_dropped(DroppedTask(payload, rows, error_type, failure or "", live.attempt))
        dropped = self._tracker.drop_rows(payload.row_group, rows)
        for task_id in dropped.cancelled:
            other = self._live.get(task_id)
            if other is not None and other.worker is None:
                self.cancel(other, "row_dropped")
            elif other is not None:
                other.abandoned = True
        self._dispatch.idle.note_drained()
        self._drop_rate.note(payload.column, message or error_type)
        return dropped.ready

    def _end(
        self,
        live: LiveTask,
        now: float,
        kind: str,
        reason: str | None = None,
        diagnostics: dict[str, Any] | None = None,
    ) -> None:
        """Emit the last event of a task, release the lease that it holds and forget the task."""
        live.enter("finished", now)
        self._events.emit(kind, live, now, reason, diagnostics)
        if live.lease is not None:
            self._dispatch.release(live)
        self._live.forget(live)
