"""The list of runs: states, order, deleting and stopping."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.events import UserError
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, write_record
from engine.events.run_index import list_runs, register
from engine.events.run_record import RunRecord
from replay.runs.catalogue import delete_run, is_folder_of_runs, list_entries
from replay.runs.stop import stop_run

HOLDER = """
import signal, sys
from pathlib import Path
from engine.events.process_lock import ProcessLock
awaited = {signal.SIGTERM, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
with ProcessLock(Path(sys.argv[1]) / "run.lock"):
    print("held", flush=True)
    print(signal.Signals(signal.sigwait(awaited)).name, flush=True)
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))


def make(path: Path, record: RunRecord) -> RunFolder:
    folder = RunFolder.create(path)
    write_record(folder, record)
    register(folder, record)
    return folder


def ended(run_id: str, start: float) -> RunRecord:
    return RunRecord(
        run_id,
        "demo",
        "complete",
        outcome="success",
        wall_start=start,
        wall_end=start + 60,
        records=10,
        rows_done=9,
        rows_dropped=1,
    )


def test_live_runs_come_first_then_the_newest(tmp_path: Path) -> None:
    make(tmp_path / "a", ended("a", 100.0))
    make(tmp_path / "b", ended("b", 300.0))
    live = make(tmp_path / "c", RunRecord("c", "demo", "running", wall_start=50.0))
    make(tmp_path / "d", RunRecord("d", "demo", "running", wall_start=40.0))
    with ProcessLock(live.lock):
        entries = list_entries(now=350.0)
    assert [(entry.run_id, entry.state) for entry in entries] == [
        ("c", "live"),
        ("b", "complete"),
        ("a", "complete"),
        ("d", "unknown"),
    ]
    assert entries[0].seconds == 300.0
    assert entries[0].rows_done is None
    assert (entries[1].rows_done, entries[1].rows_dropped, entries[1].seconds) == (9, 1, 60.0)


def test_a_folder_of_runs_is_listed_without_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "runs" / "a", ended("a", 100.0))
    make(tmp_path / "runs" / "b", ended("b", 300.0))
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "elsewhere"))
    assert is_folder_of_runs(tmp_path / "runs")
    assert not is_folder_of_runs(tmp_path / "runs" / "a")
    assert [entry.run_id for entry in list_entries(tmp_path / "runs")] == ["b", "a"]


def test_deleting_leaves_what_is_not_the_runs(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", ended("a", 100.0))
    make(tmp_path / "b", ended("b", 100.0))
    (folder.path / "dataset").mkdir()
    (folder.path / "dataset" / "0.parquet").write_bytes(b"x")
    (folder.path / "cells").mkdir()
    (folder.path / "cells" / "000000.log").write_bytes(b"x")
    (folder.path / "notes.txt").write_text("mine")
    for entry in list_entries():
        delete_run(entry)
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]
    assert not (tmp_path / "b").exists()
    assert list_runs() == []


def test_a_run_that_is_written_is_not_deleted(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", RunRecord("a", "demo", "running", wall_start=50.0))
    with ProcessLock(folder.lock), pytest.raises(UserError, match="still being written"):
        delete_run(list_entries()[0])
    assert folder.run_json.exists()


@pytest.mark.parametrize(
    ("producer", "number"), [("headgate", signal.SIGTERM), ("data_designer", signal.SIGINT)]
)
@pytest.mark.parametrize("says_pid", [True, False])
def test_stop_signals_the_process_that_holds_the_lock(
    tmp_path: Path, producer: str, number: signal.Signals, says_pid: bool
) -> None:
    folder = RunFolder.create(tmp_path / "a")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        pid = holder.pid if says_pid else None
        record = RunRecord("a", "demo", "running", producer=producer, pid=pid)
        write_record(folder, record)
        assert stop_run(folder.path) == "demo"
        assert holder.stdout.readline() == f"{number.name}\n"
        assert holder.wait(30) == 0
    finally:
        holder.kill()
        holder.communicate()


def test_stop_signals_no_process_that_only_has_the_number(tmp_path: Path) -> None:
    """A process id that another process has taken over is not enough."""
    folder = make(tmp_path / "a", RunRecord("a", "demo", "running", pid=os.getppid()))
    with pytest.raises(UserError, match=r"does not run|not in reach"):
        stop_run(folder.path)


def test_a_run_that_has_ended_is_not_stopped(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", ended("a", 100.0))
    with pytest.raises(UserError, match="nothing to stop"):
        stop_run(folder.path)
