"""How a console was left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class OpenRun:
    """For another run."""

    path: Path
    live: bool


Outcome = Literal["quit", "stop"] | OpenRun
