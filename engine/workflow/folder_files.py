"""`file_inside`: files that a workflow names, which lie in its own folder."""

from __future__ import annotations

from pathlib import Path


class OutsideFolder(ValueError):
    """The path leads out of the folder."""


def file_inside(folder: Path, name: str) -> Path:
    """The real path of a regular file. Links are followed, and must not lead out of the folder.

    Raises:
        OutsideFolder: It lies elsewhere.
        OSError: There is no such file, or it is none.
    """
    if "\0" in name:
        raise OutsideFolder("a path holds no NUL character")
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise OutsideFolder("the path leads out of the workflow's folder")
    if not path.exists():
        raise FileNotFoundError(2, "there is no such file")
    if not path.is_file():
        raise OSError(22, "it is no file")
    return path
