"""Opening what is no recording, or is damaged: one clear sentence and the right exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from engine.events import Event, RunInfo
from engine.events.run_folder import RunFolder
from replay.recording.ingest import Ingest
from replay.recording.reader import open_recording
from replay.sources.base import SourceError
from replay.sources.feed import open_journal

Play = Callable[..., tuple[RunInfo, list[Event]]]
WriteJournal = Callable[..., RunFolder]


@pytest.fixture
def recording(play: Play, write_journal: WriteJournal) -> Path:
    run, events = play(1, row_groups=8)
    folder = write_journal(run, events)
    ingest = Ingest(open_journal(folder), folder.recording)
    while ingest.step():
        pass
    ingest.finish()
    ingest.close()
    return folder.recording


def refused(path: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        open_recording(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_no_such_file_a_folder_and_other_files(tmp_path: Path) -> None:
    assert "no file" in str(refused(tmp_path / "none.duckdb"))
    assert "folder" in str(refused(tmp_path))
    for name, content in (("text", b"hello\n" * 100), ("empty", b""), ("short", b"DUCK")):
        path = tmp_path / name
        path.write_bytes(content)
        error = refused(path)
        assert "not a recording" in str(error)
        assert error.exit_code == 2


def test_no_place_for_temporary_files(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError("No usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", refuse)
    error = refused(recording)
    assert "TMPDIR" in str(error)
    assert error.exit_code == 2


def test_a_database_of_someone_else(tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    error = refused(path)
    assert "not a recording" in str(error)
    assert error.exit_code == 2


def test_a_newer_schema(recording: Path) -> None:
    with duckdb.connect(str(recording)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    error = refused(recording)
    assert "newer headgate (schema 99; this one reads up to 1)" in str(error)
    assert error.exit_code == 2
    folder = RunFolder(recording.parent)
    with pytest.raises(SourceError, match="newer headgate"):
        Ingest(open_journal(folder), recording)


def test_a_recording_that_a_recorder_writes(recording: Path) -> None:
    hold = (
        "import sys, duckdb\nconnection = duckdb.connect(sys.argv[1])\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(recording)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        error = refused(recording)
        assert "is being written" in str(error)
        assert error.exit_code == 2
        holder.kill()
        holder.wait()
    open_recording(recording).close()


def test_a_cut_off_recording_is_damaged(recording: Path) -> None:
    data = recording.read_bytes()
    recording.write_bytes(data[: len(data) // 3])
    assert refused(recording).exit_code == 4


def test_flipped_bytes_are_damage_or_do_no_harm(recording: Path) -> None:
    data = recording.read_bytes()
    expected = _all_of(recording)
    damaged = 0
    for position in range(0, len(data), len(data) // 40):
        changed = bytearray(data)
        changed[position : position + 64] = bytes(
            byte ^ 0xFF for byte in data[position : position + 64]
        )
        recording.write_bytes(changed)
        outcome = _all_or_error(recording)
        if isinstance(outcome, SourceError):
            assert "\n" not in str(outcome)
            assert outcome.exit_code in (2, 4)
            damaged += outcome.exit_code == 4
        else:
            assert outcome == expected
    assert damaged > 0


def test_a_recording_can_be_read_from_a_duckdb_of_the_1_5_series(recording: Path) -> None:
    with duckdb.connect(str(recording), read_only=True) as connection:
        tags = connection.execute(
            "SELECT tags FROM duckdb_databases() WHERE path IS NOT NULL"
        ).fetchone()
    assert tags is not None
    assert tags[0]["storage_version"].startswith("v1.5.0")


def _all_or_error(path: Path) -> tuple[object, ...] | SourceError:
    try:
        return _all_of(path)
    except SourceError as error:
        return error


def _all_of(path: Path) -> tuple[object, ...]:
    reader = open_recording(path)
    try:
        return (
            reader.run(),
            reader.status(),
            reader.events(0, 10**9),
            reader.bars(0, 10**9, 10**6),
            reader.rollup(0, 10**6),
            reader.blame(0, 10**6, "run"),
            reader.blame(0, 10**6, "cell"),
            reader.verdicts(),
            reader.state_at(10**9),
        )
    finally:
        reader.close()
