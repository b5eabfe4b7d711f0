from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.events.producer_lock import ProducerLock
from engine.events.run_folder import (
    RunFolder,
    RunRecord,
    installed_versions,
    read_record,
    write_record,
)

HOLD = """
import sys
from pathlib import Path
from engine.events.producer_lock import ProducerLock
lock = ProducerLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_new_and_an_empty_folder_can_be_claimed_once(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "deep" / "run")
    assert folder.journal.is_dir()
    empty = tmp_path / "empty"
    empty.mkdir()
    RunFolder.create(empty)
    for path in (empty, folder.path):
        with pytest.raises(UserError, match="not empty"):
            RunFolder.create(path)


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
    assert not ProducerLock.held(path)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == b"held\n"
        assert all(ProducerLock.held(path) for _ in range(100))
        second = ProducerLock(path)
        assert not second.try_acquire()
        with pytest.raises(UserError, match="in use"):
            second.acquire()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not ProducerLock.held(path)
    with second:
        assert ProducerLock.held(path)
    assert not ProducerLock.held(path)


def test_looking_at_a_lock_never_keeps_its_owner_out(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    look = (
        "import sys\nfrom pathlib import Path\n"
        "from engine.events.producer_lock import ProducerLock\n"
        "print('looking', flush=True)\nwhile True: ProducerLock.held(Path(sys.argv[1]))\n"
    )
    looker = subprocess.Popen([sys.executable, "-c", look, str(path)], stdout=subprocess.PIPE)
    assert looker.stdout is not None
    with looker.stdout:
        looker.stdout.readline()
        lock = ProducerLock(path)
        try:
            for _ in range(3000):
                assert lock.try_acquire()
                lock.release()
        finally:
            looker.kill()
            looker.wait()
