"""headgate's side of the comparison with another engine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from engine.benchmark.admission import STAGE, prepare
from engine.clock import LoopClock
from engine.events import EventStream
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from engine.identity import RequestResourceKey
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import RequestAdmissionItem, RequestReleaseOutcome
from engine.run.execute import RunControl, execute_run
from engine.run.plan import plan_run
from engine.run.record import journal_run
from engine.scheduling.resolver import SUBMISSION
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow
from tests.bench.peer.common import (
    BUFFER_SIZE,
    CAP,
    CATEGORIES,
    IN_FLIGHT,
    JUDGE_CAP,
    JUDGE_COLUMN,
    LATENCY_SECONDS,
    ROW_GROUPS,
    WORKFLOWS,
    Parts,
    RunCost,
    cpu_seconds_of,
    elapsed,
    summary_of,
)

RELEASED = RequestReleaseOutcome("success")


class HeadgateSide:
    """What `worker` can ask of this engine; the other side has the same methods."""

    def admission(self, groups: int, capacity: int, tasks: int, model_work: bool) -> Parts:
        limits, amounts = {SUBMISSION: capacity}, {SUBMISSION: 1}
        if model_work:
            limits[STAGE], amounts[STAGE] = capacity, 1
        return Parts(*prepare(limits, [amounts] * groups, tasks))

    async def requests(self, earlier: int, measured: int) -> float:
        """CPU seconds for one request lease, acquired and released, after `earlier` others."""
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        controller = AdaptiveRequestAdmissionController(
            stream=EventStream(clock, "bench"), clock=clock, loop=loop
        )
        resource = RequestResourceKey("alpha", "m", "chat")
        controller.register(resource, CAP, "writer")
        item = RequestAdmissionItem(resource)
        for _ in range(earlier):
            controller.release(await controller.acquire_async(item), RELEASED)
        return await cpu_seconds_of(
            controller.acquire_async, item, controller.release, RELEASED, measured
        )

    async def waiters(self, waiters: int, seconds: float) -> float:
        """Elapsed seconds for so many callers that hold one of `CAP` leases for `seconds` each."""
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        controller = AdaptiveRequestAdmissionController(
            stream=EventStream(clock, "bench"), clock=clock, loop=loop
        )
        resource = RequestResourceKey("alpha", "m", "chat")
        controller.register(resource, CAP, "writer")
        item = RequestAdmissionItem(resource)

        async def call() -> None:
            lease = await controller.acquire_async(item)
            await asyncio.sleep(seconds)
            controller.release(lease, RELEASED)

        return await elapsed(call, waiters)

    async def semaphore(self, waiters: int, seconds: float) -> float:
        """The same behind a bare semaphore."""
        gate = asyncio.Semaphore(CAP)

        async def call() -> None:
            async with gate:
                await asyncio.sleep(seconds)

        return await elapsed(call, waiters)

    def run(
        self,
        records: int,
        recorded: bool,
        base_url: str | None,
        folder: Path,
        workflow: str = "review",
        judge_url: str | None = None,
    ) -> RunCost:
        """One whole run of a workflow, its rows written as Parquet."""
        made = _workflow(records, base_url, workflow, judge_url)
        plan = plan_run(LoadedWorkflow(made, None, {}))
        target = RunFolder.create(folder)

        async def main() -> RunCost:
            loop = asyncio.get_running_loop()
            clock = LoopClock(loop)
            control = RunControl()
            before, began = time.process_time(), time.perf_counter()
            if recorded:
                info = plan.describe("bench", clock.wall(), clock.monotonic())
                journal = JournalWriter(
                    target, info, loop=loop, request_keyframe=control.emit_keyframe
                )
                result = await journal_run(
                    plan, journal, "bench", clock, dataset=target.dataset, control=control
                )
            else:
                stream = EventStream(clock, "bench")
                result = await execute_run(
                    plan, stream, clock, dataset=target.dataset, control=control
                )
            cpu, seconds = time.process_time() - before, time.perf_counter() - began
            lines = sum(path.read_bytes().count(b"\n") for path in target.journal.glob("*"))
            written = sum(path.stat().st_size for path in target.journal.glob("*"))
            # Without the lines that begin and end a journal.
            return RunCost(cpu, seconds, result.rows_done, max(0, lines - 2), written)

        return asyncio.run(main())


def _workflow(records: int, base_url: str | None, workflow: str, judge_url: str | None) -> Workflow:
    script = {"latency": {"distribution": "constant", "mean": LATENCY_SECONDS}}
    providers: dict[str, Any] = {
        "alpha": {"type": "scripted", **script}
        if base_url is None
        else {"type": "openai", "base_url": base_url}
    }
    models = {"writer": {"provider": "alpha", "model": "m", "max_parallel_requests": CAP}}
    if judge_url is not None:
        providers["beta"] = {"type": "openai", "base_url": judge_url}
        models["judge"] = {"provider": "beta", "model": "j", "max_parallel_requests": JUDGE_CAP}
    categories = dict.fromkeys(CATEGORIES, 1.0)
    columns: list[dict[str, Any]] = [
        {"type": "sampler", "name": "topic", "categories": categories},
        {"type": "sampler", "name": "style", "categories": categories},
    ]
    for name, prompt in WORKFLOWS[workflow].items():
        model = "judge" if judge_url is not None and name == JUDGE_COLUMN else "writer"
        columns.append({"type": "llm_text", "name": name, "model": model, "prompt": prompt})
    columns.append({"type": "expression", "name": "summary", "template": summary_of(workflow)})
    return Workflow.model_validate(
        {
            "name": "bench",
            "records": records,
            "providers": providers,
            "models": models,
            "columns": columns,
            "run": {
                "buffer_size": BUFFER_SIZE,
                "max_concurrent_row_groups": ROW_GROUPS,
                "max_in_flight_tasks": IN_FLIGHT,
            },
        }
    )
