"""Every screen in a real terminal: resized to what is too small and back, suspended and resumed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.program import HEADGATE, environment
from tests.e2e.terminal import Terminal
from tests.fixtures.data_designer_format import generate

SCREENS = {
    "1": "Queue by group",
    "2": "waits for",
    "3": "Request ceilings",
    "4": "Task leases",
    "5": "Stalls, newest first",
    "6": "Event stream",
    "7": "Capacity plan",
    "9": "Errors",
}
DEADLINE_SECONDS = 60.0


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "storm.jsonl"
    generate(path, storm=True, rows=20)
    return path


def test_each_screen_survives_a_terminal_that_is_too_small(recording: Path, tmp_path: Path) -> None:
    with Terminal(
        [HEADGATE, "replay", recording, "--at", "50%"],
        100,
        30,
        cwd=tmp_path,
        env=environment(tmp_path),
    ) as terminal:
        terminal.wait_for("Request ceilings", "PAUSED")
        for key, words in SCREENS.items():
            terminal.send(key)
            terminal.wait_for(words)
            terminal.resize(30, 8)
            terminal.wait_for("needs 40")
            terminal.resize(100, 30)
            terminal.wait_for(words, "PAUSED")
        terminal.send("2\r")
        terminal.wait_for("Queue ›", "Esc back")
        terminal.resize(30, 8)
        terminal.wait_for("needs 40")
        terminal.resize(100, 30)
        terminal.wait_for("Queue ›", "Esc back")
        terminal.send("q")
        assert terminal.wait_exit() == 0
        assert b"Traceback" not in terminal.raw


def test_the_state_is_in_the_title_and_the_old_title_comes_back(
    recording: Path, tmp_path: Path
) -> None:
    with Terminal(
        [HEADGATE, "replay", recording, "--at", "50%"], cwd=tmp_path, env=environment(tmp_path)
    ) as terminal:
        terminal.wait_for("Request ceilings", "PAUSED")
        terminal.send("q")
        assert terminal.wait_exit() == 0
        assert b"\x1b]0;PAUSED " in terminal.raw
        assert terminal.raw.index(b"\x1b[22;0t") < terminal.raw.index(b"\x1b]0;PAUSED ")
        assert terminal.raw.rindex(b"\x1b[23;0t") > terminal.raw.rindex(b"\x1b]0;")


def test_it_is_suspended_and_comes_back(recording: Path, tmp_path: Path) -> None:
    """As a shell does it: the job stops, the terminal is a plain one again, SIGCONT goes on."""
    with Terminal(
        [HEADGATE, "replay", recording, "--at", "50%"], cwd=tmp_path, env=environment(tmp_path)
    ) as terminal:
        terminal.wait_for("Request ceilings", "PAUSED")
        terminal.send("\x1a")
        until = time.monotonic() + DEADLINE_SECONDS
        while state_of(terminal.process.pid) != "T":
            assert time.monotonic() < until, "it is not suspended"
            terminal.pump(0.1)
        assert terminal.raw.rindex(b"\x1b[?1049l") > terminal.raw.rindex(b"\x1b[?1049h")
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.send("6")
        terminal.wait_for("Event stream")
        assert terminal.raw.rindex(b"\x1b[?1049h") > terminal.raw.rindex(b"\x1b[?1049l")
        terminal.send("q")
        assert terminal.wait_exit() == 0


def state_of(pid: int) -> str:
    """The state of a process, as the kernel names it; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
