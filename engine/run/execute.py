"""`execute_run`: runs a plan."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from engine.capacity_plan import AsyncCapacityPlan
from engine.clock import Clock
from engine.events import EventStream
from engine.events.continuation import Continuation, LastIds
from engine.models.health import check_health
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.rows.admission import RowGroupAdmission
from engine.rows.parquet import RowGroupWriter
from engine.rows.run_store import RunStore
from engine.run.capacity_values import capacity_at_end
from engine.run.plan import RunPlan
from engine.run.request_side import RequestSide
from engine.run.row_work import ResumedRows, RowWork
from engine.run.spending import Spending, read_spent
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.config import build_policy
from engine.scheduling.inputs import ReportSources, SchedulerSettings
from engine.scheduling.peaks import SchedulerPeaks
from engine.scheduling.plan import ResumedRun, RetryPolicy, RunResult
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.run_events import emit_resumed
from engine.scheduling.scheduler import AsyncTaskScheduler
from engine.scheduling.stopping import StopReport
from engine.watch.loop_watch import LoopWatch
from engine.workers.local import LocalWorkers
from engine.workflow.columns.generator import ColumnGenerator
from engine.workflow.schema import RunSettings, Workflow

_OWN_FOLDERS = tuple(
    str(Path(__file__).parents[2] / wing) + os.sep for wing in ("engine", "replay", "console")
)


@dataclass(frozen=True)
class GoingOn:
    """How a run goes on after an interruption."""

    continuation: Continuation
    resumes: int
    """How often it has been resumed, this time included."""
    paused_seconds: float | None
    retry_dropped: bool = False


class RunControl:
    """Stops a run from outside: the first `stop` drains it, the second aborts it. Before the
    scheduler runs, the first one ends whatever is done then."""

    def __init__(self) -> None:
        self._scheduler: AsyncTaskScheduler | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._stops = 0

    def attach(self, scheduler: AsyncTaskScheduler) -> None:
        """The run has begun. A stop that came before takes effect at once."""
        self._scheduler = scheduler
        if self._stops:
            scheduler.drain()
        if self._stops > 1:
            scheduler.abort()

    async def interruptible(self, work: Coroutine[Any, Any, None]) -> bool:
        """Await `work`; False if it was stopped."""
        task = self._preparing = asyncio.get_running_loop().create_task(work)
        if self._stops:
            task.cancel()
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            self._preparing = None
        if task.cancelled():
            return False
        task.result()
        return True

    def emit_keyframe(self, reason: str) -> None:
        if self._scheduler is not None:
            self._scheduler.emit_keyframe(reason)

    def outstanding(self) -> StopReport | None:
        """What a run that stops still waits for."""
        return None if self._scheduler is None else self._scheduler.outstanding()

    def stop(self) -> None:
        """Asks the run to end: at the first call running tasks go on, the second cancels them."""
        self._stops += 1
        if self._preparing is not None:
            self._preparing.cancel()
        if self._scheduler is None:
            return
        if self._stops == 1:
            self._scheduler.drain()
        else:
            self._scheduler.abort()


async def execute_run(
    plan: RunPlan,
    stream: EventStream,
    clock: Clock,
    *,
    dataset: Path | None = None,
    control: RunControl,
    inline: bool = False,
    keyframe_seconds: float = 1.0,
    store: RunStore | None = None,
    going_on: GoingOn | None = None,
) -> RunResult:
    """Run a plan to its end on the running loop.

    Args:
        plan: What is run.
        stream: Takes the events.
        clock: Shows the time of the running loop.
        dataset: Folder for the Parquet files; None to discard the rows.
        control: Stops the run.
        inline: Write files on the loop instead of in a thread, as virtual time demands.
        keyframe_seconds: Seconds between keyframes, and between heartbeats.
        store: Keeps the cells that are made, so that the run can go on after an interruption.
        going_on: Where earlier parts of the run ended, whose cells are in `store`; None for a run
            that begins.

    Raises:
        UserError: Something is wrong that only shows now, such as a missing key or a folder that
            can't be written; raised before any work starts.
    """
    spending = _spending(plan.workflow, store)
    if store is not None:
        store.on_unkept = _tell_of_unkept(stream)
    ids = LastIds() if going_on is None else going_on.continuation.ids
    requests = RequestSide(plan, stream, clock, ids, spending.add)
    writer = RowGroupWriter(dataset, plan.workflow.output_columns) if dataset else None
    retries = going_on is not None and going_on.retry_dropped
    work = RowWork(plan, requests.caller, writer, store, retry_dropped=retries, inline=inline)
    made = None if going_on is None else work.resumed()
    resumed = None if made is None or going_on is None else _resumed(going_on, made, clock.wall())
    if resumed is not None:
        emit_resumed(stream, plan.row_groups, plan.limits, resumed)
    scheduler = AsyncTaskScheduler(
        columns=plan.columns,
        row_groups=plan.row_groups,
        queue=FairTaskQueue(),
        admission=TaskAdmissionController(
            plan.limits,
            build_policy(plan.task_admission, requests.admission.pressure),
            clock,
            issued=ids.task_leases,
        ),
        row_group_admission=RowGroupAdmission(
            plan.workflow.run.max_concurrent_row_groups,
            plan.row_groups,
            plan.task_admission.adaptive_row_groups,
            frozenset() if made is None else made.finished,
        ),
        workers=LocalWorkers(),
        work=work,
        stream=stream,
        clock=clock,
        random=random.Random(plan.workflow.seed),
        reports=_reports(plan, requests.admission),
        settings=_settings(plan.workflow.run, keyframe_seconds),
        loop_watch=None if inline else _loop_watch(stream),
        requests=requests.watch,
        resumed=resumed,
    )
    requests.admission.outages.on_held = scheduler.on_held
    spending.on_exceeded = scheduler.stop
    requests.register()
    try:
        if plan.workflow.run.health_check:
            health = check_health(requests.caller, plan.health_requests())
            if not await control.interruptible(health):
                return RunResult("cancelled", 0, 0, "stopped during the health check")
        control.attach(scheduler)
        spending.check()
        return await scheduler.run()
    finally:
        await requests.close()


def _settings(run: RunSettings, keyframe_seconds: float) -> SchedulerSettings:
    return SchedulerSettings(
        retry=RetryPolicy(max_attempts=run.max_attempts),
        keyframe_seconds=keyframe_seconds,
        heartbeat_seconds=keyframe_seconds,
        stop_seconds=run.stop_seconds,
        most_dropped_share=run.stop_at_drop_share,
    )


def _reports(plan: RunPlan, admission: AdaptiveRequestAdmissionController) -> ReportSources:
    def capacity(peaks: SchedulerPeaks) -> AsyncCapacityPlan:
        return capacity_at_end(plan.capacity, admission.pressure, peaks)

    return ReportSources(admission.keyframe, plan.metadata_diagnostics, plan.warnings, capacity)


def _spending(workflow: Workflow, store: RunStore | None) -> Spending:
    """Counts from where earlier parts of the run have left it."""
    before = read_spent(b"" if store is None else store.spent)
    spending = Spending(before, workflow.run.max_tokens, workflow.run.max_cost)
    if store is not None:
        spending.on_change = lambda spent: store.note_spent(msgspec.msgpack.encode(spent))
    return spending


def _tell_of_unkept(stream: EventStream) -> Callable[[str], None]:
    """A warning for the first value of each column that an interruption would lose."""
    reported: set[str] = set()

    def tell(column: str) -> None:
        if column not in reported:
            reported.add(column)
            message = (
                f'values of column "{column}" are of a type that can\'t be kept, so that they are '
                "made again after an interruption"
            )
            stream.scheduler(
                "run_warning", reason="unkept_values", diagnostics={"message": message}
            )

    return tell


def _resumed(going_on: GoingOn, made: ResumedRows, wall: float) -> ResumedRun:
    return ResumedRun(
        going_on.resumes,
        going_on.paused_seconds,
        made.written,
        made.completed,
        len(made.finished),
        made.open_cells,
        going_on.continuation.ids.executions,
        wall,
    )


def _loop_watch(stream: EventStream) -> LoopWatch:
    def emit(kind: str, at: float, reason: str, payload: dict[str, Any]) -> None:
        stream.outside_numbering(kind, at, reason, payload)

    clock = asyncio.get_running_loop().time
    return LoopWatch(emit, column_of=_column_of, own_folders=_OWN_FOLDERS, clock=clock)


def _column_of(frame: FrameType) -> str | None:
    """The column for which a generator's frame works."""
    if "self" not in frame.f_code.co_varnames:
        return None
    generator = frame.f_locals.get("self")
    return generator.column if isinstance(generator, ColumnGenerator) else None
