"""`Reserve`: room on the disk, taken while there is some, for what a run has to say at its end."""

from __future__ import annotations

import contextlib
import os

from engine.events.safe_files import open_regular


class Reserve:
    """A file whose blocks are allocated. It can be freed, or become another file, which needs no
    further room on file systems that write in place.

    It stays in its folder when that is renamed. The constructor raises `OSError` where there is no
    room.
    """

    def __init__(self, folder: int, name: str, size: int) -> None:
        """`folder` is a descriptor of the open folder, which stays the caller's."""
        self._name = name
        self._fd = -1
        self._folder = os.dup(folder)
        try:
            self._fd = open_regular(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=self._folder)
            rest = memoryview(os.urandom(size))  # zeros may be stored as a hole
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self.free()
            raise

    def free(self) -> None:
        """Give the room back. Does nothing the second time, nor after `become`."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)
        self._close()

    def become(self, name: str, content: bytes) -> None:
        """Replace the file of that name in the folder by one with this content, in one step.
        Raises `OSError`."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.pwrite(self._fd, rest, len(content) - len(rest)) :]
        os.ftruncate(self._fd, len(content))
        os.replace(self._name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._close()

    def _close(self) -> None:
        for descriptor in (self._fd, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._fd = self._folder = -1
