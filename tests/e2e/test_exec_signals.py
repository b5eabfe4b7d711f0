"""`exec --live`: signals at any instant of its start end the script too."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.ended_run import interrupted_before_us, processes_of, wait_for
from tests.e2e.program import HEADGATE, environment
from tests.e2e.terminal import Terminal
from tests.effort import effort

SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the third signal ends it
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""
LATEST_MILLISECONDS = 1500
_every_instant = [
    (number, delay)
    for delay in range(0, LATEST_MILLISECONDS, 10)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
]
STARTS = effort(random.Random(3).sample(_every_instant, 4), _every_instant)


def interrupted_before(script: Path, output: str) -> bool:
    """Did Ctrl+C end the interpreter of the script while it started? Its exit code is 1 then."""
    return "KeyboardInterrupt" in output and f'File "{script}"' not in "".join(output.split("\n"))


@pytest.mark.parametrize(("number", "delay"), STARTS)
def test_a_signal_while_the_script_starts(
    number: signal.Signals, delay: int, tmp_path: Path
) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(SCRIPT)
    command: list[str | Path] = [HEADGATE, "exec", "--live", "--", Path(sys.executable), script]
    try:
        with Terminal(command, cwd=tmp_path, env=environment(tmp_path)) as terminal:
            time.sleep(delay / 1000)
            for _ in range(8):  # some may come together, and count once
                if terminal.process.poll() is None:
                    terminal.process.send_signal(number)
                terminal.pump(0.3)
            code = terminal.wait_exit()
            announced = "the script runs" in terminal.text
            too_early = number == signal.SIGINT and (
                interrupted_before_us(terminal.text) or interrupted_before(script, terminal.text)
            )
        if number == signal.SIGHUP and announced:
            assert code == -signal.SIGHUP  # it outlives a terminal that is closed
        else:
            wait_for(lambda: processes_of(script) == [], "the script's end", 10)
            assert too_early or code in (128 + number, -number, 128 + signal.SIGKILL)
    finally:
        for pid in processes_of(script):
            os.kill(pid, signal.SIGKILL)
