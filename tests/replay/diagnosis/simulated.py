"""Runs of the engine itself under virtual time: their events, and their diagnosis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine.clock import LoopClock
from engine.events import Event, EventStream, RunInfo
from engine.run import RunControl, execute_run
from engine.run_plan import plan_run
from engine.virtual_time import run_virtual
from engine.workflow.load import LoadedWorkflow
from engine.workflow.model import Workflow
from replay.fold import Fold, FoldOutput


class Collected:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(events)


def simulate(workflow: Workflow | LoadedWorkflow) -> tuple[RunInfo, list[Event]]:
    """All events of a run to its end."""
    loaded = workflow
    if isinstance(loaded, Workflow):
        loaded = LoadedWorkflow(loaded, None, {})

    async def main() -> tuple[RunInfo, list[Event]]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        plan = plan_run(loaded, inline_functions=True)
        sink = Collected()
        stream = EventStream(clock, "run", [sink], loop.call_soon)
        info = plan.describe("run", clock.wall(), clock.monotonic())
        await execute_run(plan, stream, clock, control=RunControl(), inline=True)
        stream.flush()
        return info, sink.events

    return run_virtual(main())


def diagnose(workflow: Workflow | LoadedWorkflow) -> FoldOutput:
    return fold(*simulate(workflow))


def fold(info: RunInfo, events: list[Event]) -> FoldOutput:
    folded = Fold(info)
    folded.apply(events, 1)
    return folded.finish(None, lost=False)
