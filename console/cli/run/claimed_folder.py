"""`ClaimedFolder`: the folder of a run that may never begin."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from engine.events.run_folder import CELLS, RunFolder


class ClaimedFolder:
    """Claims a new or empty folder; `give_back` leaves the disk as it was before."""

    def __init__(self, path: Path) -> None:
        """Raises `UserError` where the folder can't be used."""
        self.made = [folder for folder in (path, *path.parents) if not folder.exists()]
        """Folders that were not there before, the deepest first."""
        self.claimed = False
        try:
            self.folder = RunFolder.create(path)
            self.claimed = True
        finally:
            if not self.claimed:
                remove_empty(self.made)

    def give_back(self) -> None:
        """Only for a run that has not begun: whatever is in the folder came from its start."""
        empty(self.folder)
        remove_empty(self.made)


def empty(folder: RunFolder) -> None:
    """Remove what the start of a run puts into its folder, and nothing else."""
    shutil.rmtree(folder.journal, ignore_errors=True)
    shutil.rmtree(folder.path / CELLS, ignore_errors=True)
    recordings = folder.path.glob(f"{folder.recording.name}*")
    with contextlib.suppress(OSError):
        for path in (
            folder.run_json,
            folder.lock,
            folder.recorder_lock,
            folder.output_log,
            *folder.path.glob(".run*"),
            *recordings,
        ):
            path.unlink(missing_ok=True)


def remove_empty(folders: list[Path]) -> None:
    """Remove these, the deepest first, as far as they are empty."""
    with contextlib.suppress(OSError):
        for path in folders:
            path.rmdir()
