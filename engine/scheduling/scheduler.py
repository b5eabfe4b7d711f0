"""`AsyncTaskScheduler`: the control flow readiness → queue → lease → worker → release.

The scheduler is confined to the thread of the event loop and driven by callbacks. The end of a
worker, of a checkpoint or of a back-off requests a dispatch pass for the next iteration of the
loop; requests made in the same iteration share one pass. Providers, the fair order and the ledgers
are the business of the parts that it puts to work; what is left here is one flow over all of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any

from engine.clock import Clock
from engine.events import EventStream, RuntimeCorrelation, RuntimeCorrelationProvider
from engine.rows.admission import RowGroupAdmission, RowGroups, RowGroupSpec
from engine.rows.checkpoints import Checkpoints
from engine.rows.flow import RowGroupFlow
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.conclusion import result_of
from engine.scheduling.dispatch import Dispatch
from engine.scheduling.drop_rate import DropRate
from engine.scheduling.inputs import ReportSources, SchedulerSettings, Work
from engine.scheduling.keyframe import ledger_keyframe
from engine.scheduling.keyframe_timer import KeyframeTimer
from engine.scheduling.live_tasks import LiveTask, LiveTasks
from engine.scheduling.peaks import SchedulerPeaks
from engine.scheduling.plan import (
    ColumnPlan,
    ResumedRun,
    RunResult,
    check_limits,
)
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.run_events import emit_completed, emit_started
from engine.scheduling.stopping import RequestHolds, RunStop, StopReport
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.task_outcomes import StopCause, TaskOutcomes
from engine.scheduling.tracker import CompletionTracker
from engine.scheduling.types import TaskPayload
from engine.watch.loop_watch import LoopWatch
from engine.workers.local import LocalWorkers, WorkerHandle

_DEFAULT_SETTINGS = SchedulerSettings()
_FULL_KEYFRAMES = frozenset({"start", "segment", "end"})
MAX_LISTED_TASKS = 50_000
"""With more live tasks a keyframe does not list them, since its line would take long to read."""


class AsyncTaskScheduler:
    """Runs one workflow once.

    Args:
        columns: The columns in topological order.
        row_groups: The row groups of the run, by index.
        work: What the tasks do.
        random: Source of the random part of back-off delays.
        reports: What events say on behalf of others.
        settings: What may be chosen of a run.
        loop_watch: Watches the loop during the run.
        requests: Which tasks wait for a resource that answers nobody.
        resumed: What earlier parts of the run have made; None for a run that begins.

    Raises:
        ValueError: A column needs a resource without a limit, or more than the limit.
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
        work: Work,
        stream: EventStream,
        clock: Clock,
        random: random.Random,
        reports: ReportSources,
        settings: SchedulerSettings = _DEFAULT_SETTINGS,
        loop_watch: LoopWatch | None = None,
        requests: RequestHolds | None = None,
        resumed: ResumedRun | None = None,
    ) -> None:
        check_limits(columns, admission.limits)
        self._columns = {column.name: column for column in columns}
        self._specs = row_groups
        self._tracker = CompletionTracker(columns)
        self._queue = queue
        self._admission = admission
        self._row_groups = row_group_admission
        self._work = work
        self._stream = stream
        self._clock = clock
        self._reports = reports
        self._requests = requests
        self._resumed = resumed is not None
        self._stop_state = RunStop(stream, clock, settings.stop_seconds, self.abort)
        self._salvaged = False
        self._peaks = SchedulerPeaks(admission.limits)
        self._checkpoints = Checkpoints(
            work.checkpoint,
            stream,
            self._on_written,
            self._stop_unwritten,
            None if resumed is None else resumed.written,
        )
        self._keyframe_timer = KeyframeTimer(
            stream,
            clock,
            self.emit_keyframe,
            keyframe_seconds=settings.keyframe_seconds,
            keyframe_events=settings.keyframe_events,
            heartbeat_seconds=settings.heartbeat_seconds,
            loop_watch=loop_watch,
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
            work=self._execute,
            on_end=self._on_worker_done,
            wake=self._wake,
            executions=0 if resumed is None else resumed.executions,
        )
        self._outcomes = TaskOutcomes(
            tracker=self._tracker,
            queue=queue,
            dispatch=self._dispatch,
            live=self._live,
            events=self._events,
            row_groups=row_groups,
            clock=clock,
            random=random,
            retry=settings.retry,
            on_ready_again=self._become_ready,
            on_dropped_late=self._on_dropped_late,
            drop_rate=DropRate(settings.most_dropped_share, self.stop),
            on_dropped=work.drop,
            completed_by_column={} if resumed is None else resumed.completed_by_column,
        )
        self._correlations = RuntimeCorrelationProvider()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._pass_due = False
        self._crash: Exception | None = None

    async def run(self) -> RunResult:
        """Run to the end. No lease, worker or timer remains, also when the run is cancelled.

        Raises:
            Exception: Whatever kept the scheduler itself from going on, such as a worker that could
                not be spawned; raised once everything has been released.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        emit_started(
            self._stream,
            self._specs,
            self._admission.limits,
            self._reports.metadata_diagnostics,
            self._reports.warnings,
            self._resumed,
        )
        self._stop_state.run_begins()
        self.emit_keyframe("start")
        self._keyframe_timer.start(loop)
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

    def stop(self, message: str) -> None:
        """Nothing more can succeed: as `drain`, and end as `stopped` for this reason."""
        self._stop("stopped", message)

    def drain(self) -> None:
        """Admit and dispatch nothing more, let running tasks finish for `stop_seconds`, and end as
        `cancelled`."""
        self._stop("drain")

    def abort(self) -> None:
        """As `drain`, and cancel the running tasks."""
        self._stop("abort")

    def on_held(self) -> None:
        """A task has begun to wait for a resource that answers nobody until a person acts."""
        self._wake()

    def outstanding(self) -> StopReport | None:
        """What the run still waits for; None while it is not stopping."""
        if self._stop_cause is None:
            return None
        return self._stop_state.report(self._live.running.values())

    def dropped_rows(self, row_group: int) -> frozenset[int]:
        """Global indices of the rows given up so far, of a row group in flight."""
        return self._tracker.dropped_rows(row_group)

    def emit_keyframe(self, reason: str) -> None:
        """Emit a `scheduler_health_snapshot`.

        Args:
            reason: `start`, `periodic`, `segment` or `end`. All but `periodic` list the live tasks,
                unless there are more than `MAX_LISTED_TASKS`.
        """
        if reason == "segment" and self._ended is not None and not self._ended.done():
            self._dispatch.idle.reset()
            self._wake()
        if self._stream.scheduler_enabled:
            self._stream.scheduler(
                "scheduler_health_snapshot",
                snapshot=self.snapshot(
                    reason in _FULL_KEYFRAMES and len(self._live) <= MAX_LISTED_TASKS
                ),
                diagnostics={"reason": reason},
            )
        self._keyframe_timer.note_keyframe()

    def snapshot(self, full: bool) -> dict[str, Any]:
        """The keyframe of `plans/event-stream.md` at this instant."""
        keyframe = ledger_keyframe(self._queue, self._admission, self._row_groups)
        keyframe["ready"] = self._tracker.ready_count if self._stop_cause is None else 0
        keyframe["deferred"] = len(self._live.deferred)
        keyframe["progress"] = {
            "rows_done": self._checkpoints.rows_done,
            "rows_dropped": self._checkpoints.rows_dropped,
            "completed_by_column": dict(self._outcomes.completed_by_column),
        }
        if full:
            keyframe["tasks"] = self._live.rows()
        keyframe.update(self._reports.request_keyframe(full))
        return keyframe

    # Stopping

    @property
    def _stop_cause(self) -> StopCause | None:
        return self._stop_state.cause

    def _stop(self, cause: StopCause, message: str = "") -> None:
        if not self._stop_state.begin(cause, message, len(self._live.running)):
            return
        self._admission.shutdown()
        for live in self._live.without_worker():
            self._outcomes.cancel(live, cause)
        self._dispatch.idle.note_drained()
        if self._requests is not None:
            self._requests.drain()
        if not self._stop_state.lets_tasks_end:
            for live in self._live.running.values():
                assert live.worker is not None
                live.worker.cancel()
        self._wake()

    def _fail(self, message: str, crash: Exception | None = None) -> None:
        if self._stop_cause != "run_failed":
            self._crash = crash
            self._stop("run_failed", message)

    def _stop_unwritten(self) -> None:
        self._stop("run_failed")
        self._wake()  # another row group may have stopped the run already; this may be its end

    def _stop_if_held(self) -> None:
        """Stop once every task that could go on waits for what only a person can mend."""
        live = self._live
        if self._requests is None or self._stop_cause is not None or self._pass_due:
            return
        if not live.running or live.deferred or len(self._checkpoints):
            return
        if self._requests.held_attempts() >= len(live.running):
            self.stop(self._requests.why_held())

    def _salvage(self) -> None:
        """Write the finished rows of the row groups that the stop left open."""
        self._salvaged = True
        for index in self._row_groups.in_flight:
            spec, dropped = self._specs[index], self._tracker.dropped_rows(index)
            unfinished = self._tracker.unfinished_rows(index)
            if index not in self._checkpoints.failed and (
                len(dropped) + len(unfinished) < spec.rows
            ):
                self._checkpoints.start(spec, dropped, unfinished)

    def _conclude(self) -> RunResult:
        self._keyframe_timer.stop()
        self._dispatch.stop()
        self._stop_state.end()
        capacity_at_end = self._reports.capacity_at_end
        capacity = None if capacity_at_end is None else capacity_at_end(self._peaks)
        result = result_of(
            self._stop_state,
            self._checkpoints,
            self._row_groups,
            self._specs,
            self._tracker,
            capacity,
        )
        self.emit_keyframe("end")
        emit_completed(self._stream, result)
        return result

    # Dispatch passes

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
                    restored = self._work.restore(spec)
                    self._announce(self._tracker.add_row_group(spec, restored))
                    if restored is not None:
                        self._wake()  # all of it may be made already
                self._enqueue_ready()
                self._dispatch.run()
                if not len(self._queue) and self._flow.use_free_slots():
                    self._wake()
        except Exception as error:
            self._fail(f"the scheduler failed: {type(error).__name__}", error)
        self._check_end()

    def _check_end(self) -> None:
        """End the run once nothing runs, nothing is being written and nothing more may start."""
        self._stop_if_held()
        if self._live.running or len(self._checkpoints) or self._pass_due:
            return
        waiting = self._row_groups.in_flight or self._row_groups.next is not None
        if self._stop_cause is None and waiting:
            if not len(self._live):
                self._fail("the scheduler failed", RuntimeError("no task can become ready"))
            return
        if self._stop_cause is not None and not self._salvaged:
            self._salvage()
            if len(self._checkpoints):
                return
        if self._requests is not None and not self._requests.finish(self._wake):
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
        """Make tasks live whose dependencies are met; a run that stops takes on no more."""
        if self._stop_cause is not None:
            return
        for payload in ready:
            live = self._live.add(payload, self._columns[payload.column])
            self._become_ready(live)

    def _on_dropped_late(self, ready: Iterable[TaskPayload]) -> None:
        self._announce(ready)
        self._wake()

    def _become_ready(self, live: LiveTask) -> None:
        live.ready_at = now = self._clock.monotonic()
        live.enter("ready", now)
        self._events.ready(live, now)
        self._wake()

    def _enqueue_ready(self) -> None:
        if not self._tracker.ready_count:
            return
        frontier = self._tracker.ready_frontier()
        accepted = self._queue.enqueue(self._live[payload.task_id].item for payload in frontier)
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

    async def _execute(self, payload: TaskPayload, correlation: RuntimeCorrelation) -> None:
        token = self._correlations.set(correlation)
        try:
            await self._work.execute(payload)
        finally:
            self._correlations.reset(token)

    def _on_worker_done(self, live: LiveTask, worker: WorkerHandle) -> None:
        del self._live.running[live.item.task_id]
        try:
            self._announce(self._outcomes.worker_ended(live, worker, self._stop_cause))
        except Exception as failure:
            self._fail(f"the scheduler failed: {type(failure).__name__}", failure)
        self._wake()
