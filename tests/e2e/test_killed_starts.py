"""SIGKILL of a process of a start, before each of its acts in the run's folder: what is left is a
true run, or a folder that the next run can have."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.events.run_folder import RunFolder
from tests.e2e.ended_run import (
    ENGINE,
    RECORDER,
    check_nothing_is_left,
    check_state,
    kill_all,
    processes_of,
    short_workflow,
    wait_for,
)
from tests.e2e.program import HEADGATE, environment, headgate
from tests.effort import effort

RECORDS = 20

KILLER = f"""
import os, signal, sys

victim, nth, others, out = os.environ["KILLED"].split(":")
roles = {{"engine": "{ENGINE}", "recorder": "{RECORDER}"}}
role = next((role for role, module in roles.items() if module in sys.orig_argv), "front")
NAMES = ("journal", "000001.jsonl", "output.log", "recorder.lock", "recording.duckdb")
acts = 0

def in_the_folder(event, arguments):
    if event in ("subprocess.Popen", "fcntl.flock"):
        return True
    if event not in ("open", "os.mkdir", "os.chmod", "os.listdir", "os.rename", "os.remove"):
        return False
    name = os.path.basename(str(arguments[0]))
    if name.endswith((".py", ".pyc")):
        return False
    return name in NAMES or name.startswith((".run", "run.")) or name == os.path.basename(out)

def before(event, arguments):
    global acts
    if not in_the_folder(event, arguments):
        return
    acts += 1
    if acts == int(nth):
        with open(out + ".killed", "w"):
            pass
        if others:
            for process in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{{process}}/cmdline") as file:
                        words = file.read().split(chr(0))
                except OSError:
                    continue
                if out in words and int(process) != os.getpid():
                    os.kill(int(process), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

if role == victim:
    sys.addaudithook(before)
"""

ACTS = {"front": 11, "engine": 18, "recorder": 26}
"""Of each process, until the front shows the run, and until the others end."""
_every_act = [
    (victim, nth, others)
    for victim, acts in ACTS.items()
    for nth in range(1, acts + 1)
    for others in (False, True)
]
CASES = effort(
    [("front", 7, False), *random.Random(2).sample(_every_act, 3)],
    _every_act,
)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "out"
    yield folder
    kill_all(folder)


def start_and_kill(tmp_path: Path, out: Path, victim: str, nth: int, others: bool) -> int:
    """Exit code of the front."""
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    killer = {
        "KILLED": f"{victim}:{nth}:{'others' if others else ''}:{out}",
        "PYTHONPATH": str(tmp_path),
    }
    run: list[str | Path] = [
        HEADGATE,
        "run",
        short_workflow(tmp_path),
        "--headless",
        "--records",
        str(RECORDS),
    ]
    done = subprocess.run(
        [*run, "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path, killer),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "Traceback" not in done.stderr
    wait_for(lambda: not processes_of(out, ENGINE, RECORDER), "the end of all processes")
    return done.returncode


@pytest.mark.parametrize(("victim", "nth", "others"), CASES)
def test_a_start_that_is_killed(
    victim: str, nth: int, others: bool, tmp_path: Path, out: Path
) -> None:
    code = start_and_kill(tmp_path, out, victim, nth, others)
    killed = (tmp_path / "out.killed").exists()
    if not killed:
        assert code == 0
    elif victim == "front" or others:
        assert code == -signal.SIGKILL
    if (out / "run.json").exists():
        record = check_state(out, lost=None)
        if not killed or (victim == "recorder" and not others):
            assert (code, record["outcome"], record["rows_done"]) == (0, "success", RECORDS)
    else:
        assert not (tmp_path / "calls.txt").exists()
        if victim == "engine" and not others:
            assert code == 2
            check_nothing_is_left(out)
        # A process that is killed has no command line any more before its files are closed.
        wait_for(lambda: can_be_had(out), "the folder for another run", 20)


def can_be_had(out: Path) -> bool:
    try:
        RunFolder.create(out)
    except UserError:
        return False
    return True


def test_the_same_command_runs_after_a_start_that_was_killed(tmp_path: Path, out: Path) -> None:
    start_and_kill(tmp_path, out, "front", 7, True)
    assert (out / "journal").is_dir()
    demo = ("demo", "--headless", "--records", "1", "--out", out)
    wait_for(lambda: headgate(*demo, cwd=tmp_path).returncode in (0, 3), "another run", 20)
    check_state(out, lost=False)
