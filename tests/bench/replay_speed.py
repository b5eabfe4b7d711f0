"""How fast events become knowledge: `python tests/bench/replay_speed.py [--events N] [--quick]`.

The events are those of the embedded demo with more records, generated under virtual time, with a
few microseconds between those of one instant, as real ones have. Printed are events per second of
time and of CPU, that of the process which an import has beside it included. The time of an event
stands also in steps of a fixed loop of plain Python, which two machines share, and scaled to a
machine that does 28 million of them a second.

Targets on such a machine: reducer 200,000 events/s, import of a journal and of its lines 100,000
(recorder, fold with diagnosis, DuckDB), of Data Designer's lines 30,000, `why` from stored verdicts
1 s and recomputed 12 s for a million events, a recorder that keeps up with 20,000 events/s. Exit
code 1 where one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.clock import LoopClock
from engine.events import Event, EventStream, JournalEnd, RunInfo
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from engine.run.execute import RunControl, execute_run
from engine.run.plan import plan_run
from engine.virtual_time import run_virtual
from engine.workflow.demo import demo_workflow
from engine.workflow.load import LoadedWorkflow
from replay.diagnosis.report.build import build_report
from replay.projections.fold import Fold
from replay.recording.ingest import EVENTS_PER_STEP, Ingest
from replay.recording.reader import open_recording
from replay.recording.rediagnose import Recomputed
from replay.sources.feed import Feed, open_journal, open_lines
from replay.state.reducer import begin, reduce

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.fixtures.data_designer_format import generate as generate_foreign

STEPS = 1_000_000
STEPS_PER_SECOND = 28e6
"""Of the machine that the targets are for."""
APART = 8e-6
EVENTS_PER_RECORD = 78


class Spread:
    """A sink that puts the events of one instant a few microseconds apart."""

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._at = self._shift = 0.0

    def write_events(self, events: list[Event]) -> None:
        spread = []
        for event in events:
            at = event.captured_at_monotonic
            self._at, self._shift = at, self._shift + APART if at == self._at else 0.0
            spread.append(msgspec.structs.replace(event, captured_at_monotonic=at + self._shift))
        self._journal.write_events(spread)


def generate(folder: RunFolder, records: int) -> int:
    """A journal of the demo; returns how many events it has."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        plan = plan_run(LoadedWorkflow(demo_workflow(records), None, {}), inline_functions=True)
        control = RunControl()
        info = plan.describe("run", clock.wall(), clock.monotonic())
        journal = JournalWriter(folder, info, loop=None, request_keyframe=control.emit_keyframe)
        stream = EventStream(clock, "run", [Spread(journal)], loop.call_soon)  # type: ignore[list-item]
        result = await execute_run(plan, stream, clock, control=control, inline=True)
        stream.flush()
        sequences = stream.scheduler_sequence, stream.request_sequence
        journal.close(JournalEnd(result.outcome, clock.monotonic(), *sequences))
        return sum(sequences)

    return run_virtual(main())


def loop_seconds() -> float:
    began = time.process_time()
    total, kept = 0, {}
    for step in range(STEPS):
        total += step
        kept[step & 255] = total
    return time.process_time() - began


def cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    took = os.times()
    return took.user + took.system + took.children_user + took.children_system


class Bench:
    def __init__(self) -> None:
        self.missed = False

    def measure(self, name: str, events: int, work: Callable[[], object]) -> None:
        """Time `work` on `events` events, between two runs of the loop."""
        before = loop_seconds()
        wall, cpu = time.perf_counter(), cpu_seconds()
        work()
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        step = (before + loop_seconds()) / (2 * STEPS)
        target = TARGETS.get(name)
        scaled = events / wall * step * STEPS_PER_SECOND
        verdict = ""
        if target is not None:
            verdict = f"target {target:>9,.0f}"
            if scaled < target:
                self.missed, verdict = True, verdict + "  MISSED"
        print(
            f"{name:31} {events / wall:>9,.0f}/s of time {events / cpu:>9,.0f}/s of CPU"
            f" {wall / events / step:>5,.0f} steps/event = {scaled:>9,.0f}/s  {verdict}",
            flush=True,
        )


TARGETS = {
    "reducer": 200_000,
    "import, journal": 100_000,
    "import, own lines": 100_000,
    "import, Data Designer": 30_000,
    "why, stored": 1_000_000,
    "why, recomputed": 83_000,
    "recorder, small batches": 20_000,
}


def read_all(feed: Feed) -> tuple[RunInfo, list[Event]]:
    events: list[Event] = []
    while batch := feed.poll().events:
        events += batch
    run = feed.run
    assert run is not None
    return run, events


def measure_in_memory(bench: Bench, folder: RunFolder, count: int) -> None:
    run, events = read_all(open_journal(folder))
    state, fold = begin(run), Fold(run)

    def reduce_all() -> None:
        for ordinal, event in enumerate(events, 1):
            reduce(state, event, ordinal, run)

    bench.measure("reducer", count, reduce_all)
    bench.measure("fold (with rows and diagnosis)", count, lambda: fold.apply(events, 1))


def ingest(
    feed: Feed, path: Path, limit: int = EVENTS_PER_STEP, two_processes: bool = True
) -> None:
    taken = Ingest(feed, path, two_processes=two_processes)
    while feed.liveness in ("live", "waiting"):
        taken.step(limit)
    taken.finish()
    taken.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the events")
    options = parser.parse_args()
    wanted = options.events // 10 if options.quick else options.events
    bench = Bench()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        folder = RunFolder(home / "run")
        folder.path.mkdir()
        count = generate(folder, max(20, wanted // EVENTS_PER_RECORD))
        measure_in_memory(bench, folder, count)
        recording = home / "recording.duckdb"
        bench.measure("import, journal", count, lambda: ingest(open_journal(folder), recording))
        small = home / "small.duckdb"
        bench.measure(
            "recorder, small batches",
            count,
            lambda: ingest(open_journal(folder), small, 1_000, two_processes=False),
        )
        own = home / "own.jsonl"
        with own.open("wb") as out:
            out.writelines(folder.segment(n).read_bytes() for n in folder.segment_numbers())
        bench.measure(
            "import, own lines",
            count,
            lambda: ingest(open_lines(own, False), home / "own.duckdb"),
        )
        lines = home / "foreign.jsonl"
        generate_foreign(lines, storm=True, rows=min(2_000, max(20, wanted // 100)))
        foreign = sum(1 for _ in lines.open("rb"))
        bench.measure(
            "import, Data Designer",
            foreign,
            lambda: ingest(open_lines(lines, False), home / "foreign.duckdb"),
        )
        reader = open_recording(recording)
        try:
            bench.measure("why, stored", count, lambda: build_report(reader))
            bench.measure("why, recomputed", count, lambda: build_report(Recomputed(reader)))
        finally:
            reader.close()
    sys.stdout.flush()
    return int(bench.missed)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # DuckDB's module complains about what is still open at exit
