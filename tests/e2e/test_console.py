"""The console in a real terminal: start, keys, resize, quit, what it leaves behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.program import HEADGATE, environment, headgate
from tests.e2e.terminal import Terminal
from tests.fixtures.data_designer_format import generate


def test_a_replay_from_start_to_quit(tmp_path: Path) -> None:
    recording = tmp_path / "storm.jsonl"
    generate(recording, storm=True, rows=20)
    with Terminal(
        [HEADGATE, "replay", recording], 120, 40, cwd=tmp_path, env=environment(tmp_path)
    ) as terminal:
        terminal.wait_for("Request ceilings", "Queue by group", "ENDED")
        terminal.send("p")
        terminal.wait_for("REPLAY")
        terminal.send(" ")
        terminal.wait_for("PAUSED")
        terminal.send("g")
        terminal.wait_for("#")
        terminal.send("#100\r")
        terminal.wait_for("event 100")
        terminal.send("]")
        terminal.wait_for("event 101")
        terminal.send("[[")
        terminal.wait_for("event 99")
        terminal.send("4")
        terminal.wait_for("Task leases")
        terminal.send("6")
        terminal.wait_for("Event stream", "99")
        terminal.send("1")
        terminal.wait_for("Request ceilings")
        terminal.resize(80, 24)
        terminal.wait_for("PAUSED", "event 99")
        assert all(len(line) <= 80 for line in terminal.text.splitlines())
        terminal.send("q")
        assert terminal.wait_exit() == 0
        # The alternate screen is left and the cursor is back.
        assert terminal.raw.rindex(b"\x1b[?1049l") > terminal.raw.rindex(b"\x1b[?1049h")
        assert terminal.raw.rindex(b"\x1b[?25h") > terminal.raw.rindex(b"\x1b[?25l")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_console_that_is_ended_leaves_the_terminal_as_it_was(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    recording = tmp_path / "storm.jsonl"
    generate(recording, storm=True, rows=20)
    with Terminal(
        [HEADGATE, "replay", recording], 80, 24, cwd=tmp_path, env=environment(tmp_path)
    ) as terminal:
        terminal.wait_for("Request ceilings", "ENDED")
        terminal.process.send_signal(number)
        assert terminal.wait_exit() == code
        assert terminal.raw.rindex(b"\x1b[?1049l") > terminal.raw.rindex(b"\x1b[?1049h")
        assert b"Traceback" not in terminal.raw


def test_quitting_a_live_run_asks_and_leaves_it_running(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Terminal(
        [HEADGATE, "demo", "--records", "40", "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path),
    ) as terminal:
        terminal.wait_for("LIVE", "Request ceilings")
        terminal.send("q")
        terminal.wait_for("Leave")
        terminal.send("\r")
        assert terminal.wait_exit() == 0
        assert "headgate watch" in terminal.text
    followed = headgate("watch", out, "--headless", cwd=tmp_path)
    assert followed.returncode == 0, followed.stderr
    assert "40/40 rows" in followed.stdout


def test_watching_a_foreign_file_from_before_it_exists(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    generate(whole, storm=False, rows=20, requests=False)
    lines = whole.read_bytes().splitlines(keepends=True)
    growing = tmp_path / "dataset" / "scheduler_events.jsonl"
    growing.parent.mkdir()
    with Terminal(
        [HEADGATE, "watch", growing], cwd=tmp_path, env=environment(tmp_path)
    ) as terminal:
        terminal.wait_for("WAITING")
        with growing.open("ab", buffering=0) as file:
            half = len(lines) // 2
            file.write(b"".join(lines[:half]) + lines[half][:40])
            terminal.wait_for("LIVE")
            file.write(lines[half][40:] + b"".join(lines[half + 1 :]))
        terminal.wait_for("ENDED")
        terminal.send("q")
        assert terminal.wait_exit() == 0
