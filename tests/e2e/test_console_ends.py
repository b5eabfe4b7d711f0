"""The console ends without its user: by a failure, a signal, or the loss of its terminal."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.program import HEADGATE, environment, headgate
from tests.e2e.terminal import Terminal
from tests.effort import effort
from tests.fixtures.data_designer_format import generate

FAILURES = {
    "widget": "CeilingPanel.draw = fail",
    "resize": "OverviewScreen.on_resize = lambda self, event: self.size.width < 100 and fail()",
    "key": "ConsoleApp.action_slower = fail",
    "timer": "ConsoleApp.action_slower = lambda self: self.set_timer(0.01, fail)",
    "worker": "ConsoleApp.action_slower = lambda self: self.run_worker(fail, thread=True)",
    "later": "ConsoleApp.action_slower = lambda self: self.call_later(fail)",
    "session": "Session.frame = fail",
    "mount": "OverviewScreen.compose_page = fail",
}
FAILING = """
import sys
from console.app import ConsoleApp
from console.cli.main import main
from console.screens.overview import OverviewScreen
from console.widgets.ceilings import CeilingPanel
from replay.playback.session import Session

def fail(*_, **__):
    raise RuntimeError("injected: it is broken")

{how}
sys.argv[0] = "headgate"
main()
"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "storm.jsonl"
    generate(path, storm=True, rows=20)
    return path


def failing(how: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-P", "-c", FAILING.format(how=FAILURES[how]), *arguments]


@pytest.mark.parametrize("how", effort(("widget", "resize", "timer", "session"), tuple(FAILURES)))
def test_a_failure_is_a_bug_and_leaves_the_terminal_in_order(
    how: str, recording: Path, tmp_path: Path
) -> None:
    with Terminal(
        failing(how, "replay", recording), cwd=tmp_path, env=environment(tmp_path)
    ) as terminal:
        before = terminal.modes
        if how not in ("widget", "session", "mount"):
            terminal.wait_for("ENDED", "Request ceilings")
        if how == "resize":
            terminal.resize(80, 24)
        else:
            terminal.send("<")
        assert terminal.wait_exit() == 70
        terminal.check_restored(before)
        said = " ".join(terminal.after_the_screen.split())
        assert "RuntimeError: injected: it is broken" in said
        assert "bug in headgate" in said
        assert "headgate replay" in said
        assert said.count("Traceback") == 1


def test_after_a_failure_the_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = failing("key", "demo", "--records", "20", "--out", out)
    with Terminal(command, cwd=tmp_path, env=environment(tmp_path)) as terminal:
        terminal.wait_for("LIVE", "Request ceilings")
        terminal.send("<")
        assert terminal.wait_exit() == 70
        said = " ".join(terminal.after_the_screen.split())
        assert "the run goes on" in said
        assert "headgate watch" in said
    followed = headgate("watch", out, "--headless", cwd=tmp_path)
    assert followed.returncode == 0, followed.stderr
    assert "20/20 rows" in followed.stdout


def _with_hang_ups(handling: str) -> Sequence[str]:
    return (
        sys.executable,
        "-c",
        f"import os, signal, sys; {handling}; os.execv(sys.argv[1], sys.argv[1:])",
    )


HANG_UPS: dict[str, Sequence[str]] = {
    "as is": (),
    "ignored": _with_hang_ups("signal.signal(signal.SIGHUP, signal.SIG_IGN)"),
    "blocked": _with_hang_ups("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])"),
}
STATES = {
    "page": "",
    "help": "?",
    "palette": "\x10",
    "dialog": "g",
    "queries": "[]{}46145" * 20,
    "resize": "",
}
_every_end = [
    (command, hang_ups, state)
    for command in ("replay", "watch")
    for hang_ups in HANG_UPS
    for state in STATES
]


@pytest.mark.parametrize(
    ("command", "hang_ups", "state"),
    effort(
        [
            ("replay", "as is", "page"),
            ("watch", "ignored", "help"),
            ("watch", "as is", "queries"),
            ("watch", "blocked", "resize"),
        ],
        _every_end,
    ),
)
def test_a_console_ends_with_its_terminal(
    command: str, hang_ups: str, state: str, recording: Path, tmp_path: Path
) -> None:
    with Terminal(
        [*HANG_UPS[hang_ups], HEADGATE, command, recording],
        cwd=tmp_path,
        env=environment(tmp_path),
    ) as terminal:
        terminal.wait_for("Request ceilings")
        if state == "resize":
            terminal.resize(80, 24)
        terminal.send(STATES[state])
        terminal.hang_up()
        before = cpu_seconds(terminal.process.pid)
        deadline = time.monotonic() + 30
        used = 0.0
        while terminal.process.poll() is None and time.monotonic() < deadline:
            used = cpu_seconds(terminal.process.pid) - before
            time.sleep(0.02)
        assert terminal.process.poll() in (129, -signal.SIGHUP)
        assert used < (2 if state == "page" else 5)


def test_a_terminal_that_is_closed_before_the_console_opens_ends_it_too(tmp_path: Path) -> None:
    command: list[str | Path] = [
        HEADGATE,
        "watch",
        tmp_path / "not-there-yet" / "scheduler_events.jsonl",
    ]
    with Terminal(command, cwd=tmp_path, env=environment(tmp_path)) as terminal:
        terminal.hang_up()
        assert terminal.process.wait(30) == 129


def cpu_seconds(pid: int) -> float:
    """User and system time of a process; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_terminal_that_takes_no_output_does_not_keep_a_console(
    recording: Path, tmp_path: Path
) -> None:
    with Terminal(
        [HEADGATE, "replay", recording], 200, 60, cwd=tmp_path, env=environment(tmp_path)
    ) as terminal:
        terminal.wait_for("Request ceilings")
        deadline = time.monotonic() + 60
        size = 60
        while not terminal.stalled() and time.monotonic() < deadline:  # nobody reads any more
            size = 61 if size == 60 else 60
            terminal.resize(200, size)
            time.sleep(0.05)
        terminal.process.send_signal(signal.SIGTERM)
        terminal.process.wait(60)
        assert terminal.process.returncode == 143


@pytest.mark.parametrize("size", [(80, 24), (133, 41)])
def test_the_terminal_has_the_size_that_it_has(
    size: tuple[int, int], recording: Path, tmp_path: Path
) -> None:
    said = {"COLUMNS": "50", "LINES": "12"}
    with Terminal(
        [HEADGATE, "replay", recording], *size, cwd=tmp_path, env=environment(tmp_path, said)
    ) as terminal:
        terminal.wait_until(
            lambda text: len(text.splitlines()) == size[1] and "quit" in text.splitlines()[-1],
            "the last line",
        )
        terminal.resize(90, 30)
        terminal.wait_until(
            lambda text: len(text.splitlines()) == 30 and "quit" in text.splitlines()[-1],
            "the last line after a resize",
        )
        terminal.send("q")
        assert terminal.wait_exit() == 0


@pytest.mark.parametrize("errors", ["errors.log", "/dev/full", "&-"])
def test_what_stderr_is_does_not_matter(errors: str, recording: Path, tmp_path: Path) -> None:
    command = ["sh", "-c", f'exec "$0" replay "$1" 2>{errors}', str(HEADGATE), str(recording)]
    said = {"PYTHONIOENCODING": "ascii"} if errors == "errors.log" else {}
    with Terminal(command, 80, 24, cwd=tmp_path, env=environment(tmp_path, said)) as terminal:
        terminal.wait_for("Request ceilings", "ENDED")
        terminal.send("q")
        assert terminal.wait_exit() == 0
