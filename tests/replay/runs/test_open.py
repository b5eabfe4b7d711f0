"""What kind of thing did the user name?"""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest

from engine.events import (
    JournalEnd,
    JournalHeader,
    JournalLine,
    RunInfo,
    SchedulerEvent,
    encode_lines,
)
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, read_record, write_record
from engine.events.run_index import register
from engine.events.run_record import RunRecord
from replay.runs.open import Opened, open_source
from replay.sources.base import SourceError
from replay.sources.feed import Feed
from tests.fixtures.data_designer_format import generate
from tests.replay.producer import leave_lock

HOUR_AGO = time.time() - 3600


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))


def json_lines(opened: Opened) -> Feed:
    assert opened.recording is None
    assert opened.feed is not None
    assert opened.feed.folder is None
    return opened.feed


def make_run(path: Path, run_id: str = "r-12345678") -> RunFolder:
    """A run whose producer is gone after a clean end, not imported yet."""
    folder = RunFolder.create(path)
    run = RunInfo(run_id, "made up")
    events = [
        SchedulerEvent("scheduler_job_started", 1.0, 1),
        SchedulerEvent("scheduler_job_completed", 2.0, 2, reason_or_result="success"),
    ]
    end = JournalEnd("success", 2.0, 2, 0)
    lines: list[JournalLine] = [JournalHeader(run, 1, 1), *events, end]
    folder.segment(1).write_bytes(encode_lines(lines))
    write_record(folder, RunRecord(run_id, run.name, "ended"))
    leave_lock(folder)
    return folder


# JSON Lines


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz", "events.log"])
def test_json_lines_open_whatever_their_name(tmp_path: Path, name: str) -> None:
    generate(tmp_path / name, storm=False)
    os.utime(tmp_path / name, (HOUR_AGO, HOUR_AGO))
    feed = json_lines(open_source(tmp_path / name))
    assert not feed.growing


def test_file_written_just_now_may_grow(tmp_path: Path) -> None:
    generate(tmp_path / "run.jsonl", storm=False)
    generate(tmp_path / "run.jsonl.gz", storm=False)
    assert json_lines(open_source(tmp_path / "run.jsonl")).growing
    assert not json_lines(open_source(tmp_path / "run.jsonl", growing=False)).growing
    assert not json_lines(open_source(tmp_path / "run.jsonl.gz", growing=True)).growing


def test_file_that_a_process_writes_may_grow(tmp_path: Path) -> None:
    generate(tmp_path / "run.jsonl", storm=False)
    with (tmp_path / "run.jsonl").open("ab"):
        os.utime(tmp_path / "run.jsonl", (HOUR_AGO, HOUR_AGO))
        assert json_lines(open_source(tmp_path / "run.jsonl")).growing


def test_watched_file_may_be_absent_or_empty(tmp_path: Path) -> None:
    path = tmp_path / "scheduler_events.jsonl"
    assert json_lines(open_source(path, growing=True)).liveness == "waiting"
    path.touch()
    assert json_lines(open_source(path, growing=True)).liveness == "waiting"


