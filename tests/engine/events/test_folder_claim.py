"""The claim on a run folder, and which folders a later run may take over."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RunFolder

CLAIM = """
import os, sys
from pathlib import Path
from engine.events.run_folder import RunFolder
folder = RunFolder.create(Path(sys.argv[1]))
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("claimed", flush=True)
os.kill(os.getpid(), 9)
"""


def files(*names: str, text: str = "") -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return put


NEVER_BEGAN: dict[str, Callable[[Path], None]] = {
    "empty journal": lambda folder: (folder / "journal").mkdir(),
    "output": lambda folder: files("journal/000001.jsonl", "output.log")(folder),
    "locks": files("journal/000001.jsonl", "run.lock", "recorder.lock"),
    "reserves": files("journal/000001.jsonl", ".run.lines", ".run.json", ".run.json.17"),
    "header": files("journal/000001.jsonl", text='{"stream": "header"}\n'),
    "half a header": files("journal/000001.jsonl", text='{"stream": "hea'),
    "recorder's lock alone": files("recorder.lock"),
}
KEPT: dict[str, Callable[[Path], None]] = {
    "events": files("journal/000001.jsonl", text='{"stream": "header"}\n{"stream": "sched'),
    "second segment": files("journal/000002.jsonl"),
    "two segments": files("journal/000001.jsonl", "journal/000002.jsonl"),
    "run.json": files("journal/000001.jsonl", "run.json"),
    "recording": files("journal/000001.jsonl", "recording.duckdb"),
    "log of something else": files("output.log"),
    "dataset": files("journal/000001.jsonl", "dataset/row_group_0.parquet"),
    "another file": files("journal/000001.jsonl", "notes.txt"),
    "link": lambda folder: (folder / "journal").symlink_to(folder.parent),
    "endless header": files("journal/000001.jsonl", text="x" * (1 << 20)),
}


@pytest.mark.parametrize("name", NEVER_BEGAN)
def test_what_a_start_left_whose_run_never_began_is_taken_over(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    NEVER_BEGAN[name](path)
    RunFolder.create(path)
    assert os.listdir(path) == ["journal"]
    assert os.listdir(path / "journal") == []


@pytest.mark.parametrize("name", KEPT)
def test_whatever_else_a_folder_holds_is_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    KEPT[name](path)
    before = sorted(path.rglob("*"))
    with pytest.raises(UserError):
        RunFolder.create(path)
    assert sorted(path.rglob("*")) == before


def test_a_folder_stays_claimed_while_a_process_of_the_start_lives(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        assert starter.stdout.readline() == "claimed\n"
        assert starter.wait(30) == -signal.SIGKILL
        with pytest.raises(UserError, match="in use by another run"):
            RunFolder.create(path)
        starter.stdin.close()  # its child ends
        assert starter.stdout.read() == ""
    RunFolder.create(path)


def test_without_locks_only_an_empty_folder_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        folder = RunFolder.create(path)
        with pytest.raises(UserError, match="not empty"):
            RunFolder.create(path)
    folder.close()
    RunFolder.create(path)


@pytest.mark.parametrize("name", ["run.lock", "recorder.lock"])
def test_a_lock_that_is_held_keeps_a_folder(name: str, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    folder.close()
    with ProcessLock(folder.path / name), pytest.raises(UserError, match="not empty"):
        RunFolder.create(folder.path)
    RunFolder.create(folder.path)
