"""Temporary folders go with their makers, also with those that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from replay.recording.temporary_folders import TemporaryFolder, temporary_folder

PREFIX = "headgate-test-"
MAKE = f"""
import os, sys, time
from replay.recording.temporary_folders import TemporaryFolder
folder = TemporaryFolder("{PREFIX}")
(folder.path / "data").write_text("x")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    long_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (long_ago, long_ago))


def test_a_folder_lasts_as_long_as_its_block(home: Path) -> None:
    with temporary_folder(PREFIX) as folder:
        assert folder.parent == home
        (folder / "data").touch()
    assert list(home.iterdir()) == []


def test_the_folder_of_a_process_that_was_killed_goes_when_the_next_is_made(home: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", MAKE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as maker:
        assert maker.stdout is not None
        made = Path(maker.stdout.readline().strip())
        age(made)
        TemporaryFolder(PREFIX).remove()
        assert (made / "data").exists()
        maker.kill()
        assert maker.wait(30) == -signal.SIGKILL
    TemporaryFolder("headgate-other-").remove()
    TemporaryFolder(PREFIX, lambda folder: folder == made).remove()
    assert (made / "data").exists()
    TemporaryFolder(PREFIX).remove()
    assert not made.exists()


def test_a_folder_that_was_made_just_now_stays(home: Path) -> None:
    young = home / f"{PREFIX}young.claimed"
    young.mkdir()
    TemporaryFolder(PREFIX).remove()
    assert young.exists()
    age(young)
    TemporaryFolder(PREFIX).remove()
    assert not young.exists()


def test_the_folder_of_an_older_version_stays(home: Path) -> None:
    old = home / f"{PREFIX}old"
    old.mkdir()
    age(old)
    TemporaryFolder(PREFIX).remove()
    assert old.exists()


def test_what_is_no_folder_stays(home: Path) -> None:
    elsewhere = home / "elsewhere"
    (elsewhere / "below").mkdir(parents=True)
    (home / f"{PREFIX}link.claimed").symlink_to(elsewhere)
    (home / f"{PREFIX}file.claimed").touch()
    age(elsewhere)
    age(home / f"{PREFIX}file.claimed")
    TemporaryFolder(PREFIX).remove()
    assert sorted(path.name for path in home.iterdir()) == [
        "elsewhere",
        f"{PREFIX}file.claimed",
        f"{PREFIX}link.claimed",
    ]
    assert (elsewhere / "below").exists()
