"""What this installation of headgate is made of."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

import msgspec

from engine.version import VERSION

BUILD_FILE = Path(__file__).with_name("build.json")
"""Commit and time, which `make dist` writes into a wheel."""
SHOWN = ("duckdb", "textual", "pyarrow")
_ROOT = Path(__file__).parents[2]
_COMMIT_DIGITS = 12


class BuildInfo(msgspec.Struct, frozen=True):
    """Which state of the code this is."""

    version: str
    commit: str | None
    """The commit that the code is of; None where nothing tells."""
    changed: bool
    """A checkout, which may differ from its commit."""
    built: str | None
    """When the wheel was built, ISO 8601."""
    python: str
    packages: dict[str, str]

    @property
    def text(self) -> str:
        """One line for `headgate --version`."""
        parts = []
        if self.commit is not None:
            parts.append(f"{'checkout of ' if self.changed else ''}{self.commit[:_COMMIT_DIGITS]}")
        if self.built is not None:
            parts.append(f"built {self.built}")
        source = f" ({', '.join(parts)})" if parts else ""
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        return f"headgate {self.version}{source}, Python {self.python}, {packages}"


def build_info() -> BuildInfo:
    """Version, commit, Python and packages of this installation."""
    built = _built()
    commit = built.get("commit") or _commit_of_checkout()
    return BuildInfo(
        VERSION,
        commit,
        changed=commit is not None and not built,
        built=built.get("built"),
        python=platform.python_version(),
        packages={name: package_version(name) or "missing" for name in SHOWN},
    )


def package_version(name: str) -> str | None:
    """Version of an installed package; None for one that is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _built() -> dict[str, str]:
    try:
        content = json.loads(BUILD_FILE.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {str(key): str(value) for key, value in content.items()}
        if isinstance(content, dict)
        else {}
    )


def _commit_of_checkout() -> str | None:
    """The commit of HEAD, read from the files of git; None where this is no checkout."""
    try:
        git = _ROOT / ".git"
        if git.is_file():  # a worktree
            git = (_ROOT / git.read_text().partition("gitdir:")[2].strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head or None
        name = head.partition(":")[2].strip()
        common = git / "commondir"
        shared = (git / common.read_text().strip()).resolve() if common.is_file() else git
        loose = shared / name
        if loose.is_file():
            return loose.read_text().strip() or None
        for line in (shared / "packed-refs").read_text().splitlines():
            commit, _, packed = line.partition(" ")
            if packed == name:
                return commit
    except OSError:
        pass
    return None
