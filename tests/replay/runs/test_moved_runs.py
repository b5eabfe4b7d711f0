"""Folders that are renamed, copied or lose their lock in mid-run: nothing lost, nothing claimed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from engine.events import Event, RunInfo
from engine.events.run_folder import RunFolder, read_record
from replay.playback.session import Session
from replay.recording.ingest import Ingest
from replay.recording.query import RecordingQuery
from replay.recording.reader import open_recording
from replay.runs import recorder
from replay.runs.materialize import materialize
from replay.runs.open import open_source
from replay.runs.recorder import finish_import
from replay.verify.verify import verify_recording
from tests.replay.recording.processes import Processes, in_the_log, within

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))


def recorded_events(folder: RunFolder) -> list[Event]:
    reader = open_recording(folder.recording)
    try:
        return [event for _, event in reader.events(0, 10**9)]
    finally:
        reader.close()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path, but for the locks that an import holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def partly_run(
    tmp_path: Path, play: Play, processes: Processes
) -> tuple[RunFolder, RunInfo, list[Event]]:
    """A producer that lives and a recorder that follows it."""
    run, events = play(31, row_groups=30)
    folder = RunFolder(tmp_path / "run")
    producer = processes.producer(folder.path, run, events)
    processes.recorder(folder)
    assert within(60, lambda: in_the_log(folder, 60_000))
    assert producer.poll() is None
    assert folder.producer_lives
    return folder, run, events


def test_a_folder_renamed_in_mid_run_loses_nothing(
    tmp_path: Path, play: Play, processes: Processes
) -> None:
    folder, _, events = partly_run(tmp_path, play, processes)
    producer, tail = processes.started
    session = Session.open(folder.path)
    session.refresh()
    moved = RunFolder((tmp_path / "run").rename(tmp_path / "moved"))
    stranger = RunFolder.create(tmp_path / "run")
    assert folder.path == moved.path
    assert moved.producer == "alive"
    opened = open_source(moved.path)
    assert opened.feed is not None
    assert opened.feed.folder is not None
    opened.feed.close()
    processes.go_on(producer)
    assert producer.wait(60) == 0
    assert tail.wait(60) == 0, tail.communicate()
    assert recorded_events(moved) == events
    record = read_record(moved)
    assert record is not None
    assert (record.state, record.outcome) == ("complete", "success")
    assert not moved.journal.exists()
    assert sorted(path.name for path in stranger.path.iterdir()) == ["journal"]
    while session.refresh(budget_seconds=1.0):
        pass
    assert session.finished
    assert session.reader.bounds().last_ordinal == len(events)
    session.close()


def test_a_folder_renamed_again_and_again_loses_nothing(
    tmp_path: Path, play: Play, processes: Processes
) -> None:
    folder, _, events = partly_run(tmp_path, play, processes)
    producer, tail = processes.started
    for turn in range(20):
        place = tmp_path / f"moved-{turn}"
        folder.path.rename(place)
        if turn == 10:
            processes.go_on(producer)
        within(0.1, lambda: False)
    assert producer.wait(60) == 0
    assert tail.wait(60) == 0, tail.communicate()
    assert recorded_events(folder) == events


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_folder_that_is_renamed_just_after_its_path_was_looked_up_is_imported_whole(
    tmp_path: Path,
    play: Play,
    write_journal: WriteJournal,
    monkeypatch: pytest.MonkeyPatch,
    nth: int,
) -> None:
    run, events = play(32, row_groups=2)
    folder = write_journal(run, events)
    look_up: property = vars(RunFolder)["path"]
    lookups = 0

    def path_and_rename(self: RunFolder) -> Path:
        nonlocal lookups
        path: Path = look_up.__get__(self)
        lookups += 1
        if lookups == nth:
            path.rename(tmp_path / "moved")
        return path

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "path", property(path_and_rename))
        patch.setattr(recorder, "_pause", lambda seconds, stopped: None)
        finish_import(folder)
    assert lookups >= nth
    assert recorded_events(folder) == events
    record = read_record(folder)
    assert record is not None
    assert record.state == "complete"
    assert not folder.journal.exists()


@pytest.mark.parametrize("checkpoints", [0, 1, 2])
def test_a_folder_renamed_while_duckdb_checkpoints_loses_nothing(
    tmp_path: Path,
    play: Play,
    write_journal: WriteJournal,
    monkeypatch: pytest.MonkeyPatch,
    checkpoints: int,
) -> None:
    """DuckDB goes by path: what it leaves in the renamed folder is a log of another file."""
    run, events = play(32, row_groups=6)
    folder = write_journal(run, events)
    step = Ingest.step
    turns = iter(range(100))

    def step_and_move(ingest: Ingest, limit: int = 0) -> int:
        taken = step(ingest, 40)
        if next(turns) == 2:
            (tmp_path / "run").rename(tmp_path / "moved")
            (tmp_path / "run").mkdir()
            for _ in range(checkpoints):
                taken += step(ingest, 40)
                ingest.checkpoint()
        return taken

    monkeypatch.setattr(Ingest, "step", step_and_move)
    monkeypatch.setattr(recorder, "_pause", lambda seconds, stopped: None)
    finish_import(folder)
    assert folder.path == tmp_path / "moved"
    assert recorded_events(folder) == events
    assert not folder.journal.exists()


@pytest.mark.parametrize("checkpoints", [0, 1])
def test_a_folder_renamed_at_the_very_end_is_concluded_where_it_is(
    tmp_path: Path,
    play: Play,
    write_journal: WriteJournal,
    monkeypatch: pytest.MonkeyPatch,
    checkpoints: int,
) -> None:
    run, events = play(36, row_groups=3)
    folder = write_journal(run, events)
    finish = Ingest.finish

    def move_and_finish(ingest: Ingest) -> None:
        if (tmp_path / "run").exists():
            (tmp_path / "run").rename(tmp_path / "moved")
            for _ in range(checkpoints):
                ingest.checkpoint()
        finish(ingest)

    monkeypatch.setattr(Ingest, "finish", move_and_finish)
    monkeypatch.setattr(recorder, "_pause", lambda seconds, stopped: None)
    finish_import(folder)
    assert recorded_events(folder) == events
    record = read_record(RunFolder(tmp_path / "moved"))
    assert record is not None
    assert record.state == "complete"
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == [
        "recorder.lock",
        "recording.duckdb",
        "run.json",
        "run.lock",
    ]


def test_a_lock_that_vanishes_proves_no_death(
    tmp_path: Path, play: Play, processes: Processes
) -> None:
    folder, _, events = partly_run(tmp_path, play, processes)
    producer, tail = processes.started
    folder.lock.unlink()
    late = RunFolder(folder.path)
    assert (late.producer, late.doubt) == ("unknown", "no_lock")
    opened = open_source(folder.path)
    assert opened.feed is not None
    assert opened.feed.folder is not None
    while opened.feed.poll().events:
        pass
    assert opened.feed.liveness == "unknown"
    assert "run.lock is missing" in opened.feed.notes[0]
    opened.feed.close()
    assert tail.poll() is None
    assert folder.journal.exists()
    processes.go_on(producer)
    assert producer.wait(60) == 0
    assert tail.wait(60) == 0, tail.communicate()
    assert recorded_events(folder) == events


def test_a_copy_of_a_live_folder_is_read_and_left_as_it_is(
    tmp_path: Path, play: Play, processes: Processes
) -> None:
    folder, _, _ = partly_run(tmp_path, play, processes)
    copy = tmp_path / "copy"
    shutil.copytree(folder.path, copy)
    before = contents(copy)
    copied = RunFolder(copy)
    assert (copied.producer, copied.doubt) == ("unknown", "copy")
    session = Session.open(copy)
    while session.refresh(budget_seconds=1.0):
        pass
    assert session._liveness == "unknown"
    session.close()
    report = verify_recording(copy)
    assert report.state == "unknown"
    said: list[str] = []
    with materialize(copy, said.append) as path:
        query = RecordingQuery(path)
        rows = list(query.run("SELECT verdict FROM stalls WHERE verdict = 'producer_gone'")[1])
        query.close()
    assert rows == []
    assert "this is a copy of a run" in said[-1]
    finish_import(copied)
    assert contents(copy) == before


@pytest.fixture
def live(tmp_path: Path, play: Play, processes: Processes) -> RunFolder:
    return partly_run(tmp_path, play, processes)[0]


def test_a_live_run_is_not_said_to_be_without_its_producer(live: RunFolder) -> None:
    with materialize(live.path, lambda _: None) as path:
        query = RecordingQuery(path)
        rows = list(query.run("SELECT count(*) FROM stalls WHERE verdict = 'producer_gone'")[1])
        (status,) = query.run("SELECT outcome, complete, lost FROM run")[1]
        query.close()
    assert rows == [(0,)]
    assert tuple(status) == (None, False, False)


def test_a_recording_that_is_not_whole_keeps_its_journal(
    play: Play, write_journal: WriteJournal
) -> None:
    """Whatever `run.json` says: a copy may have been made in the middle of an import."""
    run, events = play(33, row_groups=2)
    folder = write_journal(run, events)
    journal = contents(folder.journal)
    finish_import(folder)
    folder.journal.mkdir()
    for name, data in journal.items():
        (folder.journal / name).write_bytes(data)
    folder.recording.unlink()
    finish_import(folder)
    assert recorded_events(folder) == events


def test_what_was_made_by_another_user_is_not_written_into(
    play: Play, write_journal: WriteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = play(34, row_groups=2)
    folder = write_journal(run, events)
    if os.geteuid() == 0:
        os.chown(folder.lock, 65534, 65534)
    else:  # who may not give a file away becomes somebody else
        monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    before = contents(folder.path)
    assert open_source(folder.path).feed is not None
    assert contents(folder.path) == before


def test_a_recording_is_for_its_owner_alone(
    tmp_path: Path, play: Play, processes: Processes
) -> None:
    before = os.umask(0)
    try:
        folder, _, _ = partly_run(tmp_path, play, processes)
    finally:
        os.umask(before)
    for path in [folder.path, *folder.path.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_link_in_place_of_a_recording_is_not_written_through(
    tmp_path: Path, play: Play, write_journal: WriteJournal
) -> None:
    run, events = play(35, row_groups=2)
    folder = write_journal(run, events)
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
    before = other.read_bytes()
    for name in ("recording.duckdb", "recording.duckdb.wal"):
        (folder.path / name).symlink_to(other)
        with pytest.raises(Exception, match="can't be completed"):
            finish_import(folder)
        assert other.read_bytes() == before
        (folder.path / name).unlink()
    os.link(other, folder.recording)
    with pytest.raises(Exception, match="can't be completed"):
        finish_import(folder)
    assert other.read_bytes() == before


def test_a_run_under_the_name_of_one_that_was_removed_is_left_alone(
    tmp_path: Path, play: Play, processes: Processes
) -> None:
    """DuckDB goes by path, and would put its log into the other run's folder."""
    folder, _, _ = partly_run(tmp_path, play, processes)
    producer, tail = processes.started
    shutil.rmtree(folder.path)
    stranger = RunFolder.create(tmp_path / "run")
    processes.go_on(producer)
    assert tail.wait(60) == 4
    assert b"is not there any more" in tail.communicate()[1]
    assert [path.name for path in stranger.path.iterdir()] == ["journal"]
