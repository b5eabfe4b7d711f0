"""A recording of a run that went on after an interruption: its times, and what was open then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.events import Event, RequestEvent, RequestResource, RunInfo, SchedulerEvent
from engine.events.run_folder import RunFolder
from replay.recording.query import QueryProcess, RecordingQuery
from replay.recording.reader import open_recording
from replay.runs.recorder import finish_import

BEGAN = 1_800_000_000.0
RUN = RunInfo("r", "run", wall_start=BEGAN, monotonic_start=50.0, records=4)
RESOURCE = RequestResource("p", "m", "chat")


def events() -> list[Event]:
    """A task and a call are under way when the process is gone; the run goes on an hour later."""
    facts = {"limits": {"submission": 8}, "rows_done": 2, "rows_dropped": 1, "row_groups_done": 1}
    return [
        SchedulerEvent("scheduler_job_started", 50.0, 1, diagnostics={"limits": {"submission": 8}}),
        SchedulerEvent("dependency_ready", 50.1, 2, task_id="a/0", diagnostics={"group": "g"}),
        SchedulerEvent(
            "ready_enqueued", 50.2, 3, task_id="a/0", diagnostics={"resources": {"submission": 1}}
        ),
        SchedulerEvent("task_lease_acquired", 50.3, 4, task_id="a/0", task_lease_id="t1"),
        SchedulerEvent(
            "worker_spawned", 50.4, 5, task_id="a/0", task_lease_id="t1", task_execution_id="e1"
        ),
        RequestEvent(
            "request_wait_started", 50.5, 1, request_attempt_id="a1", request_resource_key=RESOURCE
        ),
        RequestEvent(
            "request_lease_acquired",
            50.6,
            2,
            request_attempt_id="a1",
            request_lease_id="r1",
            request_resource_key=RESOURCE,
        ),
        SchedulerEvent(
            "run_resumed", 52.0, 6, diagnostics=facts | {"resumes": 1, "wall": BEGAN + 3600.0}
        ),
        SchedulerEvent("queue_drained", 53.5, 7),
        SchedulerEvent("scheduler_job_completed", 54.0, 8, reason_or_result="success"),
    ]


@pytest.fixture
def recording(write_journal: Callable[..., RunFolder]) -> Path:
    folder = write_journal(RUN, events(), ended=True)
    finish_import(folder)
    return folder.recording


def test_wall_times_know_the_interruption(recording: Path) -> None:
    with QueryProcess() as process:
        _, rows = RecordingQuery(recording, process).run(
            "SELECT kind, utc_time FROM events WHERE kind LIKE 'run_%' OR kind LIKE '%job%'"
            " ORDER BY ordinal"
        )
        times: dict[str, datetime] = {row[0]: row[1] for row in rows}
    began = datetime.fromtimestamp(BEGAN, UTC).replace(tzinfo=None)
    seconds = {kind: (moment - began).total_seconds() for kind, moment in times.items()}
    assert seconds == pytest.approx(
        {"scheduler_job_started": 0.0, "run_resumed": 3600.0, "scheduler_job_completed": 3602.0}
    )


def test_what_was_open_has_no_end(recording: Path) -> None:
    reader = open_recording(recording)
    try:
        leases, attempts = reader.life("a/0")
        before, after = reader.state_at(7), reader.state_at(8)
    finally:
        reader.close()
    assert [(lease.lease_id, lease.released_at) for lease in leases] == [("t1", None)]
    assert attempts == []
    assert (len(before.tasks), len(before.attempts), before.leased) == (1, 1, {"submission": 1})
    assert (len(after.tasks), len(after.attempts), after.leased) == (0, 0, {})
    assert after.ceilings[RESOURCE.label].in_flight == 0
    assert (after.progress.rows_done, after.progress.rows_dropped) == (2, 1)
    assert (after.row_groups.admitted, after.row_groups.checkpointed) == (1, 1)
    ((at, wall),) = after.resumptions
    assert wall - BEGAN == pytest.approx(3600.0)
    assert at == after.time


def test_nothing_was_leased_in_between(recording: Path) -> None:
    reader = open_recording(recording)
    try:
        rows = reader.rollup(0, 10)
    finally:
        reader.close()
    leased = {row.bin: row.mean for row in rows if row.series == "leased"}
    assert set(leased) == {0}
    assert leased[0] == pytest.approx(0.3)
