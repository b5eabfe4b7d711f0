"""A signal or a kill at a random instant, of any process of a run: no process stays, no event is
lost, and what is said of the run is true."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.ended_run import (
    ENGINE,
    RECORDER,
    check_nothing_is_left,
    check_state,
    interrupted_before_us,
    journal_events,
    kill_all,
    processes_of,
    short_workflow,
    wait_for,
)
from tests.e2e.program import HEADGATE, environment
from tests.effort import effort

LATEST_SECONDS = 4.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def pids_of(victim: str, front: int, out: Path) -> list[int]:
    if victim == "front":
        return [front]
    return processes_of(out, ENGINE if victim == "engine" else RECORDER)


def attack(tmp_path: Path, number: int, victim: str, delay: float) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [HEADGATE, "run", short_workflow(tmp_path), "--headless", "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as front:
        try:
            time.sleep(delay)
            written = len(journal_events(out))
            attacked = False
            for pid in pids_of(victim, front.pid, out):
                attacked = True
                os.kill(pid, number)
            _, complaints = front.communicate(timeout=120)
            if number != signal.SIGINT or not interrupted_before_us(complaints):
                assert "Traceback" not in complaints
            wait_for(lambda: not processes_of(out, ENGINE, RECORDER), "the end of all processes")
            if not (out / "run.json").exists():
                assert not written
                if not (victim == "front" and number == signal.SIGKILL):
                    check_nothing_is_left(out)
                return
            killed = attacked and victim == "engine" and number in (signal.SIGKILL, signal.SIGHUP)
            record = check_state(out, lost=None if killed else False, at_least=written)
            if not attacked or victim == "recorder":
                assert (front.returncode, record["outcome"]) == (0, "success"), complaints
            if record["state"] == "lost":
                assert front.returncode == 3
        finally:
            kill_all(out)


@pytest.mark.parametrize("seed", range(effort(3, 200)))
def test_a_signal(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    victim = source.choice(["front", "front", "front", "engine", "recorder"])
    attack(tmp_path, source.choice(SIGNALS), victim, source.uniform(0, LATEST_SECONDS))


@pytest.mark.parametrize("seed", range(effort(3, 200)))
def test_a_kill(seed: int, tmp_path: Path) -> None:
    source = random.Random(1000 + seed)
    victim = source.choice(["front", "engine", "recorder"])
    attack(tmp_path, signal.SIGKILL, victim, source.uniform(0, LATEST_SECONDS))
