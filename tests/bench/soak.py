"""The soak: does memory stay flat over a million tasks, and over groups that come and go?

    make bench-soak [OPTIONS="--tasks 100000 --groups 10000"]

Under virtual time, so that a day of provider latency is minutes of work. What is counted are the
blocks that Python has allocated (exact, after a collection) and the resident memory of the process.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from console.cli import exit_codes
from engine.benchmark.admission import PLENTY, STAGE, empty_parts
from engine.benchmark.scenario import model, sampled, scripted, text, workflow
from engine.clock import LoopClock
from engine.events import Event, EventStream
from engine.identity import TaskGroupKey
from engine.run.execute import RunControl, execute_run
from engine.run.plan import plan_run
from engine.scheduling.resolver import SUBMISSION
from engine.scheduling.types import (
    SchedulableTask,
    SchedulerResourceRequest,
    TaskGroupSpec,
    TaskPayload,
)
from engine.virtual_time import run_virtual
from tests.bench.command import run_command

LOOKS = 20
COLUMNS = 4
TASKS_PER_GROUP = 3
FLAT = 1.05
SETTLED = 0.25
"""Part of the work after which caches have what they will ever hold."""


@dataclass(frozen=True)
class Look:
    """After so many tasks or groups: allocated blocks, resident bytes."""

    done: int
    blocks: int
    resident: int


@dataclass(frozen=True)
class Soaked:
    looks: tuple[Look, ...]

    @property
    def growth(self) -> float:
        """Blocks at the end per block once settled."""
        settled = next(look for look in self.looks if look.done >= SETTLED * self.looks[-1].done)
        return self.looks[-1].blocks / settled.blocks


def soak_tasks(tasks: int, tell: Callable[[Look], None]) -> Soaked:
    """A whole run of about so many tasks, its events built and thrown away."""
    records = max(1, tasks // COLUMNS)
    plan = plan_run(
        workflow(
            name="soak",
            records=records,
            seed=1,
            providers={"alpha": scripted(0.5, error_rate=0.01), "beta": scripted(0.2)},
            models={"writer": model("alpha", "m", 32), "judge": model("beta", "m", 16)},
            columns=[
                sampled("number"),
                text("question", "writer", "number"),
                text("answer", "writer", "question"),
                text("verdict", "judge", "answer"),
                {"type": "expression", "name": "line", "template": "{{ answer }} {{ verdict }}"},
            ],
            run={"buffer_size": 200, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 128},
        ),
        inline_functions=True,
    )
    sink = _Counting(COLUMNS * records, tell)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        stream = EventStream(clock, "soak", [sink], loop.call_soon)
        result = await execute_run(plan, stream, clock, control=RunControl(), inline=True)
        stream.flush()
        if result.outcome != "success":
            raise RuntimeError(f"the run ended with {result.outcome}: {result.message}")

    run_virtual(main())
    return Soaked(tuple(sink.looks))


def soak_groups(groups: int, tell: Callable[[Look], None]) -> Soaked:
    """So many groups that get a few tasks each, and are never heard of again."""
    parts = empty_parts({SUBMISSION: PLENTY, STAGE: 2})
    needs = SchedulerResourceRequest({SUBMISSION: 1, STAGE: 1})
    looks = []
    every = max(1, groups // LOOKS)
    for number in range(groups):
        parts.enqueue(_short_lived(number, needs))
        running = []
        done = 0
        while done < TASKS_PER_GROUP:
            while (selection := parts.select()) is not None:
                running.append(parts.acquire(selection))
                parts.commit(selection)
            parts.release(running.pop(0))
            done += 1
        if (number + 1) % every == 0:
            looks.append(_look(number + 1))
            tell(looks[-1])
    return Soaked(tuple(looks))


def _short_lived(number: int, needs: SchedulerResourceRequest) -> list[SchedulableTask]:
    group = TaskGroupSpec(TaskGroupKey("model", ("alpha", "m", f"flow{number}")), 1.0)
    payloads = (TaskPayload(f"c{number}", 0, row, "cell") for row in range(TASKS_PER_GROUP))
    return [SchedulableTask(payload.task_id, payload, group, needs) for payload in payloads]


class _Counting:
    """An event sink that looks at memory as tasks complete, and keeps nothing."""

    def __init__(self, tasks: int, tell: Callable[[Look], None]) -> None:
        self.looks: list[Look] = []
        self._tell = tell
        self._every = max(1, tasks // LOOKS)
        self._done = 0

    def write_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.event_kind == "task_completed":
                self._done += 1
                if self._done % self._every == 0:
                    self.looks.append(_look(self._done))
                    self._tell(self.looks[-1])


def _look(done: int) -> Look:
    gc.collect()
    return Look(done, sys.getallocatedblocks(), _resident())


def _resident() -> int:
    """Bytes now where the system tells, else the most there ever were."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@click.command()
@click.option("--tasks", type=click.IntRange(1000), default=1_000_000, show_default=True)
@click.option("--groups", type=click.IntRange(1000), default=100_000, show_default=True)
def main(tasks: int, groups: int) -> int:
    """See whether memory stays flat over many tasks, and over groups that come and go.

    Under virtual time: minutes for a million tasks. Exits with 1 where it does not.
    """

    def print_look(look: Look) -> None:
        click.echo(
            f"  {look.done:>9,} done   {look.blocks:>9,} blocks   {look.resident / 2**20:7.1f} MiB"
        )

    flat = True
    for title, work, amount in (
        (f"{groups:,} groups of a few tasks each", soak_groups, groups),
        (f"{tasks:,} tasks of one run", soak_tasks, tasks),
    ):
        click.echo(title)
        soaked = work(amount, print_look)
        held = soaked.growth <= FLAT
        flat = flat and held
        click.echo(
            f"  {'passed' if held else 'failed'}: {(soaked.growth - 1) * 100:+.1f} % blocks since "
            f"a quarter of it, at most {(FLAT - 1) * 100:+.0f} % is allowed"
        )
    return exit_codes.OK if flat else exit_codes.FINDINGS


if __name__ == "__main__":
    sys.exit(run_command(main))
