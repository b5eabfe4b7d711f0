"""Opens files of a folder that somebody else may have made.

A run folder may come from a stranger and have a link to another database, a FIFO or a device in
place of any file. So links are not followed, only regular files are opened, and no open blocks.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

SMALL_FILE_BYTES = 1 << 20
"""Limit for `run.json`, locks and pointers, which are much smaller."""

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class UnsafeFile(OSError):
    """A file that is not opened; `strerror` says what it is: "it is a FIFO"."""


def open_regular(
    path: Path | str,
    flags: int = os.O_RDONLY,
    *,
    dir_fd: int | None = None,
    mode: int = 0o600,
    sole_name: bool = False,
) -> int:
    """Open a regular file and return its descriptor.

    Args:
        path: Path, relative to `dir_fd` if that is given.
        flags: Flags of `os.open`.
        dir_fd: Descriptor of a folder.
        mode: Mode of the file if `flags` create it.
        sole_name: Refuse a file with a second name (a hard link). Use it for files that are
            written: the other name may belong to somebody else's file.

    Raises:
        UnsafeFile: It is not such a file.
        OSError: It can't be opened.
    """
    try:
        check_regular(path, dir_fd=dir_fd, sole_name=sole_name)  # opening a device may act on it
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    try:
        fd = os.open(path, flags | _ALWAYS, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafeFile(errno.ELOOP, "it is a symbolic link", str(path)) from None
        raise
    try:
        _check(os.fstat(fd), path, sole_name)
    except OSError:
        os.close(fd)
        raise
    return fd


def check_regular(
    path: Path | str, *, dir_fd: int | None = None, sole_name: bool = False
) -> os.stat_result:
    """Status of a regular file. Raises `OSError`, in the form of `UnsafeFile` for anything else."""
    status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    _check(status, path, sole_name)
    return status


def open_folder(path: Path | str, *, dir_fd: int | None = None, follow: bool = False) -> int:
    """Open a folder and return its descriptor.

    Args:
        path: Path, relative to `dir_fd` if that is given.
        dir_fd: Descriptor of a folder.
        follow: Follow a link. Use it for a path that the user gave.

    Raises:
        UnsafeFile: It is not a folder.
        OSError: It can't be opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        return os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        raise UnsafeFile(errno.ENOTDIR, f"it is {kind_of(status)}", str(path)) from None


def read_small(
    path: Path | str, *, dir_fd: int | None = None, limit: int = SMALL_FILE_BYTES
) -> bytes:
    """All bytes of a regular file. Raises `OSError`, as `UnsafeFile` for more than `limit`."""
    fd = open_regular(path, dir_fd=dir_fd)
    with open(fd, "rb", buffering=0) as file:
        data = bytearray()
        while len(data) <= limit and (block := file.read(limit + 1 - len(data))):
            data += block
    if len(data) > limit:
        raise UnsafeFile(errno.EFBIG, f"it is larger than {limit:,} bytes", str(path))
    return bytes(data)


def kind_of(status: os.stat_result) -> str:
    """The kind of a file in words, such as "a symbolic link"."""
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            return name
    return "a regular file"


def _check(status: os.stat_result, path: Path | str, sole_name: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise UnsafeFile(code, f"it is {kind_of(status)}", str(path))
    if sole_name and status.st_nlink > 1:
        raise UnsafeFile(errno.EMLINK, "it has a second name (a hard link)", str(path))
