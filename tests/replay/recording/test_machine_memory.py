"""How much memory there is, inside a control group and outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from replay.recording.machine_memory import machine_memory

PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "1000\n", "a/memory.max": "max\n"}, 1000),
        ("0::/a/b\n", {"a/b/memory.max": "1000\n", "a/memory.max": "500\n"}, 500),
        ("0::/\n", {"memory.max": "700\n"}, 700),
        ("5:memory:/a\n4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "900\n"}, 900),
        ("5:cpu,memory:/a\n", {"memory/memory.limit_in_bytes": "800\n"}, 800),
        ("0::/a\n", {"a/memory.max": "max\n"}, PHYSICAL),
        ("0::/a\n", {"a/memory.max": str(PHYSICAL * 4)}, PHYSICAL),
        ("0::/a\n", {}, PHYSICAL),
    ],
)
def test_the_least_limit_counts(
    tmp_path: Path, membership: str, limits: dict[str, str], expected: int
) -> None:
    groups = tmp_path / "groups"
    for name, limit in limits.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(limit)
    (tmp_path / "cgroup").write_text(membership)
    assert machine_memory(groups, tmp_path / "cgroup") == expected


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    assert machine_memory(tmp_path, tmp_path / "none") == PHYSICAL
