"""`execute_run`: runs a plan. `record_run`: does that in a run folder, with a journal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from engine.clock import Clock, LoopClock
from engine.errors import UserError
from engine.events import EventStream, JournalEnd, RunInfo, RuntimeCorrelationProvider
from engine.events.journal import JournalWriter
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import (
    RUN_JSON,
    RunFolder,
    RunRecord,
    installed_versions,
    write_record,
)
from engine.events.run_index import register
from engine.generators.base import BatchContext, CellContext, ColumnGenerator, cell_random
from engine.identity import ProviderModelKey
from engine.models.build import build_client
from engine.models.executor import ModelCaller, ModelRequestExecutor
from engine.models.health import check_health
from engine.models.network import connection_shares, raise_descriptor_limit
from engine.request_admission.budgets import BudgetSizes
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.rows.admission import RowGroupAdmission
from engine.rows.parquet import RowGroupWriter
from engine.rows.store import RowStore
from engine.run.capacity_values import capacity_at_end, pool_limits, socket_limits
from engine.run.plan import RunPlan
from engine.run.provider_watch import ProviderWatch
from engine.run.reserve import Reserve
from engine.scheduling.admission import TaskAdmissionController
from engine.scheduling.config import build_policy
from engine.scheduling.peaks import SchedulerPeaks
from engine.scheduling.plan import RetryPolicy, RunResult
from engine.scheduling.queue import FairTaskQueue
from engine.scheduling.scheduler import AsyncTaskScheduler
from engine.scheduling.stopping import StopReport
from engine.scheduling.types import TaskPayload
from engine.watch.loop_watch import LoopWatch
from engine.workers.local import LocalWorkers
from engine.workflow.schema import OpenAIProvider, Workflow

_OWN_FOLDERS = tuple(
    str(Path(__file__).parents[2] / wing) + os.sep for wing in ("engine", "replay", "console")
)
_LAST_LINES_BYTES = 128 * 1024
"""Room for the last lines of a journal: those that a full disk kept waiting, and the end line."""
_LAST_RECORD_BYTES = 64 * 1024
"""Room for the last `run.json`."""


class RunControl:
    """Stops a run from outside: the first `stop` drains it, the second aborts it. Before the
    scheduler runs, the first one ends whatever is done then."""

    def __init__(self) -> None:
        self._scheduler: AsyncTaskScheduler | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._stops = 0

    def attach(self, scheduler: AsyncTaskScheduler) -> None:
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

    Raises:
        UserError: Something is wrong that only shows now, such as a missing key or a folder that
            can't be written; raised before any work starts.
    """
    workflow = plan.workflow
    correlation = RuntimeCorrelationProvider()
    admission = AdaptiveRequestAdmissionController(
        stream=stream,
        clock=clock,
        loop=asyncio.get_running_loop(),
        config=plan.request_admission,
        source=random.Random(workflow.seed),
    )
    sockets = socket_limits(workflow, plan.resources.static_caps)
    raise_descriptor_limit(sum(sockets.values()))
    connections = pool_limits(workflow, plan.resources.static_caps) | connection_shares(sockets)
    clients = {
        name: build_client(name, provider, clock, max_connections=max(1, connections[name]))
        for name, provider in workflow.providers.items()
    }
    executor = ModelRequestExecutor(
        admission=admission,
        clients=clients,
        stream=stream,
        clock=clock,
        correlation=correlation,
    )
    caller = ModelCaller(executor)
    watch = ProviderWatch(admission, executor, plan.probe_requests(), workflow.key_variables())
    rows = RowStore()
    writer = RowGroupWriter(dataset, [c.name for c in plan.workflow.columns]) if dataset else None

    async def execute(payload: TaskPayload) -> None:
        generator = plan.generators[payload.column]
        if payload.row is None:
            group = plan.row_groups[payload.row_group]
            numbers = group.row_range()
            batch = BatchContext(payload.row_group, numbers, workflow.seed)
            values = await generator.generate_batch(batch)
            for row, value in zip(numbers, values, strict=True):
                rows.put(row, payload.column, value)
            return
        source = cell_random(workflow.seed, payload.column, payload.row)
        context = CellContext(payload.row, rows.values(payload.row), source, caller)
        rows.put(payload.row, payload.column, await generator.generate(context))

    async def checkpoint(row_group: int, dropped: frozenset[int]) -> None:
        numbers = plan.row_groups[row_group].row_range()
        if writer is not None:
            survivors = [rows.values(row) for row in numbers if row not in dropped]
            if inline:
                writer.write(row_group, survivors)
            else:
                await asyncio.to_thread(writer.write, row_group, survivors)
        rows.forget(numbers)

    def capacity(peaks: SchedulerPeaks) -> dict[str, Any]:
        return capacity_at_end(plan.capacity, admission.pressure, peaks).observed_part()

    scheduler = AsyncTaskScheduler(
        columns=plan.columns,
        row_groups=plan.row_groups,
        queue=FairTaskQueue(),
        admission=TaskAdmissionController(
            plan.limits, build_policy(plan.task_admission, admission.pressure), clock
        ),
        row_group_admission=RowGroupAdmission(
            workflow.run.max_concurrent_row_groups,
            plan.row_groups,
            plan.task_admission.adaptive_row_groups,
        ),
        workers=LocalWorkers(),
        execute=execute,
        checkpoint=checkpoint,
        stream=stream,
        clock=clock,
        random=random.Random(workflow.seed),
        retry=RetryPolicy(max_attempts=workflow.run.max_attempts),
        request_keyframe=admission.keyframe,
        keyframe_seconds=keyframe_seconds,
        heartbeat_seconds=keyframe_seconds,
        loop_watch=None if inline else _loop_watch(stream),
        metadata_diagnostics=plan.metadata_diagnostics,
        capacity_at_end=capacity,
        stop_seconds=workflow.run.stop_seconds,
        most_dropped_share=workflow.run.stop_at_drop_share,
        requests=watch,
        warnings=plan.warnings,
    )
    admission.on_held = scheduler.on_held
    _apply_budgets(workflow, admission)
    # The smallest cap first, so that no limit starts above the cap that the aliases share.
    for alias, wanted_cap in sorted(plan.resources.raw_caps.items(), key=lambda item: item[::-1]):
        raw_cap = min(wanted_cap, max(1, connections[workflow.models[alias].provider]))
        admission.register(plan.resources.resolve(alias, "chat"), raw_cap, alias)
        if workflow.run.health_check:
            admission.register(plan.resources.resolve(alias, "healthcheck"), raw_cap, alias)
    for key, sizes in _model_budgets(workflow).items():
        admission.limit_model(key, sizes)
    try:
        if workflow.run.health_check:
            health = check_health(caller, plan.health_requests())
            if not await control.interruptible(health):
                return RunResult("cancelled", 0, 0, "stopped during the health check")
        control.attach(scheduler)
        return await scheduler.run()
    finally:
        await watch.close()
        admission.shutdown()
        for client in clients.values():
            await client.close()


