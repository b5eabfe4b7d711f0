"""The recorder as a process, killed and stopped at any time, and the import that others finish."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import pytest

from engine.events import Event, RunInfo, SchedulerEvent
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, read_record, write_record
from engine.events.run_record import RunRecord
from replay.projections.fold import FoldOutput
from replay.recording.ingest import Ingest
from replay.recording.reader import RecordingReader, open_recording
from replay.runs import recorder
from replay.runs.materialize import materialize
from replay.runs.recorder import finish_import
from replay.sources.base import SourceError
from tests.replay.recording.processes import Processes, in_the_log, within

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]
Derived = Callable[[RunInfo, list[Event]], FoldOutput]
Kept = Callable[[RecordingReader], FoldOutput]


def check_complete(
    folder: RunFolder, run: RunInfo, events: list[Event], derived: Derived, kept: Kept
) -> None:
    assert not folder.journal.exists()
    reader = open_recording(folder.recording)
    try:
        assert reader.run() == run
        assert reader.events(0, 10**9) == list(enumerate(events, 1))
        assert kept(reader) == derived(run, events)
        assert (reader.status().complete, reader.status().lost) == (True, False)
    finally:
        reader.close()
    record = read_record(folder)
    assert record is not None
    assert (record.state, record.outcome) == ("complete", "success")


def test_a_recorder_follows_a_run_to_its_end(
    tmp_path: Path, play: Play, processes: Processes, derived: Derived, kept: Kept
) -> None:
    run, events = play(21, row_groups=12)
    folder = RunFolder(tmp_path / "run")
    producer = processes.producer(folder.path, run, events)
    first = processes.recorder(folder)
    assert within(30, lambda: ProcessLock.held(folder.recorder_lock))
    first.send_signal(signal.SIGINT)
    second = processes.recorder(folder)
    assert second.wait(30) == 0
    assert first.poll() is None
    processes.go_on(producer)
    assert producer.wait(60) == 0
    assert first.wait(60) == 0
    assert first.communicate()[1] == b""
    check_complete(folder, run, events, derived, kept)
    record = read_record(folder)
    assert record is not None
    assert record.wall_end == 5.0
    assert record.rows_done + record.rows_dropped == run.records
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "recorder.lock",
        "recording.duckdb",
        "run.json",
        "run.lock",
    ]


def test_a_recorder_leaves_nothing_of_a_run_that_was_called_off(
    tmp_path: Path, processes: Processes
) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.journal.rmdir()
    folder.close()
    assert processes.recorder(folder).wait(30) == 1
    assert list(folder.path.iterdir()) == []


def test_recorders_killed_again_and_again_import_nothing_twice(
    tmp_path: Path, play: Play, processes: Processes, derived: Derived, kept: Kept
) -> None:
    run, events = play(22, row_groups=30)
    folder = RunFolder(tmp_path / "run")
    producer = processes.producer(folder.path, run, events)
    moments: list[Callable[[], bool]] = [
        lambda: ProcessLock.held(folder.recorder_lock),
        folder.recording.exists,
        lambda: in_the_log(folder, 0),
        lambda: in_the_log(folder, 60_000),
        lambda: in_the_log(folder, 60_001),
    ]
    for moment in moments:
        victim = processes.recorder(folder)
        assert within(30, moment)
        victim.kill()
        victim.wait()
    processes.go_on(producer)
    assert producer.wait(60) == 0
    assert read_record(folder) == RunRecord("run-1", "test", "ended", "success", wall_end=5.0)
    finish_import(folder)
    check_complete(folder, run, events, derived, kept)
    finish_import(folder)
    check_complete(folder, run, events, derived, kept)


def test_a_killed_producer_leaves_open_leases_and_a_lost_run(
    tmp_path: Path, play: Play, processes: Processes
) -> None:
    run, events = play(23, row_groups=40)
    folder = RunFolder(tmp_path / "run")
    producer = processes.producer(folder.path, run, events)
    tail = processes.recorder(folder)
    assert within(30, lambda: in_the_log(folder, 60_000))
    producer.kill()
    producer.wait()
    assert tail.wait(60) == 0
    record = read_record(folder)
    assert record is not None
    assert (record.state, record.outcome) == ("lost", None)
    assert "died" in record.message
    assert not folder.journal.exists()
    reader = open_recording(folder.recording)
    assert (reader.status().lost, reader.status().outcome) == (True, None)
    last = reader.bounds().last_ordinal
    assert 0 < last < len(events)
    assert reader.events(0, 10**9) == list(enumerate(events[:last], 1))
    leases, _ = reader.bars(float("-inf"), float("inf"), 10**6)
    still_held = {
        task.lease_id for task in reader.state_at(last).tasks.values() if task.lease_id is not None
    }
    assert {lease.lease_id for lease in leases if lease.released_at is None} == still_held
    reader.close()


def test_a_stopped_recorder_leaves_all_it_read_to_the_next(
    tmp_path: Path, play: Play, processes: Processes, derived: Derived, kept: Kept
) -> None:
    run, events = play(24, row_groups=20)
    folder = RunFolder(tmp_path / "run")
    producer = processes.producer(folder.path, run, events)
    first = processes.recorder(folder)
    assert within(30, lambda: in_the_log(folder, 60_000))
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 1
    assert producer.poll() is None
    reader = open_recording(folder.recording)
    assert not reader.status().complete
    assert reader.bounds().last_ordinal > 0
    reader.close()
    processes.go_on(producer)
    assert processes.recorder(folder).wait(60) == 0
    assert producer.wait() == 0
    check_complete(folder, run, events, derived, kept)


def test_nothing_is_finished_while_the_producer_or_a_recorder_lives(
    play: Play, write_journal: WriteJournal
) -> None:
    run, events = play(1, row_groups=1)
    folder = write_journal(run, events)
    for path in (folder.lock, folder.recorder_lock):
        with ProcessLock(path):
            finish_import(folder)
        assert not folder.recording.exists()
        assert folder.journal.exists()
    finish_import(folder)
    assert folder.recording.exists()


def test_a_journal_that_another_imports_and_removes_is_read_to_its_end(
    play: Play, write_journal: WriteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events, segments=6)
    other = ProcessLock(folder.recorder_lock)
    other.acquire()
    step = Ingest.step

    def step_once(ingest: Ingest) -> int:
        monkeypatch.setattr(Ingest, "step", step)
        taken = ingest.step(20)
        other.release()
        finish_import(folder)
        return taken

    monkeypatch.setattr(Ingest, "step", step_once)
    with materialize(folder.path, lambda _: None) as path:
        reader = open_recording(path)
        assert reader.events(1, 10**9) == list(enumerate(events, 1))
        reader.close()


def test_a_recorder_that_died_between_its_last_steps_is_finished(
    play: Play, write_journal: WriteJournal, derived: Derived, kept: Kept
) -> None:
    run, events = play(2, row_groups=2)
    folder = write_journal(run, events)
    finish_import(folder)
    complete = read_record(folder)
    assert complete is not None
    # It committed the end, but run.json does not say so yet and the journal stands.
    folder.journal.mkdir()
    folder.segment(1).write_bytes(b"")
    write_record(folder, msgspec.structs.replace(complete, state="ended"))
    finish_import(folder)
    check_complete(folder, run, events, derived, kept)
    # It died while removing the journal.
    folder.journal.mkdir()
    (folder.path / ".journal-imported").mkdir()
    finish_import(folder)
    check_complete(folder, run, events, derived, kept)
    assert not (folder.path / ".journal-imported").exists()


def test_a_recording_that_cannot_be_written_keeps_the_journal(
    play: Play, write_journal: WriteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = play(2, row_groups=2)
    folder = write_journal(run, events)
    folder.recording.write_bytes(b"not a database" * 1000)
    monkeypatch.setattr(recorder, "_pause", lambda seconds, stopped: None)
    with pytest.raises(SourceError, match="The journal is kept") as caught:
        finish_import(folder)
    assert caught.value.exit_code == 4
    assert folder.segment(1).exists()
    record = read_record(folder)
    assert record is not None
    assert record.state == "running"


def test_a_failing_recording_is_opened_again(
    play: Play,
    write_journal: WriteJournal,
    derived: Derived,
    kept: Kept,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, events = play(9, row_groups=3)
    folder = write_journal(run, events)
    real = Ingest.step
    failures = iter([False, True, False, True])

    def step(self: Ingest, limit: int = 40) -> int:
        if next(failures, False):
            raise duckdb.IOException("IO Error: No space left on device")
        return real(self, 40)

    monkeypatch.setattr(Ingest, "step", step)
    monkeypatch.setattr(recorder, "_pause", lambda seconds, stopped: None)
    finish_import(folder)
    check_complete(folder, run, events, derived, kept)


def test_misuse_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recorder.main([]) == 2
    assert recorder.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("usage") == 2


def test_a_hundred_thousand_events(
    write_journal: WriteJournal, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunInfo("r1", "big")
    correlated = SchedulerEvent("dependency_ready", 0.0, 1, task_id="question/1")
    events: list[Event] = [
        msgspec.structs.replace(
            correlated,
            captured_at_monotonic=n / 20_000,
            sequence=n,
            task_id=f"question/{n}",
            diagnostics={"group": "model/alpha", "row": n, "attempt": 1},
        )
        if n % 2
        else SchedulerEvent("non_retryable_dropped", n / 20_000, n, task_id=f"question/{n - 1}")
        for n in range(1, 100_001)
    ]
    folder = write_journal(run, events, segments=4)
    began = time.perf_counter()
    finish_import(folder)
    seconds = time.perf_counter() - began
    reader = open_recording(folder.recording)
    assert reader.bounds().last_ordinal == len(events)
    began = time.perf_counter()
    reader.state_at(95_000)
    seek = time.perf_counter() - began
    began = time.perf_counter()
    assert len(reader.events(99_501, 100_000)) == 500
    last = time.perf_counter() - began
    reader.close()
    size = os.path.getsize(folder.recording) / len(events)
    with capsys.disabled():
        print(
            f"\nimport {len(events) / seconds:,.0f} events/s, {size:.0f} bytes an event, state by "
            f"seek {seek * 1000:.0f} ms, last 500 events {last * 1000:.1f} ms"
        )
