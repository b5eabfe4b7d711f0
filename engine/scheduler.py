"""`AsyncTaskScheduler`: the control flow readiness → queue → lease → worker → release.

Confined to the loop's thread and driven by callbacks alone: an end of a worker, of a checkpoint or
of a back-off asks for one dispatch pass in the next iteration of the loop, however many ends there
were. Nothing here knows a provider, a fair order or a ledger. One class, longer than most: the
passes and the ends of a task share every step of its life.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import msgspec

from engine.checkpoints import Checkpoint, Checkpoints
from engine.clock import Clock
from engine.errors import RetryableTaskError
from engine.events import EventStream, RuntimeCorrelation, RuntimeCorrelationProvider
from engine.identity import RequestResourceKey
from engine.row_groups import RowGroupAdmission, RowGroupSpec
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.clockwork import Clockwork
from engine.scheduling.idle import IdleReport
from engine.scheduling.keyframe import ledger_keyframe
from engine.scheduling.live import LiveTask
from engine.scheduling.passed_over import PassedOver
from engine.scheduling.peaks import SchedulerPeaks
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.resolver import MetadataDiagnostic
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.tracker import CompletionTracker
from engine.scheduling.types import (
    Eligibility,
    QueueView,
    ResolvedTaskScheduling,
    SchedulableTask,
    TaskAdmissionDenied,
    TaskPayload,
    TaskType,
)
from engine.workers.local import LocalWorkers, WorkerHandle

Outcome = Literal["success", "failed", "cancelled"]
StopCause = Literal["drain", "abort", "run_failed"]
_SEVERITY: tuple[StopCause | None, ...] = (None, "drain", "abort", "run_failed")
_TARGET_REACHED = ("target_reached",)
_FULL_KEYFRAMES = frozenset({"start", "segment", "end"})


@dataclass(frozen=True)
class ColumnPlan:
    """A column as the scheduler needs to know it."""

    name: str
    task_type: TaskType
    depends_on: tuple[str, ...]
    scheduling: ResolvedTaskScheduling
    request_resource: RequestResourceKey | None = None
    """Where its first request goes, if that is known."""


@dataclass(frozen=True)
class RetryPolicy:
    """Attempt n is followed by base x 2^(n-1) seconds, at most `max_delay_seconds`; a random part
    of up to one half is taken off, so that retries spread out."""

    max_attempts: int = 5
    base_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0

    def delay(self, attempt: int, source: random.Random) -> float:
        full = self.base_delay_seconds * 2.0 ** min(attempt - 1, 60)
        return min(full, self.max_delay_seconds) * (0.5 + 0.5 * source.random())


@dataclass(frozen=True)
class RunResult:
    outcome: Outcome
    rows_done: int
    rows_dropped: int
    message: str = ""
    capacity: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What its last event says of the capacity that was used."""


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
        row_groups: Sequence[RowGroupSpec],
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
        _check_limits(columns, admission)
        self._columns = {column.name: column for column in columns}
        self._specs = {spec.index: spec for spec in row_groups}
        self._tracker = CompletionTracker(columns)
        self._queue = queue
        self._admission = admission
        self._row_groups = row_group_admission
        self._workers = workers
        self._execute = execute
        self._stream = stream
        self._clock = clock
        self._random = random
        self._retry = retry
        self._request_keyframe = request_keyframe
        self._metadata_diagnostics = metadata_diagnostics
        self._capacity_at_end = capacity_at_end
        self._peaks = SchedulerPeaks(admission.limits)
        self._checkpoints = Checkpoints(checkpoint, stream, self._on_written, self._fail)
        self._clockwork = Clockwork(
            stream,
            clock,
            self.emit_keyframe,
            keyframe_seconds=keyframe_seconds,
            keyframe_events=keyframe_events,
            heartbeat_seconds=heartbeat_seconds,
            cpu_seconds=cpu_seconds,
        )
        self._events = TaskEvents(stream)
        self._passed_over = PassedOver(self._events)
        self._idle = IdleReport(stream, queue, admission, clock)
        self._correlations = RuntimeCorrelationProvider()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._pass_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_at: float | None = None
        self._stop_cause: StopCause | None = None
        self._message = ""
        self._crash: Exception | None = None
        self._live: dict[str, LiveTask] = {}
        self._running: dict[str, LiveTask] = {}
        self._deferred: dict[str, LiveTask] = {}
        self._live_by_row_group: dict[int, int] = {}
        self._correlation_of: dict[int, dict[str, RuntimeCorrelation]] = {}
        self._completed: dict[str, int] = {}
        self._executions = 0
        self._had_work = False
        self._row_group_told: int | None = None

    async def run(self) -> RunResult:
        """Runs to the end and leaves nothing behind: no lease, no worker, no timer.

        Raises, after cleaning up, what kept a worker from being spawned.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        specs = self._specs.values()
        self._stream.scheduler(
            "scheduler_job_started",
            diagnostics={
                "records": sum(spec.rows for spec in specs),
                "row_groups": len(specs),
                "buffer_size": max((spec.rows for spec in specs), default=0),
                "limits": {key.label: limit for key, limit in self._admission.limits.items()},
            },
        )
        for one in self._metadata_diagnostics:
            self._stream.scheduler(
                "metadata_diagnostic",
                reason=one.code,
                diagnostics={"column": one.column, "message": one.message},
            )
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
        """`start`, `periodic`, `segment` or `end`; all but `periodic` list every live task."""
        if reason == "segment" and self._ended is not None and not self._ended.done():
            self._idle.forget()
            self._wake()
        if self._stream.enabled:
            self._stream.scheduler(
                "scheduler_health_snapshot",
                snapshot=self.snapshot(reason in _FULL_KEYFRAMES),
                diagnostics={"reason": reason},
            )
        self._clockwork.note_keyframe()

    def snapshot(self, full: bool) -> dict[str, Any]:
        """The keyframe of `plans/event-stream.md` at this instant."""
        keyframe = ledger_keyframe(self._queue, self._admission, self._row_groups)
        keyframe["ready"] = self._tracker.ready_count if self._stop_cause is None else 0
        keyframe["deferred"] = len(self._deferred)
        keyframe["progress"] = {
            "rows_done": self._checkpoints.rows_done,
            "rows_dropped": self._checkpoints.rows_dropped,
            "completed_by_column": dict(self._completed),
        }
        if full:
            keyframe["tasks"] = [self._live[task_id].row() for task_id in sorted(self._live)]
        keyframe.update(self._request_keyframe(full))
        return keyframe

    # How a run stops

    def _stop(self, cause: StopCause) -> None:
        if _SEVERITY.index(cause) <= _SEVERITY.index(self._stop_cause):
            return
        self._stop_cause = cause
        self._admission.shutdown()
        for live in [one for one in self._live.values() if one.worker is None]:
            self._cancel(live, cause)
        self._note_drained()
        if cause != "drain":
            for live in self._running.values():
                assert live.worker is not None
                live.worker.cancel()
        self._wake()

    def _fail(self, message: str, crash: Exception | None = None) -> None:
        if self._stop_cause != "run_failed":
            self._message = message
            self._crash = crash
            self._stop("run_failed")

    def _conclude(self) -> RunResult:
        self._clockwork.stop()
        if self._deadline is not None:
            self._deadline.cancel()
        complete = self._row_groups.next is None and not self._row_groups.in_flight
        outcome: Outcome = "success" if complete else "cancelled"
        if self._stop_cause == "run_failed":
            outcome = "failed"
        done, dropped = self._checkpoints.rows_done, self._checkpoints.rows_dropped
        diagnostics: dict[str, Any] = {"rows_done": done, "rows_dropped": dropped}
        if self._message:
            diagnostics["message"] = self._message
        capacity = {} if self._capacity_at_end is None else self._capacity_at_end(self._peaks)
        if capacity:
            diagnostics["capacity"] = capacity
        self.emit_keyframe("end")
        self._stream.scheduler("scheduler_job_completed", reason=outcome, diagnostics=diagnostics)
        return RunResult(outcome, done, dropped, self._message, capacity)

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
                self._admit_row_groups()
                self._enqueue_ready()
                self._dispatch()
                self._use_free_slots()
        except Exception as error:
            self._fail(f"the scheduler failed: {type(error).__name__}", error)
        self._check_end()

    def _check_end(self) -> None:
        """The run is over once nothing runs, nothing is written, and nothing more may start."""
        if self._running or len(self._checkpoints) or self._pass_due:
            return
        waiting = self._row_groups.in_flight or self._row_groups.next is not None
        if self._stop_cause is None and waiting:
            if not self._live:
                self._fail("the scheduler failed", RuntimeError("no task can become ready"))
            return
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _close_row_groups(self) -> None:
        for index in self._row_groups.in_flight:
            if (
                not self._live_by_row_group[index]
                and index not in self._checkpoints
                and self._tracker.is_complete(index)
            ):
                self._checkpoints.start(self._specs[index], self._tracker.dropped_rows(index))

    def _on_written(self, spec: RowGroupSpec) -> None:
        self._row_groups.finish(spec.index)
        self._tracker.forget_row_group(spec.index)
        del self._live_by_row_group[spec.index]
        del self._correlation_of[spec.index]
        self._wake()

    def _admit_row_groups(self) -> None:
        row_groups = self._row_groups
        while (spec := row_groups.try_admit()) is not None:
            self._live_by_row_group[spec.index] = 0
            self._correlation_of[spec.index] = {}
            self._stream.scheduler(
                "row_group_admitted",
                diagnostics={
                    "row_group": spec.index,
                    "rows": spec.rows,
                    "in_flight": len(row_groups.in_flight),
                    "target": row_groups.target,
                },
            )
            self._announce(self._tracker.add_row_group(spec))
        blocked = row_groups.next
        self._peaks.note_row_groups(
            len(row_groups.in_flight), row_groups.target, () if blocked is None else _TARGET_REACHED
        )
        if blocked is not None and blocked.index != self._row_group_told:
            self._row_group_told = blocked.index
            self._stream.scheduler(
                "row_group_admission_blocked",
                reason=_TARGET_REACHED[0],
                diagnostics={
                    "next_row_group": blocked.index,
                    "in_flight": len(row_groups.in_flight),
                    "target": row_groups.target,
                },
            )

    def _use_free_slots(self) -> None:
        """Nothing is queued, so nothing more could use a slot that is free: let in more rows."""
        row_groups = self._row_groups
        before = row_groups.target
        if len(self._queue) or not row_groups.raise_target():
            return
        self._stream.scheduler(
            "row_group_admission_target_changed",
            reason="queue_empty",
            diagnostics={
                "previous": before,
                "target": row_groups.target,
                "in_flight": len(row_groups.in_flight),
            },
        )
        self._wake()

    def _announce(self, ready: Iterable[TaskPayload]) -> None:
        """Tasks whose dependencies are met become live. A run that stops takes on no more."""
        if self._stop_cause is not None:
            return
        for payload in ready:
            column = self._columns[payload.column]
            item = SchedulableTask(
                payload.task_id,
                payload,
                column.scheduling.group,
                column.scheduling.resource_request,
                column.request_resource,
            )
            live = LiveTask(item, self._correlation(payload, column.scheduling))
            self._live[item.task_id] = live
            self._live_by_row_group[payload.row_group] += 1
            self._become_ready(live)

    def _become_ready(self, live: LiveTask) -> None:
        live.ready_at = now = self._clock.monotonic()
        live.enter("ready", now)
        self._events.ready(live, now)
        self._wake()

    def _correlation(
        self, payload: TaskPayload, scheduling: ResolvedTaskScheduling
    ) -> RuntimeCorrelation:
        known = self._correlation_of[payload.row_group]
        correlation = known.get(payload.column)
        if correlation is None:
            group = scheduling.group.key
            correlation = known[payload.column] = RuntimeCorrelation(
                self._stream.run_id,
                payload.row_group,
                payload.column,
                payload.task_type,
                group.kind,
                group.identity_hash,
            )
        return correlation

    def _enqueue_ready(self) -> None:
        if not self._tracker.ready_count:
            return
        frontier = self._tracker.ready_frontier()
        accepted = self._queue.enqueue(self._live[one.task_id].item for one in frontier)
        self._tracker.mark_enqueued(accepted)
        self._had_work = self._had_work or bool(accepted)
        queued = self._queue.view()
        for task_id in accepted:
            live = self._live[task_id]
            group = live.item.group.key
            self._peaks.note_queued(group, queued.queued_in(group))
            live.enqueued_at = now = self._clock.monotonic()
            live.enter("queued", now)
            self._events.enqueued(live, now)

    def _dispatch(self) -> None:
        """The critical section: select, acquire, commit, spawn, until no head is eligible."""
        queue, admission, tell = self._queue, self._admission, self._events.tell
        passed_over = self._passed_over
        refused: set[str] = set()

        def is_eligible(item: SchedulableTask, view: QueueView) -> Eligibility:
            if item.task_id in refused:
                return Eligibility(False, "policy_denial")
            verdict = admission.is_eligible(item, view)
            if not verdict.eligible:
                passed_over.note(item, verdict)
            return verdict

        queue.reconsider_due(self._clock.monotonic())
        while (selection := queue.select_next(is_eligible)) is not None:
            item = selection.item
            live = self._live[item.task_id]
            now = self._clock.monotonic()
            passed_over.tell(item, self._live, now)
            live.enter("selected", now)
            tell("selected", live, now)
            decision = admission.try_acquire(item, selection.queue_view)
            if isinstance(decision, TaskAdmissionDenied):
                refused.add(item.task_id)
                live.enter("queued", now)
                group = {"group": item.group.key.label}
                tell("admission_denied", live, now, decision.reason, group)
                continue
            live.lease = decision
            live.acquired_at = now = decision.acquired_at
            live.enter("leased", now)
            self._events.leased(live, now, admission.debt_changed)
            self._peaks.note_leased(decision.resources.amounts, admission.leased)
            if queue.commit(selection) is None:
                live.enter("queued", self._release(live))
                tell("stale_selection", live, live.since)
                continue
            self._spawn(live)
            self._reconsider()
        passed_over.tell(None, self._live, 0.0)
        self._note_drained()
        self._idle.tell(len(self._running), len(self._deferred))
        self._watch_deadline()

    def _reconsider(self) -> None:
        """Tell the queue whom the policy may answer otherwise now."""
        turned = self._admission.take_turned()
        if turned is not None:
            self._queue.reconsider(*turned)

    def _watch_deadline(self) -> None:
        """Look again when a policy has said that a head may go on."""
        at = self._queue.next_deadline
        if at == self._deadline_at:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._deadline_at = at
        if at is not None and self._loop is not None:
            delay = max(0.0, at - self._clock.monotonic())
            self._deadline = self._loop.call_later(delay, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = self._deadline_at = None
        self._wake()

    def _spawn(self, live: LiveTask) -> None:
        assert live.lease is not None
        self._executions += 1
        execution_id = f"e{self._executions}"
        correlation = msgspec.structs.replace(live.correlation, task_execution_id=execution_id)
        try:
            worker = self._workers.spawn(partial(self._work, live.item.payload, correlation))
        except Exception as error:
            now = self._release(live)
            self._events.tell("worker_spawn_failed", live, now, type(error).__name__)
            self._forget(live)
            raise
        self._admission.note_spawned(live.lease)
        live.worker, live.execution_id, live.correlation = worker, execution_id, correlation
        live.spawned_at = now = self._clock.monotonic()
        live.enter("running", now)
        self._running[live.item.task_id] = live
        self._events.tell("worker_spawned", live, now)
        worker.add_done_callback(partial(self._worker_done, live))

    async def _work(self, payload: TaskPayload, correlation: RuntimeCorrelation) -> None:
        token = self._correlations.set(correlation)
        try:
            await self._execute(payload)
        finally:
            self._correlations.reset(token)

    # How a task ends

    def _worker_done(self, live: LiveTask, worker: WorkerHandle) -> None:
        del self._running[live.item.task_id]
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
            else:
                # Errors of our own say what may be told; of any other only the type is.
                error_type = getattr(error, "error_type", type(error).__name__)
                message = error.message if hasattr(error, "message") else ""
                self._drop(live, now, str(error_type), str(message))
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
        self._release(live)
        self._deferred[live.item.task_id] = live
        assert self._loop is not None
        live.timer = self._loop.call_later(delay, self._retry_now, live)

    def _retry_now(self, live: LiveTask) -> None:
        del self._deferred[live.item.task_id]
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
        self._note_drained()
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
        self._release(live)
        self._forget(live)

    def _cancel(self, live: LiveTask, cause: str) -> None:
        """The end of a task without a lease."""
        task_id = live.item.task_id
        if live.timer is not None:
            live.timer.cancel()
        self._deferred.pop(task_id, None)
        self._queue.discard(task_id)
        self._events.tell("cancelled", live, self._clock.monotonic(), cause)
        self._forget(live)

    def _release(self, live: LiveTask) -> float:
        """Give the lease back and let in who waited for it; returns the time of it."""
        lease = live.lease
        assert lease is not None
        result = self._admission.release(lease)
        self._queue.unpark(lease.resources.amounts, lease.item.group.key)
        self._reconsider()
        now = self._clock.monotonic()
        debts = self._admission.debt_changed if result.released else {}
        self._events.released(live, now, result, debts)
        live.close_lease()
        return now

    def _forget(self, live: LiveTask) -> None:
        del self._live[live.item.task_id]
        self._live_by_row_group[live.item.payload.row_group] -= 1

    def _note_drained(self) -> None:
        if self._had_work and not len(self._queue):
            self._had_work = False
            self._stream.scheduler("queue_drained")


def _check_limits(columns: Sequence[ColumnPlan], admission: TaskAdmissionController) -> None:
    for column in columns:
        for key, amount in column.scheduling.resource_request.amounts.items():
            limit = admission.limits.get(key, 0)
            if amount > limit:
                raise ValueError(
                    f"column {column.name!r} needs {amount} of {key.label}, the limit is {limit}"
                )
