"""One iteration of a scenario: a run with its journal, its recording, its rows, its measures."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.benchmark.scenario import Scenario, Stop
from engine.clock import LoopClock
from engine.errors import UserError
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from engine.run.execute import RunControl
from engine.run.plan import RunPlan
from engine.run.record import journal_run
from engine.scheduling.plan import RunResult
from engine.virtual_time import run_virtual
from replay.metrics.event_metrics import Measures
from replay.metrics.run_metrics import (
    add_settled_refusals,
    event_chunks,
    measure_run,
    metric,
)
from replay.recording.ingest import Ingest
from replay.recording.reader import RecordingReader, open_recording
from replay.runs.artifact import ArtifactRecording, Iteration, sha256_of
from replay.sources.feed import open_journal
from replay.state.keyframe import to_keyframe
from replay.state.model import State
from replay.verify.report import CheckResult, results
from replay.verify.verifier import Verifier

REQUEST_PARTS = ("requests", "aggregates", "attempts")
ABORT_AFTER = 0.02
"""Seconds between the first and the second request to stop."""


@dataclass(frozen=True)
class Ran:
    """An iteration with its measures and checks."""

    iteration: Iteration
    measures: Measures
    checks: tuple[CheckResult, ...]


def run_once(
    scenario: Scenario, plan: RunPlan, *, virtual: bool, recording: Path, number: int
) -> Ran:
    """Run the plan, and leave its recording at that path. Raises `UserError` where it fails."""
    with run_folder() as folder:
        gc.collect()
        cpu_before = time.process_time()
        result, wall = _run(plan, folder, scenario, virtual, number)
        cpu = time.process_time() - cpu_before
        if result.outcome == "failed":
            raise UserError(f"scenario {scenario.id} failed: {result.message}")
        measures, checks, state, events = _record(folder, recording)
        add_settled_refusals(measures, scenario.bounds.get("latency"))
        iteration = Iteration(
            wall_time_seconds=wall,
            timeline=ArtifactRecording(recording.name, sha256_of(recording), events),
            final_task_snapshot=_part(state, of_requests=False),
            final_request_snapshot=_part(state, of_requests=True),
            output_hashes=hash_rows(folder.dataset),
            metrics={
                name: metric(name, samples, measures.missing.get(name))
                for name, samples in measures.samples.items()
            },
            completion=measures.completion,
            utilisation=_thinned(measures.utilisation),
            cpu_seconds=None if virtual else cpu,
            missing_reasons={"cpu_seconds": "the clock was virtual"} if virtual else {},
        )
    return Ran(iteration, measures, checks)


def serial_hashes(plan: RunPlan, scenario: Scenario) -> dict[str, str]:
    """What the rows hash to where one task runs at a time."""
    with run_folder() as folder:
        _run(plan, folder, scenario, virtual=True, number=0)
        return hash_rows(folder.dataset)


@contextmanager
def run_folder() -> Iterator[RunFolder]:
    """A run folder that is removed with everything in it at the end."""
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as directory:
        yield RunFolder.create(Path(directory) / "run")


def _run(
    plan: RunPlan, folder: RunFolder, scenario: Scenario, virtual: bool, number: int
) -> tuple[RunResult, float]:
    run_id = f"{scenario.id}-{number}"

    async def main() -> tuple[RunResult, float]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0 if virtual else None)
        control = RunControl()
        info = plan.describe(run_id, None if virtual else clock.wall(), clock.monotonic())
        journal = JournalWriter(folder, info, loop=loop, request_keyframe=control.emit_keyframe)
        timers = _stops(loop, control, scenario.stop)
        began = clock.monotonic()
        result = await journal_run(
            plan, journal, run_id, clock, dataset=folder.dataset, control=control, inline=virtual
        )
        wall = clock.monotonic() - began
        for timer in timers:
            timer.cancel()
        return result, wall

    return run_virtual(main()) if virtual else asyncio.run(main())


def _stops(
    loop: asyncio.AbstractEventLoop, control: RunControl, stop: Stop | None
) -> list[asyncio.TimerHandle]:
    if stop is None:
        return []
    times = [stop.at, stop.at + ABORT_AFTER] if stop.abort else [stop.at]
    return [loop.call_later(at, control.stop) for at in times]


def _record(
    folder: RunFolder, recording: Path
) -> tuple[Measures, tuple[CheckResult, ...], State, int]:
    feed = open_journal(folder)
    ingest = Ingest(feed, recording)
    while ingest.step():
        pass
    ingest.finish()
    ingest.close()
    feed.close()
    reader = open_recording(recording)
    try:
        last = reader.bounds().last_ordinal
        return measure_run(reader), _checked(reader), reader.state_at(last), last
    finally:
        reader.close()


def _checked(reader: RecordingReader) -> tuple[CheckResult, ...]:
    """What the contracts say of the recorded events."""
    verifier = Verifier(reader.run())
    for first, events in event_chunks(reader):
        verifier.apply(events, first)
    verifier.finish(ended=True)
    return results(verifier.book)


def _part(state: State, *, of_requests: bool) -> dict[str, Any]:
    keyframe = to_keyframe(state, full=True)
    return {
        name: value for name, value in keyframe.items() if (name in REQUEST_PARTS) == of_requests
    }


def hash_rows(dataset: Path) -> dict[str, str]:
    """SHA-256 of each column's values in the order of the rows, and of all of them (`rows`)."""
    import pyarrow.parquet as pq

    digests: dict[str, Any] = {}
    whole = hashlib.sha256()
    for path in sorted(dataset.glob("*.parquet")):
        table = pq.read_table(path)
        for name in table.column_names:
            values = json.dumps(table.column(name).to_pylist(), ensure_ascii=False, default=str)
            digests.setdefault(name, hashlib.sha256()).update(values.encode())
        rows = json.dumps(table.to_pylist(), ensure_ascii=False, sort_keys=True, default=str)
        whole.update(rows.encode())
    return {"rows": whole.hexdigest()} | {
        f"column {name}": digest.hexdigest() for name, digest in digests.items()
    }


def _thinned(series: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most about so many points, evenly chosen, the last one among them."""
    every = max(1, len(series) // most)
    return series[::every] + ([series[-1]] if series and (len(series) - 1) % every else [])
