"""A disk that takes no more: the true outcome and its reason, the rows that are there, no process.

Cases that need a small file system of their own run where one may be mounted; the others limit the
size of files of one process or all, which fails in the same places with another error.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.e2e.ended_run import ENGINE, RECORDER, kill_all, processes_of, record_of, wait_for
from tests.e2e.program import HEADGATE, environment, headgate
from tests.effort import THOROUGH, effort

KIB, MIB = 1024, 1024 * 1024

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


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> Iterator[None]:
    yield
    kill_all(tmp_path / "out")


@dataclass
class Disk:
    """A small file system with a run's folder on it."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def free(self) -> int:
        stat = os.statvfs(self.root)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave: int = 0) -> Path:
        """Take all room but `leave` bytes."""
        path = self.root / "ballast"
        with path.open("ab", buffering=0) as file:
            try:
                while self.free > leave:
                    file.write(b"\1" * min(64 * KIB, self.free - leave))
            except OSError:
                pass
        return path


def mountable() -> bool:
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def mount(path: Path, size: int) -> None:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)


def unmount(path: Path) -> None:
    wait_for(
        lambda: (
            subprocess.run(["umount", str(path)], capture_output=True, check=False).returncode == 0
        ),
        f"{path} unmounted",
    )


mounts = pytest.mark.skipif(not mountable(), reason="no file system may be mounted here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    made: list[Path] = []

    def make(size: int) -> Disk:
        path = tmp_path / f"disk-{len(made)}"
        mount(path, size)
        made.append(path)
        return Disk(path)

    yield make
    for path in made:
        kill_all(path / "out")
        unmount(path)


thorough = pytest.mark.skipif(not THOROUGH, reason="only under make test-all")


def workflow(folder: Path, printed: int = 1) -> Path:
    (folder / "functions.py").write_text(FUNCTIONS.replace("PRINTED", str(printed)))
    path = folder / "workflow.yaml"
    path.write_text(WORKFLOW)
    return path


def start(
    tmp_path: Path, out: Path, limit: int | None = None, printed: int = 1
) -> subprocess.Popen[str]:
    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [HEADGATE, "run", workflow(tmp_path, printed), "--headless", "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


def finish(front: subprocess.Popen[str], out: Path) -> tuple[int, str, str]:
    said, complaints = front.communicate(timeout=120)
    wait_for(lambda: not processes_of(out, ENGINE, RECORDER), "the end of all processes")
    assert "Traceback" not in complaints
    assert "producer died" not in said + complaints
    return front.returncode, said, complaints


def parquet_rows(out: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in (out / "dataset").glob("*.parquet"))


def check(out: Path, outcome: str, code: int, returned: tuple[int, str, str]) -> dict[str, Any]:
    """What was said, what `run.json` says, and what is there: the same."""
    assert returned[0] == code, returned
    record = record_of(out)
    assert record.get("outcome") == outcome, record
    assert record.get("rows_done", 0) == parquet_rows(out), record
    if outcome == "failed":
        assert "could not be written" in record["message"], record
        assert "could not be written" in " ".join(returned[1].split())
    if not (out / "journal").exists():
        assert record["state"] == "complete"
        with duckdb.connect(str(out / "recording.duckdb"), read_only=True) as connection:
            [row] = connection.execute(
                "select count(*) from events where kind = 'row_group_checkpointed'"
            ).fetchall()
        assert row[0] * 15 == record.get("rows_done", 0)
    return record


def check_importable(out: Path, tmp_path: Path, outcome: str) -> None:
    """With room again, the folder opens and says the same."""
    shown = headgate("replay", out, "--once", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"full: {outcome}")
    record = record_of(out)
    assert (record["state"], record["outcome"]) == ("complete", outcome)
    assert record.get("rows_done", 0) == parquet_rows(out)
    assert not (out / "journal").exists()


def wait_for_rows(out: Path, rows: int) -> None:
    wait_for(lambda: parquet_rows(out) >= rows, f"{rows} rows")


def refuse_to_start(tmp_path: Path, out: Path, reason: str) -> None:
    code, said, complaints = finish(start(tmp_path, out), out)
    assert (code, said) == (2, "")
    assert reason in complaints
    assert len(complaints.splitlines()) == 1
    assert not out.exists()


@mounts
@pytest.mark.parametrize("leave", effort([8 * KIB], [n * 8 * KIB for n in range(24)]))
def test_no_room_at_the_start(disk: Callable[[int], Disk], leave: int, tmp_path: Path) -> None:
    """1 to 3: nothing at all, room for the folder, room for the lock and the first line."""
    full = disk(4 * MIB)
    ballast = full.fill(leave)
    refuse_to_start(tmp_path, full.out, "No space left on device")
    ballast.unlink()
    done = headgate("demo", "--headless", "--records", "1", "--out", full.out, cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr  # the same folder can be used again


@mounts
def test_it_fills_up_while_the_run_goes_on(disk: Callable[[int], Disk], tmp_path: Path) -> None:
    """4: journal, rows and recording share a disk that another program fills."""
    full = disk(24 * MIB)
    front = start(tmp_path, full.out)
    wait_for_rows(full.out, 15)
    ballast = full.fill()
    returned = finish(front, full.out)
    check(full.out, "failed", 3, returned)
    assert "No space left on device" in " ".join(returned[1].split())
    ballast.unlink()
    check_importable(full.out, tmp_path, "failed")


@thorough
@mounts
def test_it_is_full_and_then_free_again(disk: Callable[[int], Disk], tmp_path: Path) -> None:
    """5: between two row groups, so that none of them is refused."""
    full = disk(32 * MIB)
    front = start(tmp_path, full.out)
    wait_for_rows(full.out, 15)
    full.fill().unlink()
    returned = finish(front, full.out)
    record = record_of(full.out)
    check(full.out, record["outcome"], {"success": 0, "failed": 3}[record["outcome"]], returned)


@thorough
def test_only_the_dataset_has_no_room(tmp_path: Path) -> None:
    """6: what was written before is kept, the journal ends as it should."""
    out = tmp_path / "out"
    front = start(tmp_path, out)
    wait_for_rows(out, 15)
    for pid in processes_of(out, ENGINE):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (400 * KIB, 400 * KIB))
    returned = finish(front, out)
    record = check(out, "failed", 3, returned)
    assert record["state"] == "complete"
    assert 0 < record["rows_done"] < 90
    assert not list((out / "dataset").glob("*.tmp"))


def test_only_the_recording_has_no_room(tmp_path: Path) -> None:
    """7: the run is a success, its journal is kept until there is room."""
    out = tmp_path / "out"
    front = start(tmp_path, out)
    wait_for(lambda: bool(processes_of(out, RECORDER)), "the recorder")
    for pid in (front.pid, *processes_of(out, RECORDER)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (20 * KIB, 20 * KIB))
    returned = finish(front, out)
    assert returned[0] == 0, returned
    record = record_of(out)
    assert (record["outcome"], record["rows_done"]) == ("success", 90)
    assert parquet_rows(out) == 90
    assert (out / "journal").exists()
    check_importable(out, tmp_path, "success")


def test_the_output_log_has_no_room(tmp_path: Path) -> None:
    """8: what functions print is lost, not their rows."""
    out = tmp_path / "out"
    returned = finish(start(tmp_path, out, limit=2 * MIB, printed=100_000), out)
    check(out, "success", 0, returned)
    assert (out / "output.log").stat().st_size == 2 * MIB


@mounts
def test_it_is_full_at_the_very_end(disk: Callable[[int], Disk], tmp_path: Path) -> None:
    """9: the last row group is written, what the run says of its end has no room but its own."""
    full = disk(32 * MIB)
    front = start(tmp_path, full.out)
    wait_for_rows(full.out, 75)
    for pid in processes_of(full.out, RECORDER):
        os.kill(pid, signal.SIGSTOP)
    wait_for_rows(full.out, 90)
    ballast = full.fill()
    for pid in processes_of(full.out, RECORDER):
        os.kill(pid, signal.SIGCONT)
    code, _, _ = finish(front, full.out)
    assert code == 0
    record = record_of(full.out)
    assert (record["outcome"], record.get("rows_done", 0)) == ("success", 90)
    ballast.unlink()
    check_importable(full.out, tmp_path, "success")


@thorough
@mounts
def test_a_stop_on_a_full_disk(disk: Callable[[int], Disk], tmp_path: Path) -> None:
    """10: it ends at once, and says what it is."""
    full = disk(24 * MIB)
    front = start(tmp_path, full.out)
    wait_for_rows(full.out, 15)
    ballast = full.fill()
    front.send_signal(signal.SIGINT)
    returned = finish(front, full.out)
    record = record_of(full.out)
    code = {"cancelled": 130, "failed": 3, "success": 0}[record["outcome"]]
    check(full.out, record["outcome"], code, returned)
    ballast.unlink()
    check_importable(full.out, tmp_path, record["outcome"])


@pytest.mark.parametrize("limit", effort([300 * KIB], [200 * KIB, 300 * KIB, 500 * KIB]))
def test_files_may_grow_only_so_far(limit: int, tmp_path: Path) -> None:
    """11: as of a quota; every file of the run by itself."""
    out = tmp_path / "out"
    front = start(tmp_path, out, limit=limit)
    returned = finish(front, out)
    record = check(out, "failed", 3, returned)
    assert "File too large" in " ".join(returned[1].split())
    check_importable(out, tmp_path, record["outcome"])


@pytest.mark.parametrize("limit", effort([10 * KIB], [0, 10 * KIB, 100 * KIB]))
def test_files_may_not_even_begin(limit: int, tmp_path: Path) -> None:
    """12: refused at the start, for the same reason."""
    out = tmp_path / "out"
    code, said, complaints = finish(start(tmp_path, out, limit=limit), out)
    assert (code, said) == (2, "")
    assert "File too large" in complaints
    assert not out.exists()
