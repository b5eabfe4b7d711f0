"""Folders for temporary files, which go with whoever made them.

Its maker holds an `flock` on such a folder. One whose maker was killed is removed when the next is
made.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.events.folder_claim import claim
from engine.events.safe_files import open_folder
from replay.sources.base import SourceError

_CLAIMED = ".claimed"
"""Ends the names of folders that are claimed: those of older versions are not, and stay."""
_NEW_SECONDS = 60.0
"""A younger folder may not have been claimed yet."""


class TemporaryFolder:
    """A folder of this process, until `remove`."""

    def __init__(self, prefix: str, in_use: Callable[[Path], bool] = lambda folder: False) -> None:
        """Make it, and remove those of dead processes with the same prefix.

        Args:
            prefix: Begins the name.
            in_use: Whether the folder of a dead process is still in use by others.

        Raises:
            SourceError: There is no place for it.
        """
        home = temporary_home()
        _remove_abandoned(home, prefix, in_use)
        self.path = Path(tempfile.mkdtemp(_CLAIMED, prefix, home))
        try:
            self._claim = open_folder(self.path)
        except OSError:
            self.path.rmdir()
            raise
        claim(self._claim)

    def remove(self) -> None:
        """Remove it. Does nothing the second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1


def temporary_home() -> Path:
    """Where temporary folders are made. Raises `SourceError` where there is no such place."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise SourceError(
            "No folder for temporary files can be written; name one that can in TMPDIR."
        ) from error


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder of our own, removed at the end. Raises `SourceError` where there is no place."""
    folder = TemporaryFolder(prefix)
    atexit.register(folder.remove)  # once more, where a second Ctrl+C comes while it is removed
    try:
        yield folder.path
    finally:
        folder.remove()
        atexit.unregister(folder.remove)


def _remove_abandoned(home: Path, prefix: str, in_use: Callable[[Path], bool]) -> None:
    with suppress(OSError):
        for path in home.glob(f"{prefix}*{_CLAIMED}"):
            with suppress(OSError):
                if _is_abandoned(path) and not in_use(path):
                    shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: Path) -> bool:
    folder = open_folder(path)
    try:
        status = os.fstat(folder)
        ours = status.st_uid == os.geteuid()
        old = time.time() - status.st_mtime > _NEW_SECONDS
        return ours and old and claim(folder) is True
    finally:
        os.close(folder)