def _apply_budgets(workflow: Workflow, admission: AdaptiveRequestAdmissionController) -> None:
    for name, provider in workflow.providers.items():
        if isinstance(provider, OpenAIProvider):
            sizes = BudgetSizes(provider.requests_per_minute, provider.tokens_per_minute)
            admission.limit_provider(name, provider.max_parallel_requests, sizes)


def _model_budgets(workflow: Workflow) -> dict[ProviderModelKey, BudgetSizes]:
    """Budgets by model; of aliases that share one, the smallest counts."""
    sizes_by_model: dict[ProviderModelKey, BudgetSizes] = {}
    for model in workflow.models.values():
        key = ProviderModelKey(model.provider, model.model)
        sizes = BudgetSizes(
            model.requests_per_minute,
            model.tokens_per_minute,
            model.input_tokens_per_minute,
            model.output_tokens_per_minute,
        )
        known = sizes_by_model.get(key, BudgetSizes())
        sizes_by_model[key] = BudgetSizes(
            *(_smaller(a, b) for a, b in zip(known, sizes, strict=True))
        )
    return sizes_by_model


def _smaller(first: float | None, second: float | None) -> float | None:
    return min((size for size in (first, second) if size is not None), default=None)


async def journal_run(
    plan: RunPlan,
    journal: JournalWriter,
    run_id: str,
    clock: Clock,
    *,
    dataset: Path | None,
    control: RunControl,
    inline: bool = False,
    before_end: Callable[[], object] = lambda: None,
) -> RunResult:
    """`execute_run` with a journal that says how the run ended; an exception is a failed run.

    Args:
        plan: What is run.
        journal: Takes the events, and is closed at the end.
        run_id: Id of the run.
        clock: Shows the time of the running loop.
        dataset: Folder for the Parquet files; None to discard the rows.
        control: Stops the run.
        inline: Write files on the loop instead of in a thread.
        before_end: Called before the last lines are written.
    """
    stream = EventStream(clock, run_id, [journal], asyncio.get_running_loop().call_soon)
    result = await _run_to_outcome(
        execute_run(plan, stream, clock, dataset=dataset, control=control, inline=inline)
    )
    stream.flush()
    before_end()
    journal.close(
        JournalEnd(
            outcome=result.outcome,
            captured_at_monotonic=clock.monotonic(),
            scheduler_sequence=stream.scheduler_sequence,
            request_sequence=stream.request_sequence,
            message=result.message,
        )
    )
    return result


