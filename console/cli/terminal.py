"""What the terminal can do, asked before the console opens."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from console.playback_mode import MIN_SIZE, is_too_small, terminal_size
from engine.errors import UserError


def is_interactive() -> bool:
    """True where a full-screen console can be drawn and keys can be read."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def text_width() -> int | None:
    """Columns of the terminal that stdout is, None where it is none."""
    return terminal_size(sys.stdout.fileno())[0] if sys.stdout.isatty() else None


def own_name() -> str:
    """What to type for this command: its path, where the shell does not find `headgate`."""
    started = Path(sys.argv[0])
    if started.name != "headgate" or shutil.which("headgate") is not None:
        return "headgate"
    here = Path.cwd()
    return shlex.quote(str(started.relative_to(here) if here in started.parents else started))


def require_size() -> None:
    """Raises UserError where the terminal is too small to show anything true."""
    columns, rows = terminal_size(sys.stdout.fileno())
    if is_too_small(columns, rows):
        raise UserError(
            f"the terminal is {columns}×{rows}; the console needs at least "
            f"{MIN_SIZE[0]}×{MIN_SIZE[1]}: enlarge it, or use --headless"
        )
