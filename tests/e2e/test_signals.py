"""Signals at any instant of a start and of a stop: what was started ends, what stays is said."""

from __future__ import annotations

import random
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
    check_state,
    interrupted_before_us,
    kill_all,
    processes_of,
    short_workflow,
    wait_for,
)
from tests.e2e.program import HEADGATE, environment
from tests.e2e.terminal import Terminal
from tests.effort import effort

START_MILLISECONDS = 2000
"""Longer than a start takes, on an idle machine."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_every_instant = [
    (number, delay) for delay in range(0, START_MILLISECONDS, 10) for number in SIGNALS
]
STARTS = effort(random.Random(1).sample(_every_instant, 6), _every_instant)
STOPS = effort([0, 300], list(range(0, 600, 10)))


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "out"
    yield folder
    kill_all(folder)


def start(tmp_path: Path, out: Path, records: int = 200) -> subprocess.Popen[str]:
    run: list[str | Path] = [HEADGATE, "run", short_workflow(tmp_path), "--headless"]
    return subprocess.Popen(
        [*run, "--records", str(records), "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "delay"), STARTS)
def test_a_signal_while_it_starts(
    number: signal.Signals, delay: int, tmp_path: Path, out: Path
) -> None:
    with start(tmp_path, out, records=20) as front:
        time.sleep(delay / 1000)
        if front.poll() is None:
            front.send_signal(number)
        said, complaints = front.communicate(timeout=90)
    live = "The run is live" in complaints
    if number == signal.SIGINT and interrupted_before_us(complaints):
        assert not live
        check_nothing_is_left(out)
        return
    if number == signal.SIGHUP:
        assert front.returncode == -signal.SIGHUP or (live and front.returncode == 0), complaints
    else:
        # It may have ended before the signal came, or while its journal was still imported.
        over = "success" in said or "Its journal is kept" in complaints
        ended = {0} if live and over else set()
        assert front.returncode in {128 + number, -number, *ended}, complaints
    assert "Traceback" not in complaints
    # An engine whose front was killed before the run began ends by itself, and takes all away.
    wait_for(lambda: not processes_of(out, ENGINE, RECORDER), "the end of all processes")
    if out.exists() or live:
        record = check_state(out, lost=False)
        outcomes = ("success",) if front.returncode == 0 else ("cancelled", "success")
        assert record["outcome"] in outcomes or number == signal.SIGHUP
    else:
        check_nothing_is_left(out)


@pytest.mark.parametrize("delay", STOPS)
@pytest.mark.parametrize("number", SIGNALS[:2])
def test_a_second_signal_while_it_stops(
    number: signal.Signals, delay: int, tmp_path: Path, out: Path
) -> None:
    with start(tmp_path, out) as front:
        assert front.stderr is not None
        assert "The run is live" in front.stderr.readline()
        front.send_signal(number)
        assert front.stderr.readline().startswith("Stopping")
        time.sleep(delay / 1000)
        front.send_signal(number)
        said, complaints = front.communicate(timeout=90)
    assert front.returncode == 128 + number, said + complaints
    assert "Traceback" not in complaints
    record = check_state(out, lost=False)
    assert record["outcome"] == "cancelled"


def test_the_run_goes_on_when_its_terminal_is_closed(tmp_path: Path, out: Path) -> None:
    command: list[str | Path] = [HEADGATE, "run", short_workflow(tmp_path)]
    with Terminal([*command, "--out", out], cwd=tmp_path, env=environment(tmp_path)) as terminal:
        terminal.wait_for("LIVE")
        terminal.process.send_signal(signal.SIGHUP)
        assert terminal.wait_exit(30) in (-signal.SIGHUP, 129)
    assert check_state(out, lost=False)["outcome"] == "success"
