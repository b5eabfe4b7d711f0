"""`Dispatch`: which queued tasks become workers now?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from engine.clock import Clock
from engine.events import EventStream, RuntimeCorrelation
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.advisory_skips import AdvisorySkips
from engine.scheduling.decisions import TaskAdmissionDenied
from engine.scheduling.idle import IdleReport
from engine.scheduling.live_tasks import LiveTask, LiveTasks
from engine.scheduling.peaks import SchedulerPeaks
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.types import Eligibility, SchedulableTask, TaskPayload
from engine.scheduling.views import QueueView
from engine.workers.local import LocalWorkers, WorkerHandle

Work = Callable[[TaskPayload, RuntimeCorrelation], Coroutine[Any, Any, None]]


class Dispatch:
    """Selects, acquires, commits and spawns without an await until no head is eligible, and
    releases leases, which wakes the groups that waited for them.

    Args:
        work: The coroutine function that a worker runs.
        on_end: Called with every task whose worker has ended.
        wake: Requests another pass, at the time that a policy gave for a head.
        executions: Executions that the run has had before, whose ids are taken.
    """

    def __init__(
        self,
        *,
        queue: FairTaskQueue,
        admission: TaskAdmissionController,
        workers: LocalWorkers,
        live: LiveTasks,
        stream: EventStream,
        events: TaskEvents,
        peaks: SchedulerPeaks,
        clock: Clock,
        work: Work,
        on_end: Callable[[LiveTask, WorkerHandle], None],
        wake: Callable[[], None],
        executions: int = 0,
    ) -> None:
        self.idle = IdleReport(stream, queue, admission, clock)
        self._queue = queue
        self._admission = admission
        self._workers = workers
        self._live = live
        self._events = events
        self._peaks = peaks
        self._clock = clock
        self._work = work
        self._on_end = on_end
        self._wake = wake
        self._skips = AdvisorySkips(events)
        self._executions = executions
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_at: float | None = None

    def run(self) -> None:
        """Make one pass.

        Raises:
            Exception: Whatever kept a worker from being spawned; its lease has been released.
        """
        queue, admission, tell = self._queue, self._admission, self._events.emit
        skips = self._skips
        refused: set[str] = set()

        def is_eligible(item: SchedulableTask, view: QueueView) -> Eligibility:
            if item.task_id in refused:
                return Eligibility(False, "policy_denial")
            verdict = admission.is_eligible(item, view)
            if not verdict.eligible:
                skips.note(item, verdict)
            return verdict

        queue.reconsider_due(self._clock.monotonic())
        while (selection := queue.select_next(is_eligible)) is not None:
            item = selection.item
            live = self._live[item.task_id]
            now = self._clock.monotonic()
            skips.report(item, self._live, now)
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
                live.enter("queued", self.release(live))
                tell("stale_selection", live, live.since)
                continue
            self._spawn(live)
            self._reconsider()
        skips.report(None, self._live, 0.0)
        self.idle.note_drained()
        self.idle.report(len(self._live.running), len(self._live.deferred))
        self._watch_deadline()

    def release(self, live: LiveTask) -> float:
        """Release the lease of a task and wake the groups that waited for its units.

        Returns:
            When it was released, in monotonic seconds.
        """
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

    def stop(self) -> None:
        """Cancel the timer; no pass follows."""
        if self._deadline is not None:
            self._deadline.cancel()

    def _spawn(self, live: LiveTask) -> None:
        assert live.lease is not None
        self._executions += 1
        execution_id = f"e{self._executions}"
        correlation = msgspec.structs.replace(live.correlation, task_execution_id=execution_id)
        try:
            worker = self._workers.spawn(partial(self._work, live.item.payload, correlation))
        except Exception as error:
            now = self.release(live)
            self._events.emit("worker_spawn_failed", live, now, type(error).__name__)
            self._live.forget(live)
            raise
        self._admission.note_spawned(live.lease)
        live.worker, live.execution_id, live.correlation = worker, execution_id, correlation
        live.spawned_at = now = self._clock.monotonic()
        live.enter("running", now)
        self._live.running[live.item.task_id] = live
        self._events.emit("worker_spawned", live, now)
        worker.add_done_callback(partial(self._on_end, live))

    def _reconsider(self) -> None:
        """Have the queue re-evaluate the heads that the policy may decide otherwise about."""
        changes = self._admission.take_policy_changes()
        if changes is not None:
            self._queue.reconsider(*changes)

    def _watch_deadline(self) -> None:
        """Set the timer for the earliest time at which a policy may admit a head."""
        at = self._queue.next_deadline
        if at == self._deadline_at:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._deadline_at = at
        if at is not None:
            delay = max(0.0, at - self._clock.monotonic())
            self._deadline = asyncio.get_running_loop().call_later(delay, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = self._deadline_at = None
        self._wake()
