"""A short run of real processes, and whether what is left of it is true."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from engine.events import RequestEvent, SchedulerEvent, decode_line
from engine.events.kinds import OUTSIDE_NUMBERING
from engine.events.run_folder import RunFolder
from replay.recording.reader import open_recording
from replay.runs.recorder import finish_import

ENGINE = "console.cli.run.engine_process"
RECORDER = "replay.runs.recorder"

FUNCTIONS = """
import asyncio, os
from pathlib import Path

CALLS = str(Path(__file__).with_name("calls.txt"))

def note(word, row):
    descriptor = os.open(CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{word} {row['n']}\\n".encode())
    os.close(descriptor)

async def work(row):
    note("began", row)
    await asyncio.sleep(0.02)
    note("ended", row)
    return "made"
"""

WORKFLOW = """
name: short
records: 200
columns:
  - { name: n, type: sampler, uuid: true }
  - { name: made, type: custom, function: "functions:work", depends_on: [n] }
run: { buffer_size: 10, max_concurrent_row_groups: 2, max_in_flight_tasks: 2 }
"""


def short_workflow(folder: Path) -> Path:
    """A workflow of two seconds whose function keeps count of its calls in `calls.txt`."""
    (folder / "functions.py").write_text(FUNCTIONS)
    workflow = folder / "workflow.yaml"
    workflow.write_text(WORKFLOW)
    return workflow


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what}")
        time.sleep(0.02)


def processes_of(path: Path, *modules: str) -> list[int]:
    """Process ids of these modules working on `path`, from their command lines; without modules
    of all programs."""
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if str(path) in arguments and (not modules or not set(modules).isdisjoint(arguments)):
            pids.append(int(entry.name))
    return pids


def kill_all(folder: Path) -> None:
    for pid in processes_of(folder, ENGINE, RECORDER):
        os.kill(pid, signal.SIGKILL)


def journal_events(folder: Path) -> list[Any]:
    events = []
    for segment in sorted((folder / "journal").glob("*.jsonl")):
        try:
            lines = segment.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            continue
        for line in lines:
            if line.endswith(b"\n"):
                decoded = decode_line(line)
                if isinstance(decoded, SchedulerEvent | RequestEvent):
                    events.append(decoded)
    return events


def interrupted_before_us(complaints: str) -> bool:
    """Did Ctrl+C end the interpreter while it started, before it ran a module of headgate's?

    Python says so itself then, and ends with an exit code of its own.
    """
    return "KeyboardInterrupt" in complaints and "/console/cli/" not in complaints


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


def is_imported(folder: Path) -> bool:
    """Complete the import, as whoever opens the folder does. False while others hold it."""
    finish_import(RunFolder(folder))
    return record_of(folder)["state"] in ("complete", "lost")


def check_nothing_is_left(folder: Path) -> None:
    assert processes_of(folder, ENGINE, RECORDER) == []
    assert not folder.exists()


def check_state(folder: Path, *, lost: bool | None, at_least: int = 0) -> dict[str, Any]:
    """Wait for the processes to end by themselves, open the folder, compare all that it says.

    `lost`: was the engine killed? None where it may have ended before. Returns `run.json`.
    """
    wait_for(lambda: not processes_of(folder, ENGINE, RECORDER), "the end of all processes")
    # A process that is killed has no command line any more before its locks are free.
    wait_for(lambda: is_imported(folder), "the end of the import")
    record = record_of(folder)
    assert record["state"] in (["complete", "lost"] if lost is None else [_state(lost)]), record
    assert (record.get("outcome") is None) == (record["state"] == "lost"), record
    assert not (folder / "journal").exists()

    reader = open_recording(folder / "recording.duckdb")
    assert reader.status().lost == (record["state"] == "lost")
    reader.close()
    with duckdb.connect(str(folder / "recording.duckdb"), read_only=True) as connection:
        streams = connection.execute(
            "select stream, count(*), count(distinct seq), min(seq), max(seq) from events"
            " where kind <> 'recording_gap' and not (seq = 0 and list_contains(?, kind))"
            " group by 1",
            [sorted(OUTSIDE_NUMBERING)],
        ).fetchall()
        kinds = Counter(
            dict(connection.execute("select kind, count(*) from events group by 1").fetchall())
        )
        completed = connection.execute(
            "select count(*) from events where kind = 'task_completed' and task_column = 'made'"
        ).fetchone()
    assert completed is not None
    for stream, count, distinct, low, high in streams:
        assert (low, high) == (1, count) == (1, distinct), (stream, count, distinct, low, high)
    assert sum(count for _, count, *_ in streams) >= at_least
    assert kinds["recording_gap"] == 0

    files = list((folder / "dataset").glob("*.parquet"))
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    calls_file = folder.parent / "calls.txt"
    calls = (
        Counter(line.split()[0] for line in calls_file.read_text().splitlines())
        if (calls_file.exists())
        else Counter()
    )
    if record["state"] == "complete":
        assert record.get("rows_done", 0) == rows
        assert completed[0] == calls["ended"]
        assert kinds["scheduler_job_completed"] == 1
        assert kinds["task_lease_acquired"] == kinds["task_lease_released"]
    else:
        # What its last 20 ms held is lost with the engine.
        assert record.get("rows_done", 0) <= rows
        assert completed[0] <= calls["ended"]
    if record.get("outcome") == "success":
        assert rows == record["records"]
    return record


def _state(lost: bool) -> str:
    return "lost" if lost else "complete"
