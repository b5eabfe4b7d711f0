"""One scheduler with scripted tasks under virtual time, and what can be counted about its run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from engine.clock import LoopClock
from engine.events import (
    Event,
    EventStream,
    RunInfo,
    RuntimeCorrelation,
    RuntimeCorrelationProvider,
    SchedulerEvent,
)
from engine.identity import RequestResourceKey, SchedulerResourceKey, TaskGroupKey
from engine.row_groups import RowGroupAdmission, split_rows
from engine.scheduler import AsyncTaskScheduler, ColumnPlan, RetryPolicy, RunResult
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.policy import StrictFairTaskAdmissionPolicy, TaskAdmissionPolicy
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.resolver import MetadataDiagnostic
from engine.scheduling.types import (
    ResolvedTaskScheduling,
    SchedulerResourceRequest,
    TaskGroupSpec,
    TaskPayload,
)
from engine.virtual_time import run_virtual
from engine.workers.local import LocalWorkers
from replay.reducer import begin, reduce, to_keyframe

SLOT = SchedulerResourceKey("submission")
FAR = 1e6
"""Virtual seconds after which a run counts as stuck."""

Execute = Callable[[TaskPayload], Awaitable[None]]


class ListSink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(events)


class CountingWorkers(LocalWorkers):
    """Checks at every spawn that a lease is there for it."""

    def __init__(self) -> None:
        self.spawned = 0
        self.fail_at: int | None = None
        self.admission: TaskAdmissionController | None = None

    def spawn(self, coro_factory: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        assert self.admission is not None
        running = sum(self.admission.view().running.values())
        assert running < self.admission.active_leases, "a worker without a lease"
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
    amounts.update({SchedulerResourceKey("local", one): n for one, n in (needs or {}).items()})
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
    spawn_fails_at: int | None = None
    heartbeat_seconds: float = FAR * 10
    keyframe_seconds: float = 1.0
    keyframe_events: int = 5000
    cpu_seconds: Callable[[], float] | None = None
    adaptive_row_groups: bool = False
    metadata_diagnostics: Sequence[MetadataDiagnostic] = ()
    at: Mapping[float, Callable[[Run], object]] = field(default_factory=dict)


class Run:
    """A finished run: its result (or error), events, and what is left in queue and ledger."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.result: RunResult | None = None
        self.error: BaseException | None = None
        self.checkpoints: dict[int, frozenset[int]] = {}
        self.executed: list[TaskPayload] = []
        self.correlations: list[RuntimeCorrelation | None] = []
        self.ended_at = 0.0
        self.events: list[Event] = []

    async def go(self) -> None:
        setting = self.setting
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, 0.0)
        sink = ListSink()
        sinks = [sink] if setting.listening else []
        self.stream = EventStream(clock, "run", sinks, loop.call_soon)
        self.queue = FairTaskQueue()
        limits = {SLOT: setting.slots}
        limits.update({SchedulerResourceKey("local", one): n for one, n in setting.local.items()})
        self.admission = TaskAdmissionController(limits, setting.policy, clock)
        self.workers = CountingWorkers()
        self.workers.admission = self.admission
        self.workers.fail_at = setting.spawn_fails_at
        groups = split_rows(setting.records, setting.buffer_size)
        self.row_groups = RowGroupAdmission(setting.row_groups, groups, setting.adaptive_row_groups)
        self.scheduler = AsyncTaskScheduler(
            columns=setting.columns,
            row_groups=groups,
            queue=self.queue,
            admission=self.admission,
            row_group_admission=self.row_groups,
            workers=self.workers,
            execute=self._execute,
            checkpoint=self._checkpoint,
            stream=self.stream,
            clock=clock,
            random=random.Random(setting.seed),
            retry=setting.retry,
            request_keyframe=lambda full: (
                {"requests": {}, "aggregates": {}} | ({"attempts": []} if full else {})
            ),
            keyframe_seconds=setting.keyframe_seconds,
            keyframe_events=setting.keyframe_events,
            heartbeat_seconds=setting.heartbeat_seconds,
            cpu_seconds=setting.cpu_seconds,
            metadata_diagnostics=setting.metadata_diagnostics,
        )
        for when, callback in setting.at.items():
            loop.call_at(when, callback, self)
        self.task = asyncio.ensure_future(self.scheduler.run())
        try:
            self.result = await asyncio.wait_for(asyncio.shield(self.task), FAR)
        except (asyncio.CancelledError, TimeoutError, Exception) as error:
            self.error = error
        self.ended_at = loop.time()
        self.stream.flush()
        self.events = sink.events

    async def _execute(self, payload: TaskPayload) -> None:
        self.executed.append(payload)
        self.correlations.append(RuntimeCorrelationProvider().current())
        await self.setting.execute(payload)

    async def _checkpoint(self, row_group: int, dropped: frozenset[int]) -> None:
        if self.setting.checkpoint is not None:
            await self.setting.checkpoint(row_group, dropped)
        assert row_group not in self.checkpoints
        self.checkpoints[row_group] = dropped

    def told(self, *kinds: str) -> list[SchedulerEvent]:
        return [
            event
            for event in self.events
            if isinstance(event, SchedulerEvent) and (not kinds or event.event_kind in kinds)
        ]

    def kinds_of(self, task_id: str) -> list[str]:
        return [event.event_kind for event in self.told() if event.task_id == task_id]

    def lines(self) -> bytes:
        return msgspec.json.encode(self.events)


