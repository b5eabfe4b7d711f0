"""What OpenTelemetry costs a run: `python tests/bench/otel_cost.py [--base CHECKOUT]`.

First the sink alone: the events of one run handed to it, best of several times, the processor time
of its thread per task. Then whole runs under virtual time in processes of their own, in turn
without telemetry and with metrics and spans of a tenth of the tasks, and their difference in pairs;
on a busy machine these differ widely. With `--base` another checkout (and its `.venv`) takes part
without telemetry: what the code for it costs a run that does not use it.

Exits with 1 where the sink alone exceeds its limit.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

RECORDS = 600
PAIRS = 8
REPEATS = 7
EVENTS_AT_ONCE = 8
"""About as many as one iteration of a busy loop delivers."""
LIMIT_MICROSECONDS = 60.0
SAMPLED = 0.1
HERE = Path(__file__).parents[2]


def measure(mode: str, records: int) -> dict[str, float]:
    """One run in this process: seconds of processor time, and tasks."""
    import asyncio

    from engine.clock import LoopClock
    from engine.events import EventStream
    from engine.run.execute import RunControl, execute_run
    from engine.run.plan import plan_run
    from engine.virtual_time import run_virtual
    from engine.workflow.demo import demo_workflow
    from engine.workflow.load import LoadedWorkflow

    class Discard:
        tasks = 0

        def write_events(self, events: object) -> None:
            for event in events:  # type: ignore[attr-defined]
                self.tasks += event.event_kind == "task_lease_released"

    async def main() -> dict[str, float]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        plan = plan_run(LoadedWorkflow(demo_workflow(records), None, {}), inline_functions=True)
        discard = Discard()
        sinks: list[object] = [discard]
        if mode == "sampled":
            sinks.append(sink(plan.describe("run", 0.0, clock.monotonic())))
        stream = EventStream(clock, "run", sinks, loop.call_soon)  # type: ignore[arg-type]
        began = time.process_time()
        await execute_run(plan, stream, clock, control=RunControl(), inline=True)
        stream.flush()
        return {"seconds": time.process_time() - began, "tasks": discard.tasks}

    return run_virtual(main())


def sink(run: object) -> object:
    """As the command line sets it up, with an exporter that encodes and discards."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from console.cli.otel.delivery import CountingSpanProcessor
    from engine.telemetry.sink import TelemetrySink

    class Encoding(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            encode_spans(spans).SerializeToString()  # type: ignore[arg-type]
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(SAMPLED)), shutdown_on_exit=False
    )
    tracers.add_span_processor(CountingSpanProcessor(Encoding(), 16_384))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    return TelemetrySink(run, "0", tracers=tracers, meters=meters)  # type: ignore[arg-type]


def sink_alone(records: int) -> tuple[float, float]:
    """Microseconds of processor time per task, and events per task."""
    from engine.workflow.demo import demo_workflow
    from tests.engine_run import run_engine

    ran = run_engine(demo_workflow(records))
    tasks = ran.kinds["task_lease_released"]
    best = float("inf")
    for _ in range(REPEATS):
        telemetry: Any = sink(ran.run)
        began = time.thread_time()
        for start in range(0, len(ran.events), EVENTS_AT_ONCE):
            telemetry.write_events(ran.events[start : start + EVENTS_AT_ONCE])
        best = min(best, time.thread_time() - began)
    return best / tasks * 1e6, len(ran.events) / tasks


def run(checkout: Path, mode: str, records: int) -> float:
    """Microseconds of processor time per task, of a process of its own."""
    program = (
        "import json, runpy, sys; "
        f"sys.path.insert(0, {str(checkout)!r}); "
        f"module = runpy.run_path({str(Path(__file__).resolve())!r}, run_name='bench'); "
        f"print(json.dumps(module['measure']({mode!r}, {records})))"
    )
    python = checkout / ".venv" / "bin" / "python"
    answer = subprocess.run(
        [python if python.exists() else sys.executable, "-c", program],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(answer.stdout.splitlines()[-1])
    return float(result["seconds"] / result["tasks"] * 1e6)


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Median, and a 95 % interval of it by resampling."""
    source = random.Random(1)
    medians = sorted(
        statistics.median(source.choices(differences, k=len(differences))) for _ in range(2_000)
    )
    return statistics.median(differences), medians[50], medians[-50]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a checkout to compare with, telemetry off")
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    sides = {"off": (HERE, "off"), f"on, {SAMPLED:.0%} of traces": (HERE, "sampled")}
    if options.base is not None:
        sides["base"] = (options.base, "off")
    alone, events = sink_alone(options.records)
    print(
        f"the sink alone, {SAMPLED:.0%} of traces: {alone:.1f} us a task of {events:.1f} events, "
        f"at most {LIMIT_MICROSECONDS:.0f}"
    )
    times: dict[str, list[float]] = {side: [] for side in sides}
    for pair in range(options.pairs):
        order = list(sides)
        for side in order if pair % 2 == 0 else reversed(order):
            times[side].append(run(*sides[side], options.records))
    off = times["off"]
    print(f"off: {statistics.median(off):.0f} us of processor time a task")
    for side, values in times.items():
        if side == "off":
            continue
        pairs = list(zip(values, off, strict=True))
        differences = [b - a for a, b in pairs] if side == "base" else [a - b for a, b in pairs]
        middle, low, high = interval(differences)
        what = "off against base" if side == "base" else f"{side} against off"
        share = middle / statistics.median(off)
        print(f"{what}: {middle:+.1f} us a task ({share:+.1%}), 95 % {low:+.1f} to {high:+.1f}")
    return int(alone > LIMIT_MICROSECONDS)


if __name__ == "__main__":
    sys.exit(main())
