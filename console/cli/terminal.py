"""Properties of the terminal, determined before the console opens."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import stat
import sys
from pathlib import Path

from console.playback_mode import MIN_SIZE, is_too_small, terminal_size
from engine.errors import UserError


def is_served() -> bool:
    """True where a browser is the terminal: `headgate serve` started this process."""
    return "TEXTUAL_DRIVER" in os.environ


def is_interactive() -> bool:
    """True where a full-screen console can be drawn and keys can be read."""
    if is_served():
        return True
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def output_is_hung_up() -> bool:
    """True where stdout and stderr are terminals whose other end was closed."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        if not stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            return False
        poll.register(stream.fileno(), 0)  # a hang-up is always reported
    descriptors = {sys.stdout.fileno(), sys.stderr.fileno()}
    hung_up = {descriptor for descriptor, events in poll.poll(0) if events & select.POLLHUP}
    return hung_up == descriptors


def text_width() -> int | None:
    """Columns of the terminal that stdout is, None where it is none."""
    return terminal_size(sys.stdout.fileno())[0] if sys.stdout.isatty() else None


def own_name() -> str:
    """The command to type: its path, where the shell does not find `headgate`."""
    started = Path(sys.argv[0])
    if started.name != "headgate" or shutil.which("headgate") is not None:
        return "headgate"
    here = Path.cwd()
    return shlex.quote(str(started.relative_to(here) if here in started.parents else started))


def require_size() -> None:
    """Raise `UserError` where the terminal is too small for the console."""
    if is_served():
        return
    columns, rows = terminal_size(sys.stdout.fileno())
    if is_too_small(columns, rows):
        raise UserError(
            f"the terminal is {columns}×{rows}; the console needs at least "
            f"{MIN_SIZE[0]}×{MIN_SIZE[1]}: enlarge it, or use --headless"
        )
