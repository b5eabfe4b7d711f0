"""A disk that takes no more: the true outcome, its reason, the rows that are there, no process."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.e2e.ended_run import ENGINE, RECORDER, processes_of, record_of, wait_for
from tests.e2e.small_disk import (
    KIB,
    MIB,
    LimitedFiles,
    Place,
    SmallDisk,
    namespace_command,
)
from tests.effort import effort

WORKFLOW = """
name: full
records: 90
columns:
  - { name: n, type: sampler, uuid: true }
  - { name: text, type: custom, function: "functions:text", depends_on: [n] }
run: { buffer_size: 15, max_concurrent_row_groups: 2, max_in_flight_tasks: 4 }
"""
FUNCTIONS = """
import asyncio, random

async def text(row):
    await asyncio.sleep(0.05)
    print("x" * PRINTED)
    return random.Random(row["n"]).randbytes(20_000).hex()
"""
DISKS: tuple[Callable[[Path, int], Place], ...] = (
    (LimitedFiles,) if namespace_command() is None else (SmallDisk, LimitedFiles)
)

MakeDisk = Callable[[int], Place]


@pytest.fixture(params=effort(DISKS[:1], DISKS))
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeDisk]:
    """`disk(size) -> Place`, of each kind that there can be here."""
    made: list[Place] = []

    def make(size: int) -> Place:
        made.append(request.param(tmp_path / f"disk-{len(made)}", size))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[LimitedFiles]:
    place = LimitedFiles(tmp_path / "folder")
    yield place
    place.close()


def start(place: Place, printed: int = 1) -> subprocess.Popen[str]:
    (place.cwd / "functions.py").write_text(FUNCTIONS.replace("PRINTED", str(printed)))
    workflow = place.cwd / "workflow.yaml"
    workflow.write_text(WORKFLOW)
    return place.start("run", workflow, "--headless", "--out", place.out)


def finish(front: subprocess.Popen[str], place: Place) -> tuple[int, str, str]:
    said, complaints = front.communicate(timeout=120)
    wait_for(lambda: not processes_of(place.out, ENGINE, RECORDER), "the end of all processes")
    assert "Traceback" not in complaints
    assert "producer died" not in said + complaints
    return front.returncode, said, complaints


def parquet_rows(place: Place) -> int:
    files = (place.files / "dataset").glob("*.parquet")
    return sum(pq.read_metadata(path).num_rows for path in files)


def check(place: Place, outcome: str, code: int, returned: tuple[int, str, str]) -> dict[str, Any]:
    """What was said, what `run.json` says, and what is there: the same."""
    assert returned[0] == code, returned
    record = record_of(place.files)
    assert record.get("outcome") == outcome, record
    assert record.get("rows_done", 0) == parquet_rows(place), record
    if outcome == "failed":
        assert "could not be written" in record["message"], record
        assert "could not be written" in " ".join(returned[1].split())
    if not (place.files / "journal").exists():
        assert record["state"] == "complete"
        recording = place.cwd / "copy.duckdb"
        for path in place.files.glob("recording.duckdb*"):  # with its log, if there is one
            shutil.copy(path, place.cwd / path.name.replace("recording", "copy"))
        with duckdb.connect(str(recording), read_only=True) as connection:
            [row] = connection.execute(
                "select count(*) from events where kind = 'row_group_checkpointed'"
            ).fetchall()
        assert row[0] * 15 == record.get("rows_done", 0)
    return record


def check_importable(place: Place, outcome: str) -> None:
    """With room again, the folder opens and says the same."""
    code, said, complaints = place.run("replay", place.out, "--once")
    assert code == 0, complaints
    assert said.startswith(f"full: {outcome}")
    record = record_of(place.files)
    assert (record["state"], record["outcome"]) == ("complete", outcome)
    assert record.get("rows_done", 0) == parquet_rows(place)
    assert not (place.files / "journal").exists()


def check_resumable(place: Place) -> None:
    """With room again, the run goes on to its end, and no row is lost or there twice."""
    workflow = place.cwd / "workflow.yaml"
    done = place.run("run", workflow, "--headless", "--resume", place.out)
    assert done[0] == 0, done
    record = record_of(place.files)
    assert (record["outcome"], record["rows_done"]) == ("success", 90)
    files = sorted((place.files / "dataset").glob("row-group-*.parquet"))
    values = [row["n"] for path in files for row in pq.read_table(path).to_pylist()]
    assert len(values) == len(set(values)) == 90


def wait_for_rows(place: Place, rows: int) -> None:
    wait_for(lambda: parquet_rows(place) >= rows, f"{rows} rows")


@pytest.mark.parametrize("leave", effort([8 * KIB], [n * 8 * KIB for n in range(16)]))
def test_no_room_at_the_start(disk: MakeDisk, leave: int) -> None:
    """1 to 3: nothing at all, room for the folder, room for the lock and the first line."""
    full = disk(4 * MIB)
    full.fill(leave)
    code, said, complaints = finish(start(full), full)
    assert (code, said) == (2, "")
    assert full.reason in complaints
    assert len(complaints.splitlines()) == 1
    assert not full.files.exists()
    full.free()
    done = full.run("demo", "--headless", "--records", "1", "--out", full.out)
    assert done[0] in (0, 3), done  # the same folder can be used again


def test_it_fills_up_while_the_run_goes_on(disk: MakeDisk) -> None:
    """4: journal, rows and recording share a disk that another program fills."""
    full = disk(24 * MIB)
    front = start(full)
    wait_for_rows(full, 15)
    full.fill()
    returned = finish(front, full)
    check(full, "failed", 3, returned)
    assert full.reason in " ".join(returned[1].split())
    full.free()
    check_importable(full, "failed")
    check_resumable(full)


def test_it_is_full_and_then_free_again(disk: MakeDisk) -> None:
    """5: between two row groups, so that none of them is refused."""
    full = disk(32 * MIB)
    front = start(full)
    wait_for_rows(full, 15)
    full.fill()
    full.free()
    returned = finish(front, full)
    outcome = record_of(full.files)["outcome"]
    check(full, outcome, {"success": 0, "failed": 3}[outcome], returned)


def test_only_the_dataset_has_no_room(folder: LimitedFiles) -> None:
    """6: what was written before is kept, the journal ends as it should."""
    front = start(folder)
    wait_for_rows(folder, 15)
    for pid in processes_of(folder.out, ENGINE):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (400 * KIB, 400 * KIB))
    returned = finish(front, folder)
    record = check(folder, "failed", 3, returned)
    assert record["state"] == "complete"
    assert 0 < record["rows_done"] < 90
    assert not list((folder.files / "dataset").glob("*.tmp"))


def test_only_the_recording_has_no_room(folder: LimitedFiles) -> None:
    """7: the run is a success, its journal is kept until there is room."""
    front = start(folder)
    wait_for(lambda: bool(processes_of(folder.out, RECORDER)), "the recorder")
    for pid in (front.pid, *processes_of(folder.out, RECORDER)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (20 * KIB, 20 * KIB))
    returned = finish(front, folder)
    assert returned[0] == 0, returned
    record = record_of(folder.files)
    assert (record["outcome"], record["rows_done"]) == ("success", 90)
    assert parquet_rows(folder) == 90
    assert (folder.files / "journal").exists()
    check_importable(folder, "success")


def test_the_output_log_has_no_room(folder: LimitedFiles) -> None:
    """8: what functions print is lost, not their rows."""
    folder.limit = 2 * MIB
    returned = finish(start(folder, printed=100_000), folder)
    check(folder, "success", 0, returned)
    assert (folder.files / "output.log").stat().st_size == 2 * MIB


def test_it_is_full_at_the_very_end(disk: MakeDisk) -> None:
    """9: the last row group is written, what the run says of its end has no room but its own."""
    full = disk(32 * MIB)
    front = start(full)
    wait_for_rows(full, 75)
    for pid in processes_of(full.out, RECORDER):
        os.kill(pid, signal.SIGSTOP)
    wait_for_rows(full, 90)
    full.fill()
    for pid in processes_of(full.out, RECORDER):
        os.kill(pid, signal.SIGCONT)
    code, _, _ = finish(front, full)
    assert code == 0
    record = record_of(full.files)
    assert (record["outcome"], record.get("rows_done", 0)) == ("success", 90)
    full.free()
    check_importable(full, "success")


def test_a_stop_on_a_full_disk(disk: MakeDisk) -> None:
    """10: it ends at once, and says what it is."""
    full = disk(24 * MIB)
    front = start(full)
    wait_for_rows(full, 15)
    full.fill()
    front.send_signal(signal.SIGINT)
    returned = finish(front, full)
    outcome = record_of(full.files)["outcome"]
    check(full, outcome, {"cancelled": 130, "failed": 3, "success": 0}[outcome], returned)
    full.free()
    check_importable(full, outcome)


@pytest.mark.parametrize("limit", effort([300 * KIB], [200 * KIB, 300 * KIB, 500 * KIB]))
def test_files_may_grow_only_so_far(limit: int, folder: LimitedFiles) -> None:
    """11: as of a quota; every file of the run by itself."""
    folder.limit = limit
    returned = finish(start(folder), folder)
    record = check(folder, "failed", 3, returned)
    assert folder.reason in " ".join(returned[1].split())
    folder.free()
    check_importable(folder, record["outcome"])


@pytest.mark.parametrize("limit", effort([10 * KIB], [0, 10 * KIB, 100 * KIB]))
def test_files_may_not_even_begin(limit: int, folder: LimitedFiles) -> None:
    """12: refused at the start, for the same reason."""
    folder.limit = limit
    code, said, complaints = finish(start(folder), folder)
    assert (code, said) == (2, "")
    assert folder.reason in complaints
    assert not folder.files.exists()
