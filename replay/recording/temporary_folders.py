"""Folders for temporary files, which go with whoever made them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from replay.sources.base import SourceError


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
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=temporary_home()))
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(remove)  # once more, where a second Ctrl+C comes while it is removed
    try:
        yield folder
    finally:
        remove()
        atexit.unregister(remove)
