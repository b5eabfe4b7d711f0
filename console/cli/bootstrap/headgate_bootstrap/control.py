"""`Control`: the folder through which `headgate exec` and the Pythons it watches talk."""

from __future__ import annotations

import json
import os
from typing import Any

VARIABLE = "HEADGATE_EXEC"
"""Names the folder; every Python process that inherits it records its runs."""


class Control:
    """`exec.json` tells what the user asked for; each file beside it is a notice to the parent.

    A parent that has gone, with its folder, is no failure: then nobody listens.
    """

    def __init__(self, path: str) -> None:
        """Raises `OSError` or `ValueError` where there is no such folder."""
        self._path = path
        self._warned: set[str] = set()
        with open(os.path.join(path, "exec.json"), encoding="utf-8") as file:
            settings: dict[str, Any] = json.load(file)
        self.out: str | None = settings["out"]
        """The folder of the first run, if the user named one."""
        self.runs: str = settings["runs"]
        """Where run folders go otherwise."""
        self.name: str | None = settings["name"]
        self.script: str = settings["script"]
        """What to call a run whose dataset has no name of its own."""
        self.index: str = settings["index"]
        """Where pointers to run folders are kept."""
        self.watch: str = settings.get("watch", "")
        """The folder of the modules that watch the loop."""
        self.versions: dict[str, str] = settings["versions"]

    def mark(self, name: str) -> None:
        """Something was seen, by whichever process first."""
        self._write(name, "")

    def warn(self, about: str, sentence: str) -> None:
        """One sentence for the user; of several about the same, one is shown."""
        if about not in self._warned:
            self._warned.add(about)
            self._write(f"warning-{about}", sentence)

    def tell_run(self, run_id: str, folder: str) -> None:
        self._write(f"run-{run_id}", folder)

    def _write(self, name: str, text: str) -> None:
        final = os.path.join(self._path, name)
        fresh = os.path.join(self._path, f".{name}.{os.getpid()}")
        try:
            with open(fresh, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.replace(fresh, final)
        except OSError:
            return


def open_control() -> Control | None:
    """None where this Python is not watched, or the parent has gone."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    try:
        return Control(path)
    except (OSError, ValueError, KeyError):
        return None