async def record_run(
    plan: RunPlan,
    folder: RunFolder,
    run_id: str,
    control: RunControl,
    may_begin: Callable[[], bool],
) -> RunResult | None:
    """Run a plan with a journal in `folder`, and write to `run.json` how it ended.

    Args:
        plan: What is run.
        folder: A folder that was created for this run.
        run_id: Id of the run.
        control: Stops the run.
        may_begin: Called once all that can fail at a start has been done; may block. If it returns
            False, nothing is run.

    Returns:
        The result; None if the run did not begin.

    Raises:
        UserError: The run can't start.
    """
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    with _producer_lock(folder):
        info = plan.describe(run_id, clock.wall(), clock.monotonic())
        try:
            last_lines = Reserve(folder.fd, ".run.lines", _LAST_LINES_BYTES)
            last_record = Reserve(folder.fd, ".run.json", _LAST_RECORD_BYTES)
            journal = JournalWriter(folder, info, loop=loop, request_keyframe=control.emit_keyframe)
            record = _record(info)
            write_record(folder, record)
        except OSError as error:
            raise UserError(f"can't write into {folder.path}: {error.strerror}") from None
        if not may_begin():
            return None
        register(folder, record)
        result = await journal_run(
            plan,
            journal,
            run_id,
            clock,
            dataset=folder.dataset,
            control=control,
            before_end=last_lines.free,
        )
        ended = msgspec.structs.replace(
            record,
            state="ended",
            outcome=result.outcome,
            message=result.message,
            wall_end=clock.wall(),
            rows_done=result.rows_done,
            rows_dropped=result.rows_dropped,
            capacity_plan=info.capacity_plan | result.capacity,
        )
        try:
            write_record(folder, ended)
        except OSError:  # the disk is full
            with contextlib.suppress(OSError):
                last_record.become(RUN_JSON, msgspec.json.encode(ended))
        last_record.free()
    return result


async def _run_to_outcome(run: Coroutine[Any, Any, RunResult]) -> RunResult:
    """The result of a run. An unexpected exception is a failed run, so that the journal ends."""
    try:
        return await run
    except UserError as error:
        return RunResult("failed", 0, 0, str(error))
    except Exception as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return RunResult("failed", 0, 0, f"a bug in headgate: {type(error).__name__}")


def _loop_watch(stream: EventStream) -> LoopWatch:
    def emit(kind: str, at: float, reason: str, payload: dict[str, Any]) -> None:
        stream.outside_numbering(kind, at, reason, payload)

    return LoopWatch(emit, column_of=_column_of, own_folders=_OWN_FOLDERS)


def _column_of(frame: FrameType) -> str | None:
    """The column for which a generator's frame works."""
    if "self" not in frame.f_code.co_varnames:
        return None
    generator = frame.f_locals.get("self")
    return generator.column if isinstance(generator, ColumnGenerator) else None


def _producer_lock(folder: RunFolder) -> ProcessLock:
    try:
        return folder.producer_lock()
    except OSError as error:
        raise UserError(f"can't write into {folder.path}: {error.strerror}") from None


def _record(info: RunInfo) -> RunRecord:
    return RunRecord(
        run_id=info.run_id,
        name=info.name,
        state="running",
        wall_start=info.wall_start,
        versions=installed_versions(),
        producer=info.producer,
        records=info.records,
        pid=os.getpid(),
        capacity_plan=info.capacity_plan,
    )
