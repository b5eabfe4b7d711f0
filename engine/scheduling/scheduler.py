"""`AsyncTaskScheduler`: the control flow readiness → queue → lease → worker → release.

Confined to the loop's thread and driven by callbacks alone: an end of a worker, of a checkpoint or
of a back-off asks for one dispatch pass in the next iteration of the loop, however many ends there
were. Nothing here knows a provider, a fair order or a ledger.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal

from engine.clock import Clock
from engine.errors import RetryableTaskError, TaskError
from engine.events import EventStream, RuntimeCorrelation, RuntimeCorrelationProvider
from engine.rows.admission import RowGroupAdmission, RowGroups, RowGroupSpec
from engine.rows.checkpoints import Checkpoint, Checkpoints
from engine.rows.flow import RowGroupFlow
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.dispatch import Dispatch
from engine.scheduling.keyframe import ledger_keyframe
from engine.scheduling.keyframe_timer import KeyframeTimer
from engine.scheduling.live_tasks import LiveTask, LiveTasks
from engine.scheduling.peaks import SchedulerPeaks
from engine.scheduling.plan import ColumnPlan, Outcome, RetryPolicy, RunResult, check_limits
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.resolver import MetadataDiagnostic
from engine.scheduling.run_events import tell_completed, tell_started
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.tracker import CompletionTracker
from engine.scheduling.types import TaskPayload
from engine.workers.local import LocalWorkers, WorkerHandle

StopCause = Literal["drain", "abort", "run_failed"]
_SEVERITY: tuple[StopCause | None, ...] = (None, "drain", "abort", "run_failed")
_FULL_KEYFRAMES = frozenset({"start", "segment", "end"})
MOST_TASKS_LISTED = 50_000
"""A keyframe of more live tasks does not list them: its line would be too long to read at once."""


class AsyncTaskScheduler:
    """Runs one workflow once.

    `execute` does one task; `checkpoint(row group, dropped rows)` writes the survivors.
    `request_keyframe(full)` gives what the request side adds to a keyframe; `cpu_seconds` the CPU
    time of the process so far; `capacity_at_end(peaks)` what its last event says of the capacity
    that was used. Raises `ValueError` where a column asks for a resource without a
    limit, or for more than the limit.
    """

    def __init__(
        self,
        *,
        columns: Sequence[ColumnPlan],
        row_groups: RowGroups,
        queue: FairTaskQueue,
        admission: TaskAdmissionController,
        row_group_admission: RowGroupAdmission,
        workers: LocalWorkers,
        execute: Callable[[TaskPayload], Awaitable[None]],
        checkpoint: Checkpoint,
        stream: EventStream,
        clock: Clock,
        random: random.Random,
        retry: RetryPolicy,
        request_keyframe: Callable[[bool], dict[str, Any]],
        keyframe_seconds: float = 1.0,
        keyframe_events: int = 5000,
        heartbeat_seconds: float = 1.0,
        cpu_seconds: Callable[[], float] | None = None,
        metadata_diagnostics: Sequence[MetadataDiagnostic] = (),
        capacity_at_end: Callable[[SchedulerPeaks], dict[str, Any]] | None = None,
    ) -> None:
        check_limits(columns, admission.limits)
        self._columns = {column.name: column for column in columns}
        self._specs = row_groups
        self._tracker = CompletionTracker(columns)
        self._queue = queue
        self._admission = admission
        self._row_groups = row_group_admission
        self._execute = execute
        self._stream = stream
        self._clock = clock
        self._random = random
        self._retry = retry
        self._request_keyframe = request_keyframe
        self._metadata_diagnostics = metadata_diagnostics
        self._capacity_at_end = capacity_at_end
        self._peaks = SchedulerPeaks(admission.limits)
        self._checkpoints = Checkpoints(checkpoint, stream, self._on_written, self._stop_unwritten)
        self._clockwork = KeyframeTimer(
            stream,
            clock,
            self.emit_keyframe,
            keyframe_seconds=keyframe_seconds,
            keyframe_events=keyframe_events,
            heartbeat_seconds=heartbeat_seconds,
            cpu_seconds=cpu_seconds,
        )
        self._events = TaskEvents(stream)
        self._live = LiveTasks(stream.run_id)
        self._flow = RowGroupFlow(stream, row_group_admission, self._peaks)
        self._dispatch = Dispatch(
            queue=queue,
            admission=admission,
            workers=workers,
            live=self._live,
            stream=stream,
            events=self._events,
            peaks=self._peaks,
            clock=clock,
            work=self._work,
            on_end=self._worker_done,
            wake=self._wake,
        )
        self._correlations = RuntimeCorrelationProvider()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._pass_due = False
        self._stop_cause: StopCause | None = None
        self._message = ""
        self._crash: Exception | None = None
        self._completed: dict[str, int] = {}

    async def run(self) -> RunResult:
        """Runs to the end and leaves nothing behind: no lease, no worker, no timer.

        Raises, after cleaning up, what kept a worker from being spawned.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        tell_started(self._stream, self._specs, self._admission.limits, self._metadata_diagnostics)
        self.emit_keyframe("start")
        self._clockwork.start(loop)
        self._wake()
        try:
            await asyncio.wait([self._ended])
        except asyncio.CancelledError:
            self.abort()
            await asyncio.wait([self._ended])
            self._conclude()
            raise
        result = self._conclude()
        if self._crash is not None:
            raise self._crash
        return result

    def drain(self) -> None:
        """Nothing new is admitted or dispatched, what runs may finish; then `cancelled`."""
        self._stop("drain")

    def abort(self) -> None:
        """As `drain`, and what runs is cancelled."""
        self._stop("abort")

    def dropped_rows(self, row_group: int) -> frozenset[int]:
        """Global indices of the rows given up so far, of a row group in flight."""
        return self._tracker.dropped_rows(row_group)

    def emit_keyframe(self, reason: str) -> None:
        """`start`, `periodic`, `segment` or `end`; all but `periodic` list every live task, up to
        `MOST_TASKS_LISTED`."""
        if reason == "segment" and self._ended is not None and not self._ended.done():
            self._dispatch.idle.forget()
            self._wake()
        if self._stream.scheduler_enabled:
            self._stream.scheduler(
                "scheduler_health_snapshot",
                snapshot=self.snapshot(
                    reason in _FULL_KEYFRAMES and len(self._live) <= MOST_TASKS_LISTED
                ),
                diagnostics={"reason": reason},
            )
        self._clockwork.note_keyframe()

    def snapshot(self, full: bool) -> dict[str, Any]:
        """The keyframe of `plans/event-stream.md` at this instant."""
        keyframe = ledger_keyframe(self._queue, self._admission, self._row_groups)
        keyframe["ready"] = self._tracker.ready_count if self._stop_cause is None else 0
        keyframe["deferred"] = len(self._live.deferred)
        keyframe["progress"] = {
            "rows_done": self._checkpoints.rows_done,
            "rows_dropped": self._checkpoints.rows_dropped,
            "completed_by_column": dict(self._completed),
        }
        if full:
            keyframe["tasks"] = self._live.rows()
        keyframe.update(self._request_keyframe(full))
        return keyframe

    # How a run stops

    def _stop(self, cause: StopCause) -> None:
        if _SEVERITY.index(cause) <= _SEVERITY.index(self._stop_cause):
            return
        self._stop_cause = cause
        self._admission.shutdown()
        for live in self._live.without_worker():
            self._cancel(live, cause)
        self._dispatch.idle.note_drained()
        if cause != "drain":
            for live in self._live.running.values():
                assert live.worker is not None
                live.worker.cancel()
        self._wake()

    def _fail(self, message: str, crash: Exception | None = None) -> None:
        if self._stop_cause != "run_failed":
            self._message = message
            self._crash = crash
            self._stop("run_failed")

    def _stop_unwritten(self) -> None:
        self._stop("run_failed")
        self._wake()  # another row group may have stopped the run already; this may be its end

    def _conclude(self) -> RunResult:
        self._clockwork.stop()
        self._dispatch.stop()
        complete = self._row_groups.next is None and not self._row_groups.in_flight
        outcome: Outcome = "success" if complete else "cancelled"
        if self._stop_cause == "run_failed":
            outcome = "failed"
        if self._checkpoints.failed and not self._message:
            self._message = self._checkpoints.loss(self._row_groups.in_flight)
        capacity = {} if self._capacity_at_end is None else self._capacity_at_end(self._peaks)
        result = RunResult(
            outcome,
            self._checkpoints.rows_done,
            self._checkpoints.rows_dropped,
            self._message,
            capacity,
        )
        self.emit_keyframe("end")
        tell_completed(self._stream, result)
        return result

    # One pass

    def _wake(self) -> None:
        if not self._pass_due and self._loop is not None:
            self._pass_due = True
            self._loop.call_soon(self._run_pass)

    def _run_pass(self) -> None:
        self._pass_due = False
        try:
            if self._stop_cause != "run_failed":
                self._close_row_groups()
            if self._stop_cause is None:
                for spec in self._flow.admit():
                    self._live.begin_row_group(spec.index)
                    self._announce(self._tracker.add_row_group(spec))
                self._enqueue_ready()
                self._dispatch.run()
                if not len(self._queue) and self._flow.use_free_slots():
                    self._wake()
        except Exception as error:
            self._fail(f"the scheduler failed: {type(error).__name__}", error)
        self._check_end()

    def _check_end(self) -> None:
        """The run is over once nothing runs, nothing is written, and nothing more may start."""
        if self._live.running or len(self._checkpoints) or self._pass_due:
            return
        waiting = self._row_groups.in_flight or self._row_groups.next is not None
        if self._stop_cause is None and waiting:
            if not len(self._live):
                self._fail("the scheduler failed", RuntimeError("no task can become ready"))
            return
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _close_row_groups(self) -> None:
        for index in self._row_groups.in_flight:
            if (
                not self._live.in_row_group(index)
                and index not in self._checkpoints
                and self._tracker.is_complete(index)
            ):
                self._checkpoints.start(self._specs[index], self._tracker.dropped_rows(index))

    def _on_written(self, spec: RowGroupSpec) -> None:
        self._row_groups.finish(spec.index)
        self._tracker.forget_row_group(spec.index)
        self._live.end_row_group(spec.index)
        self._wake()

    def _announce(self, ready: Iterable[TaskPayload]) -> None:
        """Tasks whose dependencies are met become live. A run that stops takes on no more."""
        if self._stop_cause is not None:
            return
        for payload in ready:
            live = self._live.add(payload, self._columns[payload.column])
            self._become_ready(live)

    def _become_ready(self, live: LiveTask) -> None:
        live.ready_at = now = self._clock.monotonic()
        live.enter("ready", now)
        self._events.ready(live, now)
        self._wake()

    def _enqueue_ready(self) -> None:
        if not self._tracker.ready_count:
            return
        frontier = self._tracker.ready_frontier()
        accepted = self._queue.enqueue(self._live[one.task_id].item for one in frontier)
        self._tracker.mark_enqueued(accepted)
        if accepted:
            self._dispatch.idle.note_work()
        queued = self._queue.view()
        for task_id in accepted:
            live = self._live[task_id]
            group = live.item.group.key
            self._peaks.note_queued(group, queued.queued_in(group))
            live.enqueued_at = now = self._clock.monotonic()
            live.enter("queued", now)
            self._events.enqueued(live, now)

    async def _work(self, payload: TaskPayload, correlation: RuntimeCorrelation) -> None:
        token = self._correlations.set(correlation)
        try:
            await self._execute(payload)
        finally:
            self._correlations.reset(token)

    # How a task ends

    def _worker_done(self, live: LiveTask, worker: WorkerHandle) -> None:
        del self._live.running[live.item.task_id]
        now = self._clock.monotonic()
        error = None if worker.cancelled() else worker.exception()
        try:
            if worker.cancelled() and self._stop_cause is None:
                self._drop(live, now, "CancelledError", "the worker was cancelled")
            elif worker.cancelled():
                self._end(live, now, "cancelled", self._stop_cause)
            elif error is None:
                self._complete(live, now)
            elif isinstance(error, RetryableTaskError):
                self._retry_later(live, now, error)
            elif isinstance(error, TaskError):
                self._drop(live, now, error.error_type, error.message)
            else:
                self._drop(live, now, type(error).__name__, "")
        except Exception as failure:
            self._fail(f"the scheduler failed: {type(failure).__name__}", failure)
        self._wake()

    def _complete(self, live: LiveTask, now: float) -> None:
        column = live.item.payload.column
        self._completed[column] = self._completed.get(column, 0) + 1
        self._end(live, now, "task_completed")
        self._announce(self._tracker.mark_complete(live.item.task_id))

    def _retry_later(self, live: LiveTask, now: float, error: RetryableTaskError) -> None:
        if self._stop_cause is not None or live.abandoned:
            self._end(live, now, "cancelled", self._stop_cause or "row_dropped")
            return
        live.failed += error.uses_attempt
        if live.failed >= self._retry.max_attempts:
            self._drop(live, now, error.error_type, error.message)
            return
        delay = error.delay_seconds
        if delay is None:
            delay = self._retry.delay(live.attempt, self._random)
        live.retry_at = now + delay
        diagnostics = {
            "attempt": live.attempt,
            "delay_seconds": delay,
            "retry_at": live.retry_at,
            "message": error.message,
        }
        live.enter("deferred", now)
        self._events.tell("retry_deferred", live, now, error.error_type, diagnostics)
        self._dispatch.release(live)
        self._live.deferred[live.item.task_id] = live
        assert self._loop is not None
        live.timer = self._loop.call_later(delay, self._retry_now, live)

    def _retry_now(self, live: LiveTask) -> None:
        del self._live.deferred[live.item.task_id]
        now = self._clock.monotonic()
        self._events.tell(
            "salvage_redispatched",
            live,
            now,
            diagnostics={"attempt": live.attempt + 1, "deferred_seconds": now - live.since},
        )
        live.timer = live.retry_at = live.enqueued_at = None
        live.attempt += 1
        self._tracker.mark_ready_again(live.item.task_id)
        self._become_ready(live)

    def _drop(self, live: LiveTask, now: float, error_type: str, message: str) -> None:
        """The task failed for good, and with it its row; a batch takes all rows along."""
        payload = live.item.payload
        diagnostics: dict[str, Any] = {"attempt": live.attempt}
        if message:
            diagnostics["message"] = message
        self._end(live, now, "non_retryable_dropped", error_type, diagnostics)
        rows: Iterable[int] = () if payload.row is None else (payload.row,)
        if payload.row is None:
            rows = self._specs[payload.row_group].row_range()
        dropped = self._tracker.drop_rows(payload.row_group, rows)
        for task_id in dropped.cancelled:
            other = self._live.get(task_id)
            if other is not None and other.worker is None:
                self._cancel(other, "row_dropped")
            elif other is not None:
                other.abandoned = True
        self._dispatch.idle.note_drained()
        self._announce(dropped.ready)

    def _end(
        self,
        live: LiveTask,
        now: float,
        kind: str,
        reason: str | None = None,
        diagnostics: dict[str, Any] | None = None,
    ) -> None:
        """The last event of a task with a lease, then its release, and the task is gone."""
        live.enter("finished", now)
        self._events.tell(kind, live, now, reason, diagnostics)
        self._dispatch.release(live)
        self._live.forget(live)

    def _cancel(self, live: LiveTask, cause: str) -> None:
        """The end of a task without a lease."""
        task_id = live.item.task_id
        if live.timer is not None:
            live.timer.cancel()
        self._live.deferred.pop(task_id, None)
        self._queue.discard(task_id)
        self._events.tell("cancelled", live, self._clock.monotonic(), cause)
        self._live.forget(live)
