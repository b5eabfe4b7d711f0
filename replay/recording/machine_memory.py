"""`machine_memory`: how much memory this process may use at most, as the machine has it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@cache
def machine_memory(groups: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Bytes: what the machine has, or less where a control group of this process allows less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_group_limits(groups, membership)])


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
