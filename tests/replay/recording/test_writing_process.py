"""Real processes: what the other side writes, and how either side's end is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from engine.events import Event, RunInfo, SchedulerEvent
from engine.events.run_folder import RunFolder
from replay.projections.fold import FoldOutput
from replay.recording.batch import BatchDecoder, BatchEncoder, FoldCheckpoint, FoldedBatch
from replay.recording.ingest import Ingest
from replay.recording.keyframes import Keyframe
from replay.recording.opening import spill_folder
from replay.recording.reader import RecordingReader, open_recording
from replay.recording.schema import ImportEnding
from replay.recording.writer import RecordingWriter
from replay.recording.writing_process import WritingProcess, _Inbox
from replay.runs.materialize import materialize
from replay.runs.recorder import finish_import
from replay.sources.base import BrokenLine, SourceError
from replay.sources.feed import open_journal
from replay.state.rows import BlameRow

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]
Derived = Callable[[RunInfo, list[Event]], FoldOutput]
Kept = Callable[[RecordingReader], FoldOutput]
Started = list[WritingProcess]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Every import is given to another process at once, and waits for it."""
    processes: Started = []

    class Prompt(WritingProcess):
        def __init__(self) -> None:
            super().__init__()
            processes.append(self)

        @property
        def ready(self) -> bool:
            while not super().ready:
                assert self._process.poll() is None
            return True

    monkeypatch.setattr("replay.recording.ingest.WritingProcess", Prompt)
    monkeypatch.setattr("replay.recording.ingest.ALONE_EVENTS", 1)
    monkeypatch.setattr("replay.recording.ingest.EVENTS_PER_STEP", 20)
    monkeypatch.setattr("replay.recording.ingest.FOLD_EVERY", 30)
    return processes


def begin(folder: RunFolder) -> Ingest:
    """Handed over, with more than half of the events still to come."""
    ingest = Ingest(open_journal(folder), folder.recording, 50, two_processes=True)
    assert [ingest.step(20) for _ in range(2)] == [20, 20]
    return ingest


def kill(process: WritingProcess) -> None:
    os.kill(process._process.pid, signal.SIGKILL)


def end(ingest: Ingest) -> None:
    while ingest.step(20):
        pass
    ingest.finish()


def test_two_processes_write_what_one_does(
    play: Play,
    write_journal: WriteJournal,
    derived: Derived,
    kept: Kept,
    started: Started,
) -> None:
    run, events = play(3, row_groups=6)
    folder = write_journal(run, events, segments=3)
    ingest = begin(folder)
    end(ingest)
    assert ingest.finished
    ingest.close()
    assert len(started) == 1
    reader = open_recording(folder.recording)
    assert reader.events(1, 10**9) == list(enumerate(events, 1))
    assert kept(reader) == derived(run, events)
    assert reader.status().complete
    reader.close()


def test_any_batch_arrives_as_it_was_sent() -> None:
    batch = FoldedBatch(
        [SchedulerEvent("selected", 0.5, 1, diagnostics={"huge": 10**40, "é": [None, 1.5]})],
        7,
        {"segment": 1},
        FoldOutput(blame=[BlameRow(3, "run", "", None, "alpha", "working", float("inf"))]),
        [BrokenLine(3, "broken JSON")],
        [Keyframe(7, float("-inf"), b"\x00\xff")],
        FoldCheckpoint(7, b"\x01"),
        RunInfo("r1", "run", configuration={"huge": -(10**40)}),
        ImportEnding("success", False),
    )
    again = BatchDecoder().decode(BatchEncoder().encode(batch))
    assert again == batch
    assert BatchDecoder().decode(BatchEncoder().encode(FoldedBatch([], 1, {}))) == FoldedBatch(
        [], 1, {}
    )


