"""The first module of `headgate` that is loaded: Ctrl+C while the others load is no traceback."""

import _signal  # type: ignore[import-not-found]  # part of the interpreter: no file is loaded

untouched = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
if untouched:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import atexit  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from contextlib import suppress  # noqa: E402


def main() -> None:
    """The command's entry."""
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
