"""An engine that hangs, dies or blocks: each is one sentence, and no process is left."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ended_run import (
    ENGINE,
    RECORDER,
    check_nothing_is_left,
    kill_all,
    processes_of,
    record_of,
    wait_for,
)
from tests.e2e.program import HEADGATE, environment, headgate
from tests.effort import effort

BLOCKED = """
name: blocked
records: 20
columns:
  - {{ name: n, type: sampler, uuid: true }}
  - {{ name: c, type: custom, function: "functions:{function}", depends_on: [n] }}
run: {{ buffer_size: 10 }}
"""
FUNCTIONS = """
import asyncio, sys, time

async def loops(row):
    while True:
        pass

async def sleeps(row):
    time.sleep(3600)

async def holds_the_interpreter(row):
    "x" in "".join("ab" for _ in range(10)) or 7 ** (7 ** 9)

async def refuses_to_end(row):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def threads(row):
    time.sleep(3600)

def quick(row):
    return 1

if ENGINE and any("engine_process" in word for word in sys.orig_argv):
    AT_START
"""


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "out"
    yield folder
    kill_all(folder)


def write(folder: Path, function: str, at_start: str = "") -> Path:
    code = FUNCTIONS.replace("ENGINE", str(bool(at_start))).replace("AT_START", at_start or "pass")
    (folder / "functions.py").write_text(code)
    workflow = folder / "workflow.yaml"
    workflow.write_text(BLOCKED.format(function=function))
    return workflow


BLOCKS = [
    ("loops", 3),
    ("holds_the_interpreter", 3),
    ("threads", 2),
    ("sleeps", 3),
    ("refuses_to_end", 3),
]


@pytest.mark.parametrize(("function", "signals"), effort(BLOCKS[:3], BLOCKS))
@pytest.mark.parametrize("number", effort([signal.SIGINT], [signal.SIGINT, signal.SIGTERM]))
def test_a_blocked_loop_is_killed_at_the_third_signal(
    function: str, signals: int, number: signal.Signals, tmp_path: Path, out: Path
) -> None:
    with subprocess.Popen(
        [HEADGATE, "run", write(tmp_path, function), "--headless", "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as front:
        assert front.stderr is not None
        assert "The run is live" in front.stderr.readline()
        time.sleep(0.5)
        for sentence in ("Stopping:", "Aborting:", "Killing the engine")[:signals]:
            front.send_signal(number)
            while not (line := front.stderr.readline()).startswith(sentence):
                assert " live | " in line
        said, complaints = front.communicate(timeout=60)
    assert front.returncode == 128 + number, complaints
    assert processes_of(out, ENGINE, RECORDER) == []
    record = record_of(out)
    assert not (out / "journal").exists()
    if signals == 3:
        assert said.startswith("blocked: LOST")
        assert (record["state"], record.get("outcome")) == ("lost", None)
    else:
        assert said.startswith("blocked: cancelled")
        assert (record["state"], record["outcome"]) == ("complete", "cancelled")


DEATHS = [
    ("import os; os.kill(os.getpid(), 9)", "the engine died while it started: killed by SIGKILL"),
    ("undefined", "functions.py"),
    ("import os; os._exit(7)", "the engine died while it started: exit code 7"),
    ("raise SystemExit(3)", "functions.py"),
]


@pytest.mark.parametrize(("at_start", "reason"), effort(DEATHS[:2], DEATHS))
def test_an_engine_that_dies_at_its_start(
    at_start: str, reason: str, tmp_path: Path, out: Path
) -> None:
    workflow = write(tmp_path, "quick", at_start)
    done = headgate("run", workflow, "--headless", "--out", out, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    [sentence] = done.stderr.splitlines()
    assert reason in sentence
    check_nothing_is_left(out)
    write(tmp_path, "quick")
    again = headgate("run", workflow, "--headless", "--out", out, cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_an_engine_that_hangs_at_its_start_ends_with_its_front(tmp_path: Path, out: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
    for number in effort(numbers[:2], numbers):
        with subprocess.Popen(
            [
                HEADGATE,
                "run",
                write(tmp_path, "quick", "time.sleep(3600)"),
                "--headless",
                "--out",
                out,
            ],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as front:
            wait_for(lambda: bool(processes_of(out, ENGINE)), "the engine")
            time.sleep(1.0)
            front.send_signal(number)
            said, complaints = front.communicate(timeout=30)
        assert said == ""
        if number in (signal.SIGINT, signal.SIGTERM):
            assert front.returncode == 128 + number
            assert complaints.startswith("Stopped before the run began")
        else:
            assert front.returncode == -number
        wait_for(lambda: not processes_of(out, ENGINE, RECORDER), "the engine's end", 10)
        check_nothing_is_left(out)


def test_more_records_than_can_be_listed_start_at_once(tmp_path: Path, out: Path) -> None:
    workflow = write(tmp_path, "quick")
    with subprocess.Popen(
        [HEADGATE, "run", workflow, "--records", "1000000000000", "--headless", "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as front:
        wait_for(lambda: len(list(out.glob("dataset/*.parquet"))) > 2, "row groups")
        front.send_signal(signal.SIGTERM)
        said, complaints = front.communicate(timeout=60)
    assert front.returncode == 143, complaints
    assert "/1,000,000,000,000 rows" in said