def test_an_import_goes_on_where_the_other_side_was_killed(
    play: Play, write_journal: WriteJournal, derived: Derived, kept: Kept, started: Started
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    ingest = begin(folder)
    kill(started[0])
    with pytest.raises(duckdb.Error, match="ended with signal 9"):
        end(ingest)
    ingest.close()
    again = Ingest(open_journal(folder), folder.recording, 50, two_processes=True)
    assert again.last_ordinal == 20
    end(again)
    again.close()
    reader = open_recording(folder.recording)
    assert reader.events(1, 10**9) == list(enumerate(events, 1))
    assert kept(reader) == derived(run, events)
    reader.close()


def before_opening(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[WritingProcess, Path | str], None]
) -> None:
    open_it = WritingProcess.open

    def act_and_open(self: WritingProcess, path: Path | str) -> None:
        act(self, path)
        open_it(self, path)

    monkeypatch.setattr(WritingProcess, "open", act_and_open)


def test_what_the_other_side_can_not_do_is_told(
    play: Play, write_journal: WriteJournal, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    taken: list[duckdb.DuckDBPyConnection] = []
    before_opening(monkeypatch, lambda _, path: taken.append(duckdb.connect(str(path))))
    ingest = begin(folder)
    with pytest.raises(duckdb.Error, match="lock"):
        end(ingest)
    ingest.close()
    taken[0].close()


def test_a_reading_whose_writer_fails_is_one_sentence(
    play: Play, write_journal: WriteJournal, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    before_opening(monkeypatch, lambda process, _: kill(process))
    with (
        pytest.raises(SourceError, match=r"can't be read .* ended with signal 9"),
        materialize(folder.segment(1), lambda _: None),
    ):
        pass


def test_the_other_side_ends_with_its_sender(tmp_path: Path) -> None:
    path = tmp_path / "recording.duckdb"
    process = WritingProcess()
    process.open(path)
    process.append(BatchEncoder().encode(FoldedBatch([SchedulerEvent("selected", 0.5, 1)], 1, {})))
    while not path.exists():
        assert process._process.poll() is None
    assert process._process.stdin is not None
    process._process.stdin.close()
    assert process._process.wait() == 1
    with duckdb.connect(str(path)) as connection:  # nobody holds it, and no half of it is there
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)
    process.close()


def test_an_import_that_is_given_up_leaves_no_process(
    play: Play, write_journal: WriteJournal, started: Started
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    ingest = begin(folder)
    assert ingest.step(20) == 20
    ingest.close()
    assert started[0]._process.returncode == -signal.SIGKILL
    with duckdb.connect(str(folder.recording)) as connection:
        assert connection.execute("SELECT ordinal FROM resume").fetchone() == (20,)


def test_what_ends_before_the_other_side_has_started_is_written_here(
    play: Play,
    write_journal: WriteJournal,
    derived: Derived,
    kept: Kept,
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WritingProcess, "ready", False)
    monkeypatch.setattr("replay.recording.ingest.WritingProcess", WritingProcess)
    monkeypatch.setattr("replay.recording.ingest.MOST_HELD", 30_000)
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    ingest = begin(folder)
    end(ingest)
    ingest.close()
    reader = open_recording(folder.recording)
    assert reader.events(1, 10**9) == list(enumerate(events, 1))
    assert kept(reader) == derived(run, events)
    reader.close()


def refuse_processes(monkeypatch: pytest.MonkeyPatch, why: Exception) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise why

    monkeypatch.setattr(subprocess, "Popen", refuse)


def read_whole(folder: RunFolder) -> list[Event]:
    with materialize(folder.segment(1), lambda _: None) as path:
        reader = open_recording(path)
        events = [event for _, event in reader.events(1, 10**9)]
        reader.close()
    return events


def test_where_no_process_can_be_started_one_does_it_all(
    play: Play, write_journal: WriteJournal, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_processes(monkeypatch, BlockingIOError("no more processes"))
    run, events = play(8, row_groups=6)
    assert read_whole(write_journal(run, events)) == events


def test_a_few_events_start_no_process(
    play: Play, write_journal: WriteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_processes(monkeypatch, AssertionError("started"))
    run, events = play(8, row_groups=6)
    assert read_whole(write_journal(run, events)) == events


def test_a_dead_recording_is_completed_here_where_the_other_side_fails(
    play: Play,
    write_journal: WriteJournal,
    derived: Derived,
    kept: Kept,
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    before_opening(monkeypatch, lambda process, _: kill(process))
    monkeypatch.setattr("replay.runs.recorder._pause", lambda *_: None)
    finish_import(folder)
    assert len(started) == 1
    reader = open_recording(folder.recording)
    assert reader.events(1, 10**9) == list(enumerate(events, 1))
    assert kept(reader) == derived(run, events)
    reader.close()


def test_a_checkpoint_of_what_another_process_writes_is_its_own(
    play: Play, write_journal: WriteJournal, started: Started
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    ingest = begin(folder)
    ingest.checkpoint()  # this process has no connection to the file
    end(ingest)
    ingest.close()
    assert len(started) == 1
    reader = open_recording(folder.recording)
    assert reader.events(1, 10**9) == list(enumerate(events, 1))
    reader.close()


def test_large_events_are_committed_before_they_fill_memory(
    play: Play, write_journal: WriteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = play(8, row_groups=6)
    folder = write_journal(run, events)
    commits: list[int] = []
    commit = RecordingWriter.commit

    def count(self: RecordingWriter) -> None:
        commits.append(self.uncommitted)
        commit(self)

    monkeypatch.setattr(RecordingWriter, "commit", count)
    monkeypatch.setattr("replay.recording.ingest.EVENTS_AT_ONCE", 10)
    monkeypatch.setattr("replay.recording.ingest.MOST_PER_COMMIT", 20_000)
    ingest = Ingest(open_journal(folder), folder.recording, 50)
    assert ingest.step(10) + ingest.step() == len(events)
    assert sum(commits) > 4 * max(commits)
    assert max(commits) < 2 * 20_000
    ingest.close()


def test_what_was_nested_as_deep_as_can_be_read_arrives(tmp_path: Path) -> None:
    path = tmp_path / "recording.duckdb"
    limit = sys.getrecursionlimit()
    nested: list[object] = []
    for _ in range(limit):
        nested = [nested]
    event = SchedulerEvent("selected", 0.5, 1, diagnostics={"nested": nested})
    sys.setrecursionlimit(limit + 200)
    try:
        data = BatchEncoder().encode(FoldedBatch([event], 1, {}))
    finally:
        sys.setrecursionlimit(limit)
    process = WritingProcess()
    process.open(path)
    process.append(data)
    process.finish()
    process.close()
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_who_is_killed_leaves_no_spilled_memory(tmp_path: Path) -> None:
    path = tmp_path / "recording.duckdb"
    process = WritingProcess()
    process.open(path)
    spill = spill_folder(path)
    spill.mkdir()
    (spill / "duckdb_temp").touch()
    process.close()
    assert not spill.exists()


def test_what_waits_for_a_sender_that_died_is_dropped(tmp_path: Path) -> None:
    def received(sent: bytes) -> list[bytes | None]:
        pipe = tmp_path / "pipe"
        pipe.write_bytes(sent)
        inbox, taken = _Inbox(), []
        with pipe.open("rb") as file:
            inbox.fill(file.fileno())
        while not inbox.empty:
            taken.append(inbox.get())
        return taken

    def message(data: bytes) -> bytes:
        return len(data).to_bytes(8, "big") + data

    two = message(b"one") + message(b"two")
    assert received(two + message(b"")) == [b"one", b"two", b""]
    assert received(two) == [None]
    assert received(two + message(b"three")[:-1]) == [None]
    assert received(two + (2**62).to_bytes(8, "big")) == [None]  # more than any memory


def test_who_can_not_start_its_thread_is_never_ready() -> None:
    code = """
import threading

def refuse(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
from replay.recording.writing_process import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stdout == b""
    assert done.returncode != 0
