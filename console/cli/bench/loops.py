"""The scenarios that measure no single run: the admission loop, and what observing a run costs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any, Literal

from console.cli.bench.artifact import inputs_of, scripts_of
from console.cli.bench.iteration import run_folder
from engine.benchmark.admission import SHAPES, Shape, prepare_shape
from engine.benchmark.admission_loop import time_steps
from engine.benchmark.scenario import Scenario
from engine.benchmark.variants import DEFAULT, VARIANTS, plan_variant
from engine.clock import LoopClock
from engine.errors import UserError
from engine.events import EventStream
from engine.events.journal import JournalWriter
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder
from engine.run.execute import RunControl, execute_run
from engine.run.plan import RunPlan
from engine.run.record import journal_run
from replay.metrics.run_metrics import metric
from replay.metrics.stats import judge, quantile
from replay.runs.artifact import GateResult, Inputs, Metric

GROUPS = (1, 8, 64, 256)
TASKS = (1_000, 10_000, 100_000)
MEMORY_TASKS = 2_000
PROBE_SECONDS = 0.005
Mode = Literal["off", "on", "console"]
MODES: tuple[Mode, ...] = ("off", "on", "console")


@dataclass(frozen=True)
class LoopOutcome:
    """`metrics` of each iteration, and `overall`."""

    metrics: list[dict[str, Metric]]
    overall: dict[str, Metric]
    walls: list[float]
    gates: list[GateResult]
    inputs: Inputs
    provider_script: dict[str, Any]
    why_no_timeline: str


def _outcome(
    samples: list[dict[str, float]],
    walls: list[float],
    gates: list[GateResult],
    inputs: Inputs,
    provider_script: dict[str, Any],
    reason: str,
) -> LoopOutcome:
    """From one number for each metric and iteration."""
    names = samples[0] if samples else {}
    return LoopOutcome(
        [{name: metric(name, [sample[name]]) for name in sample} for sample in samples],
        {name: metric(name, [sample[name] for sample in samples]) for name in names},
        walls,
        gates,
        inputs,
        provider_script,
        reason,
    )


def run_admission(iterations: int, smoke: bool) -> LoopOutcome:
    """Every shape, size and number of groups; times in microseconds per task."""
    sizes, groups = (TASKS[:1], (1, 8, 64)) if smoke else (TASKS, GROUPS)
    samples: list[dict[str, float]] = []
    walls = []
    for _ in range(iterations):
        began = time.perf_counter()
        sample: dict[str, float] = {}
        for shape in SHAPES:
            for tasks in sizes:
                for number in groups:
                    times = time_steps(*prepare_shape(shape, number, tasks))
                    cell = f"{shape} {number} groups {tasks} tasks"
                    sample[f"{cell}: cycle p50"] = times.p50 * 1e6
                    sample[f"{cell}: cycle p95"] = times.p95 * 1e6
                    for step, seconds in times.steps.items():
                        sample[f"{cell}: {step}"] = seconds * 1e6
        sample |= {f"{shape}: bytes per queued task": _bytes_per_task(shape) for shape in SHAPES}
        samples.append(sample)
        walls.append(time.perf_counter() - began)
    few, many = groups[-2:]
    growth = [
        sample[f"bound {many} groups {sizes[-1]} tasks: cycle p50"]
        / sample[f"bound {few} groups {sizes[-1]} tasks: cycle p50"]
        for sample in samples
    ]
    gate = GateResult(
        "cost_grows_with_the_log",
        judge(growth, at_most=2.0),
        f"{many} groups cost {sum(growth) / len(growth):.2f} of {few}, at most 2 is allowed",
    )
    inputs = Inputs(sizes[-1], sizes[-1], 1, 0, {}, 0, iterations, 0)
    reason = "the scenario measures a loop over queue and controller, no run"
    return _outcome(samples, walls, [gate], inputs, {}, reason)


def _bytes_per_task(shape: Shape) -> float:
    """What the queue keeps of a task; measured apart, as it slows everything down."""
    parts, work = prepare_shape(shape, 8, MEMORY_TASKS)
    gc.collect()
    tracemalloc.start()
    parts.enqueue(work)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / MEMORY_TASKS


def run_observability(scenario: Scenario, records: int, iterations: int) -> LoopOutcome:
    """The same run without a recording, with one, and with a console that follows it."""
    assert scenario.build is not None
    loaded = scenario.build(records, scenario.seed)
    samples: list[dict[str, float]] = []
    walls: list[float] = []
    for number in range(-scenario.warmups, iterations):
        sample: dict[str, float] = {}
        for mode in MODES if number % 2 else reversed(MODES):
            plan = plan_variant(loaded, VARIANTS[DEFAULT], inline=False)
            wall, delay = _observed(plan, mode)
            sample[f"{mode}: wall seconds"] = wall
            sample[f"{mode}: loop delay p99 seconds"] = delay
        if number >= 0:
            samples.append(sample)
            walls.append(sample["on: wall seconds"])
    gates = []
    for mode in MODES[1:]:
        ratios = [
            sample[f"{mode}: wall seconds"] / sample["off: wall seconds"] for sample in samples
        ]
        mean = sum(ratios) / len(ratios)
        gates.append(
            GateResult(
                "recording_is_cheap",
                judge(ratios, at_most=1.05),
                f"wall time {mean:.3f} of the unrecorded run's "
                f"{'with a recording' if mode == 'on' else 'with a console beside it'}",
            )
        )
    return _outcome(
        samples,
        walls,
        gates,
        inputs_of(loaded.workflow, scenario.warmups, iterations),
        scripts_of(loaded.workflow),
        "runs with and without a recording are compared",
    )


def _observed(plan: RunPlan, mode: Mode) -> tuple[float, float]:
    """(wall seconds, 99th percentile of how late the loop came round)."""
    with run_folder() as folder:
        gc.collect()
        return asyncio.run(_observe(plan, mode, folder))


async def _observe(plan: RunPlan, mode: Mode, folder: RunFolder) -> tuple[float, float]:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    control = RunControl()
    delays: list[float] = []
    probe = loop.create_task(_probe(delays))
    console: subprocess.Popen[bytes] | None = None
    began = loop.time()
    if mode == "off":
        result = await execute_run(
            plan, EventStream(clock, "bench"), clock, dataset=folder.dataset, control=control
        )
    else:
        with ProcessLock(folder.lock):
            info = plan.describe("bench", clock.wall(), clock.monotonic())
            journal = JournalWriter(folder, info, loop=loop, request_keyframe=control.emit_keyframe)
            if mode == "console":
                console = await asyncio.to_thread(_follow, folder)
            began = loop.time()
            result = await journal_run(
                plan, journal, "bench", clock, dataset=folder.dataset, control=control
            )
    wall = loop.time() - began
    probe.cancel()
    if console is not None:
        console.terminate()
        await asyncio.to_thread(console.communicate)
    if result.outcome != "success":
        raise UserError(f"the run failed: {result.message}")
    return wall, quantile(sorted(delays), 0.99) if delays else 0.0


def _follow(folder: RunFolder) -> subprocess.Popen[bytes]:
    """A console without a screen, once it follows the run."""
    console = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            "from console.cli.main import main; main()",
            "watch",
            str(folder.path),
            "--headless",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert console.stderr is not None
    console.stderr.readline()
    return console


async def _probe(delays: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PROBE_SECONDS
        await asyncio.sleep(PROBE_SECONDS)
        delays.append(max(0.0, loop.time() - due))
