"""The smallest screen, which mode the console is in, and what the header says about it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Literal

from replay.playback.frame import Frame

MIN_SIZE = (40, 10)
"""Columns and rows below which no screen is drawn."""


def terminal_size(terminal: int) -> tuple[int, int]:
    """Columns and rows of the terminal on a file descriptor. `COLUMNS` and `LINES` only count where
    the terminal does not know: a shell exports them once, and they stay as they were."""
    try:
        size = os.get_terminal_size(terminal)
    except OSError:
        size = os.terminal_size((0, 0))
    if size.columns > 0 and size.lines > 0:
        return size.columns, size.lines
    columns, rows = shutil.get_terminal_size()
    return columns, rows


def is_too_small(columns: int, rows: int) -> bool:
    """Whether the terminal is smaller than `MIN_SIZE` in either direction."""
    return columns < MIN_SIZE[0] or rows < MIN_SIZE[1]


Mode = Literal[
    "WAITING", "READING", "LIVE", "BEHIND", "PAUSED", "REPLAY", "ENDED", "LOST", "UNKNOWN"
]

SPEEDS: tuple[float, ...] = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, float("inf"))
"""Run seconds per second; the last one crosses the whole run in ten seconds."""
_FASTEST_CROSSING = 10.0
MOST_LAG = 2.0
"""Seconds."""


def speed_label(speed: float) -> str:
    """The speed of the playback as the header writes it."""
    if speed == 0.25:
        return "×¼"
    if speed == 0.5:
        return "×½"
    return "max" if speed == float("inf") else f"×{speed:.0f}"


def run_seconds(speed: float, elapsed: float, total: float) -> float:
    """How far the cursor goes in `elapsed` seconds of a run that is `total` seconds long."""
    if speed == float("inf"):
        speed = max(2 * SPEEDS[-2], total / _FASTEST_CROSSING)
    return elapsed * speed


def mode_of(frame: Frame, playing: bool, most_lag: float = MOST_LAG) -> Mode:
    """A cursor in the past is PAUSED or REPLAY; at the newest event the source's state counts.

    What is read more than `most_lag` seconds after it happened is not called live.
    """
    if frame.liveness == "waiting":
        return "WAITING"
    newest = frame.ordinal >= frame.last_ordinal
    if newest and frame.liveness == "ended":
        return "ENDED"
    if newest and frame.liveness == "lost":
        return "LOST"
    if newest and frame.following and frame.liveness == "unknown":
        return "UNKNOWN"
    if frame.following and frame.liveness == "live":
        return "BEHIND" if frame.lag >= most_lag else "LIVE"
    return "REPLAY" if playing else "PAUSED"


MODE_COLOUR: dict[Mode, str] = {
    "WAITING": "grey",
    "READING": "grey",
    "LIVE": "green",
    "BEHIND": "orange",
    "PAUSED": "yellow",
    "REPLAY": "sky",
    "ENDED": "grey",
    "LOST": "vermillion",
    "UNKNOWN": "yellow",
}


@dataclass(frozen=True, slots=True)
class PlaybackView:
    """What the app knows beyond the frame."""

    mode: Mode
    speed: float | None
    """While playing."""
    clock: float
    """Run time; between two events of a live run it goes on by the console's own clock."""
    quiet: float = 0.0
    """Seconds since a live run's last event, as far as this console knows."""
    wall: str = ""
    """The wall clock at the cursor; empty where the producer does not tell it."""
    problem: str = ""
    """Why nothing more can be read, if so."""
