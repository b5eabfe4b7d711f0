"""A run of few events over many days: rows and memory follow what changes, not the seconds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.events.run_folder import RunFolder
from engine.workflow.demo import demo_workflow
from replay.diagnosis.report.build import build_report
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.recording.ingest import Ingest
from replay.recording.reader import open_recording
from replay.sources.feed import open_journal
from tests.effort import effort
from tests.engine_run import run_engine

SECONDS = 10.4 * 86_400
WriteJournal = Callable[..., RunFolder]


def test_ten_days_cost_what_their_events_do(write_journal: WriteJournal, tmp_path: Path) -> None:
    ran = run_engine(demo_workflow(records=effort(20, 50)))
    start = ran.run.monotonic_start
    factor = SECONDS / (ran.events[-1].captured_at_monotonic - start)
    events = [
        msgspec.structs.replace(
            event, captured_at_monotonic=start + (event.captured_at_monotonic - start) * factor
        )
        for event in ran.events
    ]
    folder = write_journal(ran.run, events)
    path = tmp_path / "sparse.duckdb"
    ingest = Ingest(open_journal(folder), path)
    tracemalloc.start()
    try:
        while ingest.step():
            pass
        ingest.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    ingest.close()
    assert peak < 40e6
    reader = open_recording(path)
    (rows,) = reader._rows(
        "SELECT (SELECT count(*) FROM rollup), (SELECT count(*) FROM rollup_stretches),"
        " (SELECT count(*) FROM blame), (SELECT count(*) FROM blame_stretches)"
    )
    assert sum(rows) < 20 * len(events)
    assert reader.bounds().t1 - reader.bounds().t0 > 0.99 * SECONDS
    build_report(reader)
    reader.close()
    session = Session.open(path)
    for want in (Want(span=60.0), Want(span=SECONDS, bars=100)):
        frame = session.frame(want)
        assert frame.last_ordinal == len(events)
    session.close()
