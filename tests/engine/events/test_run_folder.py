from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import UserError
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder, read_record, write_record
from engine.events.run_record import RunRecord, installed_versions

HOLD = """
import sys
from pathlib import Path
from typing import Any
from engine.events.process_lock import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_new_and_an_empty_folder_can_be_claimed_once(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "deep" / "run")
    assert folder.journal.is_dir()
    path = tmp_path / "empty"
    path.mkdir()
    empty = RunFolder.create(path)
    for claimed in (folder, empty):
        with pytest.raises(UserError, match="in use by another run"):
            RunFolder.create(claimed.path)
        claimed.close()
        (claimed.path / "notes.txt").touch()
        with pytest.raises(UserError, match="not empty"):
            RunFolder.create(claimed.path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("x")
    with pytest.raises(UserError, match="is a file, not a folder"):
        RunFolder.create(taken)
    with pytest.raises(UserError, match="can't be made"):
        RunFolder.create(taken / "below")


def test_a_folder_without_write_permission_is_one_sentence(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        with pytest.raises(UserError, match="No permission") as caught:
            RunFolder.create(closed / "run")
    finally:
        if superuser:
            os.seteuid(0)
    assert str(caught.value).count(".") == 1


def test_the_record_is_replaced_whole(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    assert read_record(folder) is None
    first = RunRecord("r1", "demo", "running", wall_start=1.5, versions=installed_versions(), pid=7)
    write_record(folder, first)
    assert read_record(folder) == first
    assert set(first.versions) == {"headgate", "python", "duckdb"}
    write_record(folder, RunRecord("r1", "demo", "ended", outcome="success"))
    read = read_record(folder)
    assert read is not None
    assert (read.state, read.outcome) == ("ended", "success")
    assert sorted(path.name for path in folder.path.iterdir()) == ["journal", "run.json"]
    folder.run_json.write_text("{torn")
    assert read_record(folder) is None
    folder.run_json.write_text('{"run_id":"r1","name":"demo","state":"ended","wall_start":1e300}')
    assert read_record(folder) == RunRecord("r1", "demo", "ended")


def test_the_lock_tells_whether_its_holder_lives(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    assert not ProcessLock.held(path)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == b"held\n"
        assert all(ProcessLock.held(path) for _ in range(100))
        second = ProcessLock(path)
        assert not second.try_acquire()
        with pytest.raises(UserError, match="in use"):
            second.acquire()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not ProcessLock.held(path)
    with second:
        assert ProcessLock.held(path)
    assert not ProcessLock.held(path)


def test_looking_at_a_lock_never_keeps_its_owner_out(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    look = (
        "import sys\nfrom pathlib import Path\n"
        "from engine.events.process_lock import ProcessLock\n"
        "print('looking', flush=True)\nwhile True: ProcessLock.held(Path(sys.argv[1]))\n"
    )
    looker = subprocess.Popen([sys.executable, "-c", look, str(path)], stdout=subprocess.PIPE)
    assert looker.stdout is not None
    with looker.stdout:
        looker.stdout.readline()
        lock = ProcessLock(path)
        try:
            for _ in range(3000):
                assert lock.try_acquire()
                lock.release()
        finally:
            looker.kill()
            looker.wait()


def test_a_folder_is_the_same_whatever_it_is_renamed_to(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    write_record(folder, RunRecord("r1", "demo", "running"))
    folder.path.rename(tmp_path / "moved")
    other = RunFolder.create(tmp_path / "run")
    assert folder.path == tmp_path / "moved"
    write_record(folder, RunRecord("r1", "demo", "ended"))
    os.close(folder.create_segment(1))
    os.close(folder.open_log())
    assert read_record(RunFolder(tmp_path / "moved")) == RunRecord("r1", "demo", "ended")
    assert folder.segment_numbers() == [1]
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == [
        "journal",
        "output.log",
        "run.json",
    ]
    assert [path.name for path in other.path.iterdir()] == ["journal"]


@pytest.mark.parametrize("umask", [0, 0o077, 0o022])
def test_a_folder_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = RunFolder.create(tmp_path / "run")
        write_record(folder, RunRecord("r1", "demo", "running"))
        os.close(folder.create_segment(1))
        os.close(folder.open_log())
        with folder.producer_lock():
            pass
    finally:
        os.umask(before)
    for path in [folder.path, *folder.path.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    ("facts", "read"),
    [
        ('"schema_version":null', {}),
        ('"schema_version":"two"', {}),
        ('"wall_start":NaN,"records":3', {"records": 3}),
        ('"wall_start":-Infinity,"wall_end":1e308', {}),
        ('"wall_start":1e999', {}),
        ('"rows_done":"many","outcome":"failed"', {"outcome": "failed"}),
        ('"outcome":7,"message":null,"versions":[],"capacity_plan":1', {}),
        ('"wall_start":' + "9" * 400, {}),
    ],
)
def test_a_record_with_a_fact_of_no_use_still_says_which_run_it_is(
    tmp_path: Path, facts: str, read: dict[str, Any]
) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.run_json.write_text(f'{{"run_id":"r1","name":"demo","state":"ended",{facts}}}')
    expected = msgspec.structs.replace(RunRecord("r1", "demo", "ended"), **read)
    assert read_record(folder) == expected


@pytest.mark.parametrize(
    "written",
    [
        b"[" * 5_000,
        b'{"run_id":"r1","name":"demo","state":"ended","capacity_plan":' + b'{"a":' * 5_000,
        b'{"run_id":"r1","name":"demo","state":"ended","capacity_plan":'
        + b'{"a":' * 5_000
        + b"1"
        + b"}" * 5_001,
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"run_id":null,"name":"demo","state":"ended"}',
        b'{"run_id":"r1","name":"demo","state":"somehow"}',
        b'{"run_id":' + b"9" * 10_000 + b"}",
        b" " * (2 << 20),
    ],
)
def test_a_record_that_is_none_is_no_failure(tmp_path: Path, written: bytes) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.run_json.write_bytes(written)
    assert read_record(folder) is None
