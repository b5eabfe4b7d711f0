"""The first module of `headgate` that is loaded: Ctrl+C while the others load is no traceback."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    untouched = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if untouched:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from console.cli.main import main as run_command

    if untouched:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_command()
    except SystemExit as ending:
        _leave(ending.code if isinstance(ending.code, int) else 1)


def _leave(exit_code: int) -> None:
    """End without finalizing the interpreter: a thread may still hold objects of DuckDB's library,
    which then reports them on stderr as leaked."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, broken or not there
            stream.flush()
    os._exit(exit_code)
