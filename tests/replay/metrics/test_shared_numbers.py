"""Numbers that several readers show: each has one definition, and all readers give the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.events import Event, JournalHeader, SchedulerEvent, encode_lines
from replay.metrics.event_metrics import RunPass
from replay.projections.fold import Fold
from replay.recording.query import RecordingQuery
from replay.runs.materialize import materialize
from replay.state.waits import waits
from tests.replay.diagnosis.stream import ALPHA, QUESTION, Stream
from tests.replay.verify.streams import healthy, places, renumbered
from tests.verified import verify_events


def test_sql_and_screens_give_a_lease_the_same_times(tmp_path: Path) -> None:
    """A lease of 3 s with two calls of 2 s at once: 1 s is its own."""
    stream = Stream()
    stream.register(ALPHA, 4)
    work = stream.begin(QUESTION, 0)
    calls = [replace(work), replace(work)]
    for call in calls:
        stream.call(call)
    stream.at(2.0)
    for call in calls:
        stream.answer(call)
    stream.at(3.0).finish(work)
    stream.scheduler("scheduler_job_completed", reason="success")
    fold = Fold(stream.run)
    fold.apply(stream.events, 1)
    rows = fold.finish("success", False)
    (lease,) = rows.leases
    shown = waits(lease, rows.attempts, stream.now)
    assert (shown.own_time, shown.provider_time) == (1.0, 4.0)
    path = tmp_path / "run.jsonl"
    path.write_bytes(encode_lines([JournalHeader(stream.run, 1, 1), *stream.events]))
    with materialize(path, lambda _: None) as recording:
        query = RecordingQuery(recording)
        try:
            for view in ("leases", "tasks"):
                _, result = query.run(f"SELECT own_time, provider_time, request_wait FROM {view}")
                assert list(result) == [(shown.own_time, shown.provider_time, shown.request_wait)]
        finally:
            query.close()


def spawned_under_another_lease(events: list[Event]) -> None:
    index = places(events, "worker_spawned")[5]
    events[index] = msgspec.structs.replace(events[index], task_lease_id="other")


def queued_while_it_runs(events: list[Event]) -> None:
    index = places(events, "worker_spawned")[5]
    spawned = events[index]
    assert isinstance(spawned, SchedulerEvent)
    again = next(
        event
        for event in events
        if event.event_kind == "ready_enqueued"
        and isinstance(event, SchedulerEvent)
        and event.task_id == spawned.task_id
    )
    at = spawned.captured_at_monotonic
    events.insert(index + 1, msgspec.structs.replace(again, captured_at_monotonic=at))


@pytest.mark.parametrize("change", [spawned_under_another_lease, queued_while_it_runs])
def test_metrics_and_verify_count_the_same_hidden_waiters(change: Any) -> None:
    run, sound = healthy()
    events = list(sound)
    change(events)
    events = renumbered(events)
    run_pass = RunPass(run)
    for ordinal, event in enumerate(events, 1):
        run_pass.take(event, ordinal)
    counted = run_pass.measures().samples["hidden_scheduler_resource_waiters"]
    assert counted == [float(verify_events(run, events).hidden_waiters)]
    assert counted[0] >= 1.0
