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
