"""How a console is opened, and how it was left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from console.goto import Target
from replay.playback.focus import Focus


@dataclass(frozen=True, slots=True)
class StartView:
    """The view that a console opens with."""

    screen: str = ""
    target: Target | None = None
    where: str = ""
    focus: Focus | None = None
    """A page about one thing, over the screen."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """For another run."""

    path: Path
    live: bool


Outcome = Literal["quit", "stop", "next"] | OpenRun
"""`next`: the run is over, and another one of the same script goes on."""
