"""Signals to `headgate run` while its console is on the screen: the run ends, or goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ended_run import (
    ENGINE,
    RECORDER,
    check_state,
    kill_all,
    processes_of,
    short_workflow,
)
from tests.e2e.program import HEADGATE, environment
from tests.e2e.terminal import Terminal
from tests.effort import effort

STOPS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
SCREENS = {
    "page": ("", "Request ceilings"),
    "quit dialog": ("q", "Leave"),
    "help": ("?", "This help"),
    "palette": ("\x10", "Search"),
    "go-to dialog": ("g", "Go to"),
}
LONG = 20_000
"""Records of a run that no test waits for."""


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "out"
    yield folder
    kill_all(folder)


def run(tmp_path: Path, out: Path, records: int) -> Terminal:
    """`headgate run` in a terminal, its stderr in a file."""
    workflow = short_workflow(tmp_path)
    command = f'exec "$0" run "$1" --out "$2" --records {records} 2>"$3"'
    argv: list[str | Path] = ["sh", "-c", command, HEADGATE, workflow, out, tmp_path / "stderr"]
    return Terminal(argv, cwd=tmp_path, env=environment(tmp_path))


def said(tmp_path: Path) -> str:
    return " ".join((tmp_path / "stderr").read_text().split())


@pytest.mark.parametrize("screen", effort(("page", "quit dialog"), tuple(SCREENS)))
@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_signal_to_the_console_stops_its_run(
    number: signal.Signals, code: int, screen: str, tmp_path: Path, out: Path
) -> None:
    with run(tmp_path, out, LONG) as terminal:
        before = terminal.modes
        terminal.wait_for("LIVE", "Request ceilings")
        keys, words = SCREENS[screen]
        terminal.send(keys)
        terminal.wait_for(words)
        terminal.process.send_signal(number)
        assert terminal.wait_exit(60) == code
        terminal.check_restored(before)
        assert processes_of(out, ENGINE, RECORDER) == []
        assert "Recording" in terminal.after_the_screen
    assert "Stopping: running tasks may finish" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert check_state(out, lost=False)["outcome"] == "cancelled"


@pytest.mark.parametrize("close", [False, True], ids=["signal", "closed terminal"])
def test_a_hang_up_leaves_the_run_going_and_says_how_to_come_back(
    close: bool, tmp_path: Path, out: Path
) -> None:
    with run(tmp_path, out, 200) as terminal:
        before = terminal.modes
        terminal.wait_for("LIVE", "Request ceilings")
        if close:
            terminal.hang_up()
            terminal.process.wait(30)
        else:
            terminal.process.send_signal(signal.SIGHUP)
            terminal.wait_exit()
            terminal.check_restored(before)
        assert terminal.process.returncode == 129
    assert "the run goes on; come back with:" in said(tmp_path)
    assert f"headgate watch {out}" in said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    assert check_state(out, lost=False)["outcome"] == "success"


def test_a_run_is_stopped_also_where_its_terminal_takes_no_output(
    tmp_path: Path, out: Path
) -> None:
    with run(tmp_path, out, LONG) as terminal:
        terminal.wait_for("LIVE", "Request ceilings")
        deadline = time.monotonic() + 60
        rows = 40
        while not terminal.stalled() and time.monotonic() < deadline:  # nobody reads any more
            rows = 41 if rows == 40 else 40
            terminal.resize(120, rows)
            time.sleep(0.05)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(60) == 143
    assert check_state(out, lost=False)["outcome"] == "cancelled"
