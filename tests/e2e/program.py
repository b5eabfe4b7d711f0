"""The installed `headgate` command, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HEADGATE = Path(sys.executable).with_name("headgate")


def headgate(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run it without a terminal, with an index of runs of its own under `cwd`."""
    return subprocess.run(
        [str(HEADGATE), *map(str, arguments)],
        cwd=cwd,
        env=environment(cwd, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def environment(cwd: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "HEADGATE_HOME": str(cwd / "home"), **(env or {})}
