"""`headgate exec` in a terminal, with signals and with its live console."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.events.run_folder import RunFolder, read_record
from tests.e2e.program import HEADGATE, environment, headgate
from tests.e2e.scripts import CREATE, run_script
from tests.e2e.terminal import Terminal
from tests.fixtures.data_designer_format import lines
from tests.fixtures.data_designer_stand_in import write_stand_in

SLOW = """
import signal, sys, time
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
print("ready", flush=True)
end = time.monotonic() + 20
while not heard and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)
print("heard", *map(int, heard), flush=True)
sys.exit(3)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_headgate_reaches_the_script_once(desk: Path, number: signal.Signals) -> None:
    (desk / "script.py").write_text(SLOW)
    command = [str(HEADGATE), "exec", "--", sys.executable, "script.py"]
    with subprocess.Popen(
        command, cwd=desk, env=environment(desk), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        assert process.stdout.readline() == f"heard {int(number)}\n"
        assert process.wait(30) == 3


OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal send signals, as a shell's does."""


def in_terminal(desk: Path, script: str, *options: str) -> Terminal:
    (desk / "script.py").write_text(script)
    headgate_exec = [str(HEADGATE), "exec", *options, "--", sys.executable, "script.py"]
    command = [sys.executable, "-c", OWN_TERMINAL, *headgate_exec]
    return Terminal(command, cwd=desk, env=environment(desk))


def test_ctrl_c_in_the_terminal_reaches_the_script_once(desk: Path) -> None:
    with in_terminal(desk, SLOW) as terminal:
        terminal.wait_for("ready")
        terminal.send("\x03")
        terminal.wait_for(f"heard {int(signal.SIGINT)}")
        assert f"{int(signal.SIGINT)} {int(signal.SIGINT)}" not in terminal.text
        assert terminal.wait_exit() == 3


def test_the_script_keeps_its_terminal(desk: Path) -> None:
    script = "import sys; print([one.isatty() for one in (sys.stdin, sys.stdout, sys.stderr)])"
    script += "; print('got', input('say: '))"
    with in_terminal(desk, script) as terminal:
        terminal.wait_for("[True, True, True]", "say:")
        terminal.send("this\r")
        terminal.wait_for("got this")
        assert terminal.wait_exit() == 0


LIVE = """
import sys
from data_designer.interface import DataDesigner
print("their own words", flush=True)
DataDesigner().create(every=0.03)
print("after the run", flush=True)
sys.exit(5)
"""


def test_live_shows_the_run_and_what_the_script_prints(desk: Path) -> None:
    write_stand_in(desk, lines(storm=False, rows=2))
    with in_terminal(desk, LIVE, "--live", "--out", "here") as terminal:
        terminal.wait_for("Overview", "LIVE")
        terminal.send("o")
        terminal.wait_for("Output of the script", "their own words")
        terminal.send("\x1b")
        terminal.wait_until(lambda text: "Output of" not in text, "the window closed")
        terminal.send("R")
        terminal.wait_for("Runs of this script", "live")
        terminal.send("\x1b")
        terminal.wait_until(lambda text: "Runs of" not in text, "the list closed")
        terminal.send("q")
        terminal.wait_for("The run is still going")
        terminal.send("\x1b")
        terminal.wait_for("ENDED", seconds=60)
        terminal.send("q")
        assert terminal.wait_exit() == 5
    assert "after the run" in (desk / "here" / "output.log").read_text()


def test_live_shows_also_a_run_that_was_over_at_once(desk: Path) -> None:
    with in_terminal(desk, CREATE, "--live", "--out", "here") as terminal:
        terminal.wait_for("Overview", "ENDED", "5/5 rows")
        terminal.send("q")
        assert terminal.wait_exit() == 0


def test_live_leaves_the_script_running(desk: Path) -> None:
    write_stand_in(desk, lines(storm=False, rows=2))
    with in_terminal(desk, LIVE, "--live", "--out", "here") as terminal:
        terminal.wait_for("Overview", "LIVE")
        terminal.send("q")
        terminal.wait_for("The run is still going")
        terminal.send("l")
        assert terminal.wait_exit() == 0
    folder = RunFolder(desk / "here")
    assert folder.producer_lives
    done = headgate("watch", "--headless", "here", cwd=desk)
    assert done.returncode == 0, done.stderr
    record = read_record(folder)
    assert record is not None
    assert record.outcome == "success"


def test_live_stops_the_script(desk: Path) -> None:
    script = LIVE.replace("every=0.03", "every=0.2")
    with in_terminal(desk, script, "--live", "--out", "here") as terminal:
        terminal.wait_for("Overview", "LIVE")
        terminal.send("q")
        terminal.wait_for("The run is still going")
        terminal.send("s")
        assert terminal.wait_exit() == 128 + signal.SIGINT
    assert "KeyboardInterrupt" in (desk / "here" / "output.log").read_text()
    record = read_record(RunFolder(desk / "here"))
    assert record is not None
    assert (record.state, record.outcome) == ("complete", "cancelled")


def test_live_without_a_run_prints_what_the_script_printed(desk: Path) -> None:
    with in_terminal(desk, "print('no run here')", "--live") as terminal:
        assert terminal.wait_exit() == 0
        assert "no run here" in terminal.text
        assert "no Data Designer run was seen" in terminal.text
    assert list((desk / "headgate-runs").iterdir()) == []


def test_live_says_where_the_output_can_not_be_kept(desk: Path) -> None:
    (desk / "taken").touch()
    with in_terminal(desk, CREATE, "--live", "--out", "taken/run") as terminal:
        assert terminal.wait_exit() == 2
        assert "can't be written: " in terminal.text
        assert "Traceback" not in terminal.text


def test_live_needs_a_terminal(desk: Path) -> None:
    done = run_script(desk, CREATE, "--live")
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
