"""`ExecControl`: what `headgate exec` tells the Pythons that it starts, and hears from them.

The other side is `bootstrap/headgate_bootstrap/control.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import watch
from engine.errors import UserError
from engine.events.run_folder import RunFolder
from engine.events.run_index import index_home
from engine.version import VERSION
from replay.recording.temporary_folders import TemporaryFolder

BOOTSTRAP = Path(__file__).parents[1] / "bootstrap"
VARIABLE = "HEADGATE_EXEC"


class CannotStart(Exception):
    """The system refuses to run the command; `str` is one sentence for the user."""

    def __init__(self, command: Sequence[str], error: OSError) -> None:
        super().__init__(f"{command[0]} can't be started: {error.strerror}")


@dataclass(frozen=True)
class SeenRun:
    """A run that began in the script, or in one of its children."""

    run_id: str
    folder: RunFolder


class ExecControl:
    """A folder of notices, for as long as the command runs; `look` reads what is new."""

    def __init__(self, out: Path | None, name: str | None, script: str) -> None:
        """Raises `UserError` where the folder `out` is not free."""
        if out is not None:
            check_free(out)
        self._folder = TemporaryFolder("headgate-exec-", _is_in_use)
        self.path = self._folder.path
        self.runs: list[SeenRun] = []
        self.warnings: list[str] = []
        self._taken: set[str] = set()
        self._settings: dict[str, Any] = {
            "out": None if out is None else str(out.resolve()),
            "runs": str(Path("headgate-runs").resolve()),
            "name": name,
            "script": script,
            "index": str(index_home().absolute()),
            "versions": {"headgate": VERSION},
            "watch": str(Path(watch.__file__).parent),
        }
        try:
            (self.path / "exec.json").write_text(json.dumps(self._settings), encoding="utf-8")
        except OSError as error:
            self.remove()
            raise UserError(
                f"{self.path.parent} can't be written: {error.strerror}; name another folder for "
                "temporary files in TMPDIR"
            ) from error

    def output_log(self) -> Path:
        """Where the output goes before there is a run folder: on the same file system."""
        parent = (
            Path(self._settings["out"]).parent
            if self._settings["out"]
            else Path(self._settings["runs"])
        )
        parent.mkdir(parents=True, exist_ok=True)
        return parent / f".output-{self.path.name}.log"

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` for the command: every Python below it finds the bootstrap first."""
        theirs = base.get("PYTHONPATH")
        paths = [str(BOOTSTRAP), *([theirs] if theirs else [])]
        return {**base, VARIABLE: str(self.path), "PYTHONPATH": os.pathsep.join(paths)}

    def look(self) -> tuple[list[SeenRun], list[str]]:
        """Runs and warnings that are new since the last look."""
        runs: list[SeenRun] = []
        warnings: list[str] = []
        try:
            for name in sorted(os.listdir(self.path)):
                if name in self._taken or name.startswith("."):
                    continue
                self._taken.add(name)
                if name.startswith("run-"):
                    folder = RunFolder(Path(self._text(name)))
                    runs.append(SeenRun(name.removeprefix("run-"), folder))
                elif name.startswith("warning-"):
                    warnings.append(self._text(name))
        except OSError:
            pass  # someone cleans up in /tmp: the command must not suffer for it
        self.runs += runs
        self.warnings += warnings
        return runs, warnings

    @property
    def loaded(self) -> bool:
        """At least one Python found the bootstrap."""
        return (self.path / "loaded").exists()

    @property
    def used(self) -> bool:
        """At least one Python imported Data Designer."""
        return (self.path / "seen").exists()

    @property
    def too_old(self) -> str | None:
        """The version of a Python that the bootstrap does not support."""
        return self._text("too-old") if (self.path / "too-old").exists() else None

    def processes_left(self) -> list[int]:
        """Ids of the processes that still have the environment of the command.

        Where there is no `/proc`, and of those that cleared their environment, nothing is known.
        """
        return _processes_of(self.path) or []

    def remove(self) -> None:
        self._folder.remove()

    def _text(self, name: str) -> str:
        path = self.path / name
        return path.read_text(encoding="utf-8", errors="surrogateescape")


def _is_in_use(folder: Path) -> bool:
    """Whether a process of the command whose folder this is may still look into it."""
    return _processes_of(folder) != []


def _processes_of(folder: Path) -> list[int] | None:
    """Those that have this folder in their environment; None where that can't be seen."""
    mark = os.fsencode(f"{VARIABLE}={folder}")
    try:
        names = os.listdir("/proc")
    except OSError:
        return None
    return sorted(int(name) for name in names if name.isdecimal() and _has(name, mark))


def _has(process: str, variable: bytes) -> bool:
    try:
        environment = Path("/proc", process, "environ").read_bytes()
    except OSError:  # it is over, or another user's
        return False
    return variable in environment.split(b"\0")


def check_free(path: Path) -> None:
    """Raises `UserError` unless the first run can have the folder: new or empty."""
    if path.is_dir():
        if any(path.iterdir()):
            raise UserError(
                f"The folder {path} is not empty; name a new or empty folder for this run."
            )
    elif path.exists():
        raise UserError(f"{path} is a file, not a folder; name a new or empty folder for this run.")
