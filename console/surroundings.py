"""`Surroundings`: the clocks and folders that a console works with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TICK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a console takes from its process; every value has a default."""

    clock: Callable[[], float] = time.monotonic
    """Monotonic time in seconds."""
    local: Callable[[float], time.struct_time] = time.localtime
    """Unix time as the time of the day here."""
    tick_seconds: float | None = TICK_SECONDS
    """Longest time between two turns; None waits until one is requested."""
    copies: Path | None = None
    """Folder of the files that keep what was copied last, and the filters used; None: the user's
    data folder."""
    exports: Path = Path()
    """Folder that exports are written to."""
