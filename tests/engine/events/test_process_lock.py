"""What a lock proves of the process that held it, and what it does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from engine.events import process_lock
from engine.events.process_lock import LockIdentity, ProcessLock
from engine.events.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def seen(folder: RunFolder) -> tuple[str, str]:
    """By somebody who opens the folder now."""
    late = RunFolder(folder.path)
    return late.producer, late.doubt


def test_a_lock_proves_life_and_death_of_the_process_that_took_it(folder: RunFolder) -> None:
    assert seen(folder) == ("unknown", "no_lock")
    with ProcessLock(folder.lock):
        assert seen(folder) == ("alive", "")
    assert seen(folder) == ("dead", "")


def test_a_missing_lock_proves_nothing(folder: RunFolder) -> None:
    with ProcessLock(folder.lock):
        assert folder.producer_lives
        folder.lock.unlink()
        assert seen(folder) == ("unknown", "no_lock")
        assert folder.producer_lives  # it saw the lock itself, and not only its name
    assert folder.producer == "dead"
    assert seen(folder) == ("unknown", "no_lock")


@pytest.mark.parametrize("copy", [shutil.copyfile, shutil.copy2])
def test_the_lock_of_a_copy_proves_nothing(folder: RunFolder, tmp_path: Path, copy: object) -> None:
    with ProcessLock(folder.lock):
        shutil.copytree(folder.path, tmp_path / "copy", copy_function=copy)  # type: ignore[arg-type]
        assert seen(RunFolder(tmp_path / "copy")) == ("unknown", "copy")
    assert seen(RunFolder(tmp_path / "copy")) == ("unknown", "copy")
    assert seen(folder) == ("dead", "")


def test_a_renamed_folder_keeps_its_lock(folder: RunFolder, tmp_path: Path) -> None:
    with ProcessLock(folder.lock):
        folder.path.rename(tmp_path / "moved")
        assert seen(RunFolder(tmp_path / "moved")) == ("alive", "")
    assert seen(RunFolder(tmp_path / "moved")) == ("dead", "")


def test_a_lock_of_another_machine_proves_nothing_and_a_restart_proves_death(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProcessLock(folder.lock):
        pass
    monkeypatch.setattr(process_lock, "boot_id", lambda: "another boot")
    assert seen(folder) == ("dead", "")
    monkeypatch.setattr("socket.gethostname", lambda: "another host")
    assert seen(folder) == ("unknown", "elsewhere")


def test_another_container_of_the_same_machine_is_the_same_machine(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_lock, "boot_id", lambda: "this boot")
    with ProcessLock(folder.lock):
        monkeypatch.setattr("socket.gethostname", lambda: "another container")
        assert seen(folder) == ("alive", "")
    assert seen(folder) == ("dead", "")


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"\xff", b"[" * 5_000, b"{}", b'{"host":1,"boot":"","device":1,"inode":1}'],
)
def test_a_lock_that_does_not_say_whose_it_is_proves_nothing(
    folder: RunFolder, written: bytes
) -> None:
    folder.lock.write_bytes(written)
    assert seen(folder) == ("unknown", "unidentified")


def test_a_lock_is_not_written_through_a_link(folder: RunFolder, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    folder.lock.symlink_to(theirs)
    with pytest.raises(OSError, match="symbolic link"):
        ProcessLock(folder.lock).try_acquire()
    folder.lock.unlink()
    os.link(theirs, folder.lock)
    with pytest.raises(OSError, match="second name"):
        ProcessLock(folder.lock).try_acquire()
    assert theirs.read_text() == "precious"
    assert seen(folder) == ("unknown", "unidentified")


def test_the_holder_says_who_it_is(folder: RunFolder) -> None:
    with ProcessLock(folder.lock):
        written = msgspec.json.decode(folder.lock.read_bytes(), type=LockIdentity)
    assert (written.device, written.inode) == (
        folder.lock.stat().st_dev,
        folder.lock.stat().st_ino,
    )
    assert written.boot == process_lock.boot_id()
