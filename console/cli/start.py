"""The first module of `headgate` that is loaded: Ctrl+C while the others load is no traceback."""

from __future__ import annotations

import signal


def main() -> None:
    untouched = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if untouched:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from console.cli.main import main as run_command

    if untouched:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()