def run(setting: Setting, shuffle: random.Random | None = None) -> Run:
    """Runs under virtual time and checks what must hold after any run."""
    one = Run(setting)
    run_virtual(one.go(), shuffle=shuffle)
    assert not isinstance(one.error, TimeoutError), "the run is stuck"
    check(one)
    return one


def check(one: Run) -> None:
    """Nothing is left, every lease has exactly one release, and the fold agrees."""
    assert one.admission.active_leases == 0
    assert len(one.queue) == 0
    view = one.admission.view()
    assert view.available == view.limits
    assert view.running == {}
    assert one.admission.release_diagnostics == {}
    assert one.scheduler.snapshot(True)["tasks"] == []
    if one.setting.listening:
        _check_sequence(one)
        _check_leases(one)
        _check_idle(one)
        _check_fold(one)


def _check_sequence(one: Run) -> None:
    events = one.told()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    times = [event.captured_at_monotonic for event in events]
    assert times == sorted(times)
    assert events[0].event_kind == "scheduler_job_started"
    assert events[-1].event_kind == "scheduler_job_completed"


def _check_leases(one: Run) -> None:
    limits = {key.label: limit for key, limit in one.admission.limits.items()}
    held: Counter[str] = Counter()
    open_leases: dict[str, dict[str, int]] = {}
    spawned: set[str] = set()
    acquired = 0
    for event in one.told():
        lease_id = event.task_lease_id
        if event.event_kind == "task_lease_acquired":
            assert lease_id is not None
            acquired += 1
            assert lease_id == f"t{acquired}"
            open_leases[lease_id] = event.diagnostics["resources"]
            held.update(open_leases[lease_id])
            assert all(held[name] <= limits[name] for name in held)
        elif event.event_kind == "worker_spawned":
            assert lease_id in open_leases
            assert event.task_execution_id == f"e{len(spawned) + 1}"
            spawned.add(event.task_execution_id)
        elif event.event_kind == "task_lease_released":
            assert lease_id is not None
            held.subtract(open_leases.pop(lease_id))
    assert not open_leases
    assert len(spawned) == one.workers.spawned


def _check_idle(one: Run) -> None:
    """`queue_empty` only with nothing queued, the blocked kinds only with work queued."""
    queued: set[str] = set()
    for event in one.told():
        kind, task_id = event.event_kind, event.task_id
        if kind == "ready_enqueued" and task_id is not None:
            queued.add(task_id)
        elif kind in ("task_lease_acquired", "cancelled") and task_id is not None:
            queued.discard(task_id)
        elif kind in ("queue_empty", "queue_drained"):
            assert not queued
        elif kind in ("admission_blocked", "group_capped"):
            assert event.diagnostics["queued_count"] == len(queued) > 0


def _check_fold(one: Run) -> None:
    """Every keyframe of the engine equals the state recounted from the events before it."""
    info = RunInfo("run", "test")
    state = begin(info)
    for ordinal, event in enumerate(one.events, start=1):
        if isinstance(event, SchedulerEvent) and event.event_kind == "scheduler_health_snapshot":
            full = event.diagnostics["reason"] != "periodic"
            assert event.snapshot == to_keyframe(state, full)
        reduce(state, event, ordinal, info)
    assert state.orphans == 0
