"""One scheduler with scripted tasks under virtual time, and what can be counted about its run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from engine.clock import LoopClock
from engine.events import (
    Event,
    EventSink,
    EventStream,
    RunInfo,
    RuntimeCorrelation,
    RuntimeCorrelationProvider,
    SchedulerEvent,
)
from engine.identity import RequestResourceKey, SchedulerResourceKey, TaskGroupKey
from engine.rows.admission import RowGroupAdmission, RowGroups, RowGroupSpec
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.inputs import ReportSources, SchedulerSettings
from engine.scheduling.plan import ColumnPlan, RetryPolicy, RunResult
from engine.scheduling.policy import StrictFairTaskAdmissionPolicy, TaskAdmissionPolicy
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.resolver import MetadataDiagnostic
from engine.scheduling.scheduler import AsyncTaskScheduler
from engine.scheduling.stopping import RequestHolds
from engine.scheduling.task_outcomes import DroppedTask
from engine.scheduling.types import (
    ResolvedTaskScheduling,
    SchedulerResourceRequest,
    TaskGroupSpec,
    TaskPayload,
)
from engine.virtual_time import DeadlockError, run_virtual
from engine.watch.loop_watch import LoopWatch
from engine.workers.local import LocalWorkers
from replay.verify.report import results
from replay.verify.verifier import Verifier
from tests.engine_run import ListSink
from tests.verified import verify_events

SLOT = SchedulerResourceKey("submission")
FAR = 1e6
"""Virtual seconds after which a run counts as stuck."""
WHOLE_LIFE = [
    "dependency_ready",
    "ready_enqueued",
    "selected",
    "task_lease_acquired",
    "worker_spawned",
    "task_completed",
    "task_lease_released",
]
"""The events of a task that succeeds at once."""

Execute = Callable[[TaskPayload], Awaitable[None]]


class Broken(AssertionError):
    """A run that broke what must hold after any; `invariants` names what."""

    def __init__(self, invariant: str, message: str, *more: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariants = {invariant, *more}


class CountingWorkers(LocalWorkers):
    """Checks at every spawn that a lease is there for it."""

    def __init__(self) -> None:
        self.spawned = 0
        self.fail_at: int | None = None
        self.admission: TaskAdmissionController | None = None

    def spawn(self, coro_factory: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        assert self.admission is not None
        running = sum(self.admission.view().running.values())
        if running >= self.admission.active_leases:
            raise Broken("hidden_waiters", "a worker without a lease")
        if self.spawned == self.fail_at:
            raise OSError("no more workers")
        self.spawned += 1
        return super().spawn(coro_factory)


def column(
    name: str,
    depends_on: tuple[str, ...] = (),
    task_type: Literal["cell", "batch"] = "cell",
    *,
    weight: float = 1.0,
    needs: Mapping[str, int] | None = None,
    limit: int | None = None,
    request_resource: RequestResourceKey | None = None,
) -> ColumnPlan:
    """`needs` names local resources besides the one submission slot that every task takes."""
    amounts = {SLOT: 1}
    amounts.update({SchedulerResourceKey("local", item): n for item, n in (needs or {}).items()})
    return ColumnPlan(
        name,
        task_type,
        depends_on,
        ResolvedTaskScheduling(
            TaskGroupSpec(TaskGroupKey("local", ("local", "default", name)), weight, limit),
            SchedulerResourceRequest(amounts),
        ),
        request_resource,
    )


async def nothing(payload: TaskPayload) -> None:
    """Done at once."""


def takes(seconds: float) -> Execute:
    async def execute(payload: TaskPayload) -> None:
        await asyncio.sleep(seconds)

    return execute


class RequestSide(Protocol):
    """What a run has beside its scheduler: the tasks' work, and its own part of a keyframe."""

    @property
    def holds(self) -> RequestHolds: ...

    def began(self, scheduler: AsyncTaskScheduler) -> None:
        """The scheduler is made, and will run."""

    async def stop(self) -> None:
        """The run is over: end what goes on."""

    async def execute(self, payload: TaskPayload) -> None: ...

    def keyframe(self, full: bool) -> dict[str, Any]: ...

    def close(self) -> None:
        """The run is over: raises `Broken` where anything is left."""


