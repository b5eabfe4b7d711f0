"""Ctrl+C and SIGTERM at instants at which an exception would do harm."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from console.cli import exit_codes

WHILE_DUCKDB_LOADS = """
import enum, signal, sys, time
from console.cli.main import Interrupts

interrupts = Interrupts(hangup=True)
prepare = enum.EnumType.__prepare__.__func__

def interrupted(cls, name, *rest, **options):
    if name == "ExplainType":  # DuckDB's library makes it while it is being loaded
        signal.raise_signal(int(sys.argv[1]))
    return prepare(cls, name, *rest, **options)

enum.EnumType.__prepare__ = classmethod(interrupted)
try:
    import duckdb
    time.sleep(60)
except KeyboardInterrupt:
    interrupts.leave()
    sys.exit(interrupts.exit_code)
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, exit_codes.INTERRUPTED),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
    ],
)
def test_a_signal_while_an_extension_is_loaded_is_heeded_once_it_is(
    number: signal.Signals, code: int
) -> None:
    """DuckDB's library aborts the process where an exception comes while it initialises."""
    ended = subprocess.run(
        [sys.executable, "-c", WHILE_DUCKDB_LOADS, str(int(number))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (code, "")


IN_A_CALLBACK = """
import signal, sys, time, weakref
from console.cli.main import Interrupts

class Thing:
    pass

interrupts = Interrupts(hangup=True)
thing = Thing()
reference = weakref.ref(thing, lambda _: signal.raise_signal(int(sys.argv[1])))
try:
    del thing  # what the callback raises is ignored
    time.sleep(60)
except KeyboardInterrupt:
    interrupts.leave()
    sys.exit(interrupts.exit_code)
"""

IN_THE_FIRST_MODULE = """
import os, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "signal":
            os.kill(os.getpid(), 2)

assert "signal" not in sys.modules
sys.meta_path.insert(0, Interrupting())
import console.cli.start
"""


def test_a_signal_whose_exception_is_ignored_is_heeded_right_after() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK, str(int(signal.SIGTERM))],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")


def test_ctrl_c_while_the_first_module_loads_others_is_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IN_THE_FIRST_MODULE], capture_output=True, text=True, timeout=50
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
