"""How much memory the machine has for this process, and how much of it a reader may take."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from functools import cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@cache
def machine_memory(groups: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Bytes: what the machine has, or less where a control group of this process allows less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_group_limits(groups, membership)])


MOST_FOR_READING_BYTES = 4 << 30
LEAST_FOR_READING_BYTES = 2 << 30
"""Bounds of half of the machine's memory. Reading streams: no recording of a run takes as much."""


def bound_memory() -> None:
    """From now on the kernel refuses this process more memory than reading a recording takes.

    What somebody else made may be small in its file and very large in memory. Whoever asks for too
    much gets a `MemoryError`, and the machine stays usable.
    """
    most = max(LEAST_FOR_READING_BYTES, min(MOST_FOR_READING_BYTES, machine_memory() // 2))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _group_limits(groups: Path, membership: Path) -> list[int]:
    """Of the group of this process and all above it, in either version of control groups."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, file = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / name.lstrip("/")
        for directory in (group, *group.parents):
            limits += _limit(directory / file)
            if directory == root:
                break
    return limits


def _limit(file: Path) -> list[int]:
    """Empty where there is no limit."""
    try:
        return [int(file.read_text())]
    except (OSError, ValueError):
        return []