@pytest.mark.parametrize("below", ["", "dataset", "artifacts/dataset"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_dataset_folder_of_data_designer(tmp_path: Path, below: str, suffix: str) -> None:
    folder = tmp_path / "top" / below
    folder.mkdir(parents=True)
    generate(folder / f"scheduler_events.jsonl{suffix}", storm=False)
    opened = open_source(tmp_path / "top")
    assert json_lines(opened).path == folder / f"scheduler_events.jsonl{suffix}"
    assert opened.title == folder.name


@pytest.mark.parametrize("target", ["artifacts/dataset", "artifacts", "."])
@pytest.mark.parametrize("made", [True, False])
def test_watched_dataset_folder_may_come_later(tmp_path: Path, target: str, made: bool) -> None:
    folder = tmp_path / "artifacts" / "dataset"
    if made:
        (tmp_path / target).mkdir(parents=True, exist_ok=True)
    feed = json_lines(open_source(tmp_path / target, growing=True))
    assert not feed.poll().events
    assert feed.liveness == "waiting"
    assert str(tmp_path / target / "scheduler_events.jsonl") in feed.awaited
    assert "write_scheduler_events" in feed.awaited
    folder.mkdir(parents=True, exist_ok=True)
    generate(folder / "scheduler_events.jsonl", storm=False)
    deadline = time.monotonic() + 30
    while not (batch := feed.poll()).events and time.monotonic() < deadline:
        pass
    assert batch.events
    assert feed.awaited == ""
    assert feed.run is not None
    assert feed.run.name == "dataset"
    feed.close()


def test_what_is_only_replayed_is_not_waited_for(tmp_path: Path) -> None:
    for absent in ("artifacts/dataset", "gone.duckdb"):
        with pytest.raises(SourceError, match="There is no file, folder or run"):
            open_source(tmp_path / absent, growing=absent.endswith(".duckdb"))


# runs of headgate


def test_live_run_is_read_from_its_journal(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    with ProcessLock(folder.lock):
        opened = open_source(folder.path)
    assert opened.feed is not None
    assert opened.feed.folder is not None
    assert (opened.recording, opened.title) == (None, "made up")


def test_what_a_dead_recorder_left_is_imported_first(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    opened = open_source(folder.path)
    assert opened == Opened(None, folder.recording, "made up", folder.path)
    record = read_record(folder)
    assert record is not None
    assert record.state == "complete"
    assert open_source(folder.recording) == opened


def test_what_is_imported_is_a_recording_although_its_recorder_still_cleans_up(
    tmp_path: Path,
) -> None:
    folder = make_run(tmp_path / "run")
    opened = open_source(folder.path)
    with ProcessLock(folder.recorder_lock):
        assert open_source(folder.path) == opened


def test_journal_is_read_where_the_import_fails(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    folder.recording.write_bytes(b"\0" * 4096)
    opened = open_source(folder.path)
    assert opened.feed is not None
    assert opened.feed.folder is not None


def test_recording_alone_opens_under_any_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    open_source(folder.path)
    moved = tmp_path / "kept.duckdb"
    folder.recording.rename(moved)
    assert open_source(moved) == Opened(None, moved, "kept.duckdb", moved)


def test_run_is_found_by_its_id_or_the_beginning_of_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "r-12345678")
    other = make_run(tmp_path / "other", "r-12999999")
    for run in (folder, other):
        record = read_record(run)
        assert record is not None
        register(run, record)
    for name in ("r-12345678", "r-123"):
        assert open_source(name).recording is not None
        assert open_source(name).title == "made up"
    with pytest.raises(SourceError, match=r"2 runs are called r-12; .*: r-1\d+, r-1\d+\."):
        open_source("r-12")
    with pytest.raises(SourceError, match="no file, folder or run r-1"):
        open_source("r-1")
    assert open_source("2345678").path == folder.path
    assert open_source("latest").recording is not None
    with pytest.raises(SourceError, match="2 runs are called made up"):
        open_source("made up")


def test_opening_a_moved_run_finds_it_again(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    open_source(tmp_path / "run")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(SourceError, match="is not there now"):
        open_source("r-12345678")
    open_source(moved)
    assert open_source("r-12345678").path == moved


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    open_source(folder.path)
    (tmp_path / "link").symlink_to("run")
    assert open_source(tmp_path / "link").title == "made up"
    kept = folder.recording.rename(tmp_path / "kept.duckdb")
    (tmp_path / "link.duckdb").symlink_to("kept.duckdb")
    assert open_source(tmp_path / "link.duckdb").recording == kept


# mistakes


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="There is no file, folder or run") as caught:
        open_source(tmp_path / "absent.jsonl")
    assert caught.value.exit_code == 2
    with pytest.raises(SourceError, match="There is no file, folder or run"):
        open_source("absent", growing=True)


@pytest.mark.parametrize(
    ("name", "content", "looks"),
    [
        ("a.duckdb", b"SQLite format 3\0", "an SQLite database"),
        ("a.duckdb", b"", "an empty file"),
        ("a.jsonl", b"", "an empty file"),
        ("a.jsonl", b"\n\n", "an empty file"),
        ("a.jsonl", b'{"name": 1}\n{"name": 2}\n', "JSON without events"),
        ("a.jsonl", b"[1, 2]\n", "JSON without events"),
        ("a.txt", b"Dear reader,\n", "a text file"),
        ("a.bin", b"\x01\0\x02", "a binary file"),
        ("a.jsonl", "{}\n".encode("utf-16"), "text in UTF-16, save it as UTF-8"),
        ("a.jsonl.gz", b"plain", "not a recording: it is a text file"),
        ("a.jsonl.gz", gzip.compress(b"{}\n", mtime=0), "JSON without events"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "an empty file"),
    ],
)
def test_not_a_recording_says_what_it_looks_like(
    tmp_path: Path, name: str, content: bytes, looks: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=looks) as caught:
        open_source(tmp_path / name, growing=False)
    assert caught.value.exit_code == 2
    assert str(caught.value).count("\n") == 0


def test_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1abc")
    with pytest.raises(SourceError, match="a Parquet file that can't be read") as caught:
        open_source(tmp_path / "a.parquet", growing=False)
    assert caught.value.exit_code == 4


def test_damaged_gzip_file(tmp_path: Path) -> None:
    packed = gzip.compress(os.urandom(1000))
    (tmp_path / "a.jsonl.gz").write_bytes(packed[:20])
    with pytest.raises(SourceError, match="damaged") as caught:
        open_source(tmp_path / "a.jsonl.gz")
    assert caught.value.exit_code == 4


def test_folders_without_a_recording(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="is an empty folder"):
        open_source(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("hello")
    with pytest.raises(SourceError, match="holds no recording"):
        open_source(tmp_path / "other")


def test_folder_of_several_datasets_asks_for_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        generate(tmp_path / name / "scheduler_events.jsonl", storm=False)
    with pytest.raises(SourceError, match="holds 2 recordings; name one of them: one/"):
        open_source(tmp_path)


def test_run_folder_with_nothing_left(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    with pytest.raises(SourceError, match="neither a journal nor a recording"):
        open_source(folder.path)


def test_pipe_is_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        open_source(tmp_path / "pipe")


def test_names_with_escape_codes_are_shown_harmless(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path / "\x1b[2Jabsent"))
    assert "\x1b" not in str(caught.value)