@dataclass
class Setting:
    """Everything a run is made of. `at` runs callbacks at virtual times."""

    columns: Sequence[ColumnPlan]
    records: int = 10
    buffer_size: int = 10
    row_groups: int = 2
    slots: int = 4
    local: Mapping[str, int] = field(default_factory=dict)
    execute: Execute = nothing
    checkpoint: Callable[[int, frozenset[int]], Awaitable[None]] | None = None
    policy: TaskAdmissionPolicy = field(default_factory=StrictFairTaskAdmissionPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    seed: int = 1
    listening: bool = True
    streams: Literal["both", "scheduler", "request"] = "both"
    spawn_fails_at: int | None = None
    heartbeat_seconds: float = FAR * 10
    keyframe_seconds: float = 1.0
    keyframe_events: int = 5000
    loop_watch: LoopWatch | None = None
    adaptive_row_groups: bool = False
    metadata_diagnostics: Sequence[MetadataDiagnostic] = ()
    warnings: Sequence[tuple[str, str]] = ()
    stop_seconds: float | None = None
    most_dropped_share: float | None = None
    holds: RequestHolds | None = None
    at: Mapping[float, Callable[[Run], object]] = field(default_factory=dict)
    policy_of: Callable[[Run], TaskAdmissionPolicy] | None = None
    """Makes the policy where it needs the request side; `policy` does not count then."""
    requests: Callable[[Run], RequestSide] | None = None
    """Makes the request side; `execute` is not asked then."""
    sinks: Sequence[EventSink] = ()
    """More listeners."""
    horizon: float = FAR


class Run:
    """A finished run: its result (or error), events, and what is left in queue and ledger."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.result: RunResult | None = None
        self.error: BaseException | None = None
        self.checkpoints: dict[int, frozenset[int]] = {}
        self.requests: RequestSide | None = None
        self.executed: list[TaskPayload] = []
        self.correlations: list[RuntimeCorrelation | None] = []
        self.ended_at = 0.0
        self.unhandled: list[dict[str, Any]] = []
        """What asyncio would only have logged."""
        self.events: list[Event] = []

    async def go(self) -> None:
        setting = self.setting
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.unhandled.append(context))
        clock = self.clock = LoopClock(loop, 0.0)
        sink = ListSink()
        sinks = [sink, *setting.sinks] if setting.listening else []
        self.stream = EventStream(
            clock,
            "run",
            sinks if setting.streams == "both" else (),
            loop.call_soon,
            scheduler_sinks=sinks if setting.streams == "scheduler" else (),
            request_sinks=sinks if setting.streams == "request" else (),
        )
        self.queue = FairTaskQueue()
        if setting.requests is not None:
            self.requests = setting.requests(self)
        policy = setting.policy if setting.policy_of is None else setting.policy_of(self)
        limits = {SLOT: setting.slots}
        limits.update({SchedulerResourceKey("local", item): n for item, n in setting.local.items()})
        self.admission = TaskAdmissionController(limits, policy, clock)
        self.workers = CountingWorkers()
        self.workers.admission = self.admission
        self.workers.fail_at = setting.spawn_fails_at
        groups = RowGroups(setting.records, setting.buffer_size)
        self.row_groups = RowGroupAdmission(setting.row_groups, groups, setting.adaptive_row_groups)
        self.scheduler = AsyncTaskScheduler(
            columns=setting.columns,
            row_groups=groups,
            queue=self.queue,
            admission=self.admission,
            row_group_admission=self.row_groups,
            workers=self.workers,
            work=self,
            stream=self.stream,
            clock=clock,
            random=random.Random(setting.seed),
            reports=ReportSources(
                _no_requests if self.requests is None else self.requests.keyframe,
                setting.metadata_diagnostics,
                setting.warnings,
            ),
            settings=SchedulerSettings(
                setting.retry,
                setting.keyframe_seconds,
                setting.keyframe_events,
                setting.heartbeat_seconds,
                setting.stop_seconds,
                setting.most_dropped_share,
            ),
            loop_watch=setting.loop_watch,
            requests=setting.holds if self.requests is None else self.requests.holds,
        )
        if self.requests is not None:
            self.requests.began(self.scheduler)
        for when, callback in setting.at.items():
            loop.call_at(when, callback, self)
        self.task = asyncio.ensure_future(self.scheduler.run())
        try:
            self.result = await asyncio.wait_for(asyncio.shield(self.task), setting.horizon)
        except (asyncio.CancelledError, TimeoutError, Exception) as error:
            self.error = error
        self.ended_at = loop.time()
        if not self.task.done():
            # Without its timers a run that is stuck can't keep the loop going for ever.
            self.scheduler._keyframe_timer.stop()
        if self.task.done() and self.requests is not None:
            await self.requests.stop()
            self.requests.close()
        self.tasks_left = len(asyncio.all_tasks()) - 1
        self.stream.flush()
        self.events = sink.events

    async def execute(self, payload: TaskPayload) -> None:
        self.executed.append(payload)
        self.correlations.append(RuntimeCorrelationProvider().current())
        execute = self.setting.execute if self.requests is None else self.requests.execute
        await execute(payload)

    async def checkpoint(self, row_group: int, left_out: frozenset[int]) -> None:
        if self.setting.checkpoint is not None:
            await self.setting.checkpoint(row_group, left_out)
        assert row_group not in self.checkpoints
        self.checkpoints[row_group] = left_out

    def restore(self, spec: RowGroupSpec) -> None:
        """No row was made before."""

    def drop(self, task: DroppedTask) -> None:
        """Its events tell."""

    def scheduler_events(self, *kinds: str) -> list[SchedulerEvent]:
        return [
            event
            for event in self.events
            if isinstance(event, SchedulerEvent) and (not kinds or event.event_kind in kinds)
        ]

    def kinds_of(self, task_id: str) -> list[str]:
        return [event.event_kind for event in self.scheduler_events() if event.task_id == task_id]

    def lines(self) -> bytes:
        return msgspec.json.encode(self.events)


def run(setting: Setting, shuffle: random.Random | None = None) -> Run:
    """Runs under virtual time and checks what must hold after any run. Raises `Broken`."""
    ran = Run(setting)
    try:
        run_virtual(ran.go(), shuffle=shuffle)
    except DeadlockError as error:
        raise Broken("deadlock", f"{error}, at {ran.ended_at:g} s") from error
    check(ran)
    return ran


def check(ran: Run) -> Verifier | None:
    """The run ended, nothing is left, and its stream breaks no rule. Raises `Broken`."""
    verifier = None
    broken: dict[str, str] = {}
    if isinstance(ran.error, TimeoutError):
        broken["deadlock"] = f"the run still goes on at {ran.ended_at:g} s"
    elif isinstance(ran.error, Broken):
        broken.update(dict.fromkeys(ran.error.invariants, str(ran.error)))
    elif some := _left_behind(ran):
        broken["left_behind"] = some
    if ran.unhandled:
        broken["exception"] = str(ran.unhandled[0])
    if ran.setting.listening:
        verifier = verify_events(RunInfo("run", "test", records=ran.setting.records), ran.events)
        for result in results(verifier.book):
            for deviation in result.deviations:
                broken.setdefault(
                    result.rule, f"{deviation.what}: {deviation.examples[0].sentence}"
                )
        spawned = verifier.counts.get("worker_spawned", 0)
        if spawned != ran.workers.spawned:
            broken.setdefault("hidden_waiters", f"{ran.workers.spawned} workers, {spawned} told")
    for invariant, message in broken.items():
        raise Broken(invariant, message, *broken)
    return verifier


def _left_behind(ran: Run) -> str:
    view = ran.admission.view()
    left = {
        "leases": ran.admission.active_leases,
        "queued": len(ran.queue),
        "units": {key.label: n for key, n in view.leased.items() if n},
        "missing": {k.label: n for k, n in view.available.items() if n != view.limits[k]},
        "running": dict(view.running),
        "debt": dict(view.debt_by_group),
        "tasks": ran.scheduler.snapshot(True)["tasks"],
        "asyncio tasks": ran.tasks_left,
        "refused releases": ran.admission.release_diagnostics,
    }
    some = {name: what for name, what in left.items() if what}
    return str(some) if some else ""


def _no_requests(full: bool) -> dict[str, Any]:
    return {"requests": {}, "aggregates": {}} | ({"attempts": []} if full else {})
