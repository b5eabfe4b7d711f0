"""What a recording of 1M events (`--events 10000000`: of 10M) costs to open, to seek in and to ask.

A run of the demo under virtual time is recorded again and again, one after the other in time, under
new ids and numbers, by the recorder's own way: fold, tables, keyframes. Then a process of its own
opens it. Times are of CPU where nothing else is said. Exit code 1 where a budget is missed.
`--keep` leaves the recording for another look, `--reuse` takes it up again.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from engine.workflow.demo import demo_workflow
from replay.diagnosis.report.build import build_report
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.recording.ingest import Ingest
from replay.recording.query import RecordingQuery
from replay.sources.base import Batch, Liveness
from tests.engine_run import run_engine

SEEKS = 200
FIRST_FRAME_SECONDS = 2.0
SEEK_P95_MS = 50.0
BYTES_PER_EVENT = 150
MEMORY_MB = 600
WANT = Want(samples=60, span=60.0, bars=40, events=40)
ONCE = frozenset({"scheduler_job_started", "scheduler_job_completed"})


class Repeated:
    """A feed of the same run over and over: later each time, under other ids."""

    liveness: Liveness = "live"
    outcome: str | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, run: RunInfo, events: Sequence[Event], total: int) -> None:
        self.run = run
        self._once = [event for event in events if self._repeats(event)]
        self._length = events[-1].captured_at_monotonic - run.monotonic_start + 1.0
        self._total = total
        self._given = 0
        self._stream = self._shifted()

    def poll(self, limit: int = 10_000) -> Batch:
        first = self._given + 1
        events = []
        for event in self._stream:
            events.append(event)
            if len(events) >= limit:
                break
        self._given += len(events)
        if not events:
            self.liveness, self.outcome = "ended", "success"
        return Batch(events, first, {"given": self._given})

    def resume(self, position: dict[str, int], next_ordinal: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass

    @staticmethod
    def _repeats(event: Event) -> bool:
        """Full snapshots name tasks, and the beginning and end of a run come once."""
        if event.event_kind in ONCE:
            return False
        return "tasks" not in (getattr(event, "snapshot", None) or {})

    def _shifted(self) -> Iterator[Event]:
        sequences = {SchedulerEvent: 0, RequestEvent: 0}
        given = 0
        copy = 0
        replace = msgspec.structs.replace
        while True:
            later, tag = copy * self._length, f"~{copy}"

            def named(name: str | None, tag: str = tag) -> str | None:
                return None if name is None else name + tag

            for event in self._once:
                if given == self._total:
                    return
                given += 1
                sequences[type(event)] += 1
                correlation = event.captured_correlation
                if correlation is not None and correlation.task_execution_id is not None:
                    correlation = replace(
                        correlation, task_execution_id=named(correlation.task_execution_id)
                    )
                common: dict[str, Any] = {
                    "captured_at_monotonic": event.captured_at_monotonic + later,
                    "sequence": sequences[type(event)],
                    "captured_correlation": correlation,
                }
                if isinstance(event, SchedulerEvent):
                    yield replace(
                        event,
                        **common,
                        task_id=named(event.task_id),
                        task_lease_id=named(event.task_lease_id),
                        task_execution_id=named(event.task_execution_id),
                    )
                else:
                    yield replace(
                        event,
                        **common,
                        request_attempt_id=named(event.request_attempt_id),
                        request_lease_id=named(event.request_lease_id),
                    )
            copy += 1


def build(path: Path, total: int) -> None:
    ran = run_engine(demo_workflow())
    run, events = ran.run, ran.events
    ingest = Ingest(Repeated(run, events, total), path)
    began = time.process_time()
    reported = 0
    while ingest.step():
        if ingest.last_ordinal - reported >= 500_000:
            reported = ingest.last_ordinal
            print(f"  {reported:>11,} events, {rate(reported, began)}", flush=True)
    ingest.finish()
    ingest.close()
    print(f"written    {rate(total, began)}, {peak_mb():.0f} MB at most")


def measure(path: Path) -> bool:
    good = True

    def budget(what: str, value: float, most: float, unit: str) -> None:
        nonlocal good
        good = good and value <= most
        verdict = "" if value <= most else "   OVER BUDGET"
        print(f"{what:<44} {value:>9,.1f} {unit:<6} (at most {most:,g}){verdict}")

    wall, began = time.perf_counter(), time.process_time()
    session = Session.open(path)
    opened = time.process_time()
    frame = session.frame(WANT)
    drawn = time.process_time()
    waited = time.perf_counter() - wall
    total = frame.last_ordinal
    print(f"\n{total:,} events over {frame.t1 - frame.t0:,.0f} s")
    size = path.stat().st_size
    budget("size", size / total, BYTES_PER_EVENT, "B/ev")
    print(f"{'open':<44} {1000 * (opened - began):>9,.1f} ms")
    budget("first frame, from the start", drawn - began, FIRST_FRAME_SECONDS, "s")
    print(f"{'the same by the wall clock':<44} {waited:>9,.1f} s")
    dice = random.Random(1)
    times = [dice.uniform(frame.t0, frame.t1) for _ in range(SEEKS)]
    seeks = [timed(lambda at=at: session.seek_time(at)) for at in times]  # type: ignore[misc]
    whole = []
    for at in times:
        cost = timed(lambda at=at: session.seek_time(at))  # type: ignore[misc]
        whole.append(cost + timed(lambda: session.frame(WANT)))
    backward = []
    for at in times[:50]:
        session.seek_time(at)
        session.frame(WANT)
        backward.append(timed(lambda: session.step(-1)) + timed(lambda: session.frame(WANT)))
    print(f"{'seek by time, p50':<44} {statistics.median(seeks):>9,.1f} ms")
    budget("seek by time, p95", percentile(seeks, 95), SEEK_P95_MS, "ms")
    print(f"{'seek and frame with 40 bars, p50':<44} {statistics.median(whole):>9,.1f} ms")
    budget("seek and frame with 40 bars, p95", percentile(whole, 95), 2 * SEEK_P95_MS, "ms")
    budget("one event back, with frame, p95", percentile(backward, 95), 2 * SEEK_P95_MS, "ms")
    reader = session.reader
    start = reader.run().monotonic_start
    bins = [int(at - start) for at in times[:50]]
    rollups = [timed(lambda low=low: reader.rollup(low, low + 200)) for low in bins]  # type: ignore[misc]
    budget("roll-up of 200 s, p95", percentile(rollups, 95), SEEK_P95_MS, "ms")
    here = [(at, reader.ordinal_at(at)) for at in times[:50]]
    active = [timed(lambda at=at, n=n: reader.bars(at, at, 100, n)) for at, n in here]  # type: ignore[misc]
    budget("leases and attempts at an instant, p95", percentile(active, 95), SEEK_P95_MS, "ms")
    budget("memory of this process so far", peak_mb(), MEMORY_MB, "MB")
    print(f"{'why, from stored verdicts':<44} {timed(lambda: build_report(reader)):>9,.1f} ms")
    session.close()
    query = RecordingQuery(path)
    for name, sql in (
        ("events by kind", "SELECT kind, count(*) FROM events GROUP BY 1"),
        ("blame by verdict", "SELECT verdict, sum(seconds) FROM blame GROUP BY 1"),
        ("waits by column", "SELECT task_column, avg(request_wait) FROM leases GROUP BY 1"),
        ("all tasks", "SELECT task_column, quantile_cont(held, 0.95) FROM tasks GROUP BY 1"),
    ):
        print(f"{'sql: ' + name:<44} {timed(lambda sql=sql: list(query.run(sql)[1])):>9,.1f} ms")  # type: ignore[misc]
    query.close()
    print(f"{'memory at the end':<44} {peak_mb():>9,.1f} MB")
    return good


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of CPU: what else the machine does should not count."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def rate(events: int, began: float) -> str:
    return f"{events / (time.process_time() - began):,.0f} events/s of CPU"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="Leave the recording under this name.")
    parser.add_argument("--reuse", type=Path, help="Measure this recording; build none.")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build is not None:
        build(options.build, options.events)
        return 0
    if options.reuse is not None:
        return 0 if measure(options.reuse) else 1
    folder = Path(tempfile.mkdtemp(prefix="headgate-scale-"))
    try:
        path = folder / "recording.duckdb"
        again = [sys.executable, __file__]
        subprocess.run([*again, "--build", path, f"--events={options.events}"], check=True)
        done = subprocess.run([*again, "--reuse", path], check=False)
        if options.keep is not None:
            shutil.move(path, options.keep)
        return done.returncode
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
