"""Whole runs of the engine under virtual time, and what they said."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.clock import LoopClock
from engine.events import Event, EventStream, RunInfo
from engine.run.execute import RunControl, execute_run
from engine.run.plan import RunPlan, plan_run
from engine.scheduling.config import TaskAdmissionConfig
from engine.scheduling.plan import RunResult
from engine.virtual_time import VirtualTimeLoop, run_virtual
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow

_DEFAULT_TASK_ADMISSION = TaskAdmissionConfig()


class ListSink:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(events)


@dataclass
class Ran:
    result: RunResult
    run: RunInfo
    events: list[Event]
    seconds: float

    @property
    def kinds(self) -> Counter[str]:
        return Counter(event.event_kind for event in self.events)


def run_engine(
    workflow: Workflow | LoadedWorkflow,
    *,
    dataset: Path | None = None,
    shuffle: int | None = None,
    keyframe_seconds: float = 1.0,
    task_admission: TaskAdmissionConfig = _DEFAULT_TASK_ADMISSION,
    change: Callable[[RunPlan], RunPlan] | None = None,
    stop_at: float | None = None,
) -> Ran:
    """A run to its end, or to its drain at `stop_at` seconds.

    Args:
        workflow: What is run; functions of custom columns may stand in it.
        dataset: Where rows are written, if anywhere.
        shuffle: Seed of the order in which callbacks that are ready at once run; None for theirs.
        keyframe_seconds: Seconds between keyframes.
        task_admission: How the task slots are shared.
        change: Makes another plan of the one that follows from the workflow.
        stop_at: Seconds after which the run is drained; None for never.
    """
    loaded = workflow
    if isinstance(loaded, Workflow):
        functions = {
            column.name: reference
            for column in loaded.columns
            if callable(reference := column.reference())
        }
        loaded = LoadedWorkflow(loaded, None, functions)

    async def main() -> Ran:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        clock = LoopClock(loop, wall_start=0.0)
        plan = plan_run(loaded, inline_functions=True, task_admission=task_admission)
        if change is not None:
            plan = change(plan)
        sink = ListSink()
        stream = EventStream(clock, "run", [sink], loop.call_soon)
        info = plan.describe("run", clock.wall(), clock.monotonic())
        control = RunControl()
        if stop_at is not None:
            loop.call_at(stop_at, control.stop)
        result = await execute_run(
            plan,
            stream,
            clock,
            dataset=dataset,
            control=control,
            inline=True,
            keyframe_seconds=keyframe_seconds,
        )
        stream.flush()
        assert not stream.failures_by_sink
        return Ran(result, info, sink.events, loop.time())

    return run_virtual(main(), shuffle=None if shuffle is None else random.Random(shuffle))
