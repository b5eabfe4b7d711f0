"""`Reserve`: disk space that is allocated at the start of a run for what it writes at its end."""

from __future__ import annotations

import contextlib
import os

from engine.events.safe_files import open_regular


class Reserve:
    """A file whose blocks are allocated.

    `free` makes its room available to other files. `become` turns it into another file, which needs
    no further room on file systems that write in place. It stays in its folder when that is
    renamed.
    """

    def __init__(self, folder: int, name: str, size: int) -> None:
        """Allocate the file.

        Args:
            folder: Descriptor of the open folder; the caller keeps it.
            name: Name of the file.
            size: Bytes.

        Raises:
            OSError: There is no room.
        """
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
        """Remove the file. Does nothing the second time, nor after `become`."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder)
        self._close()

    def become(self, name: str, content: bytes) -> None:
        """Replace the file `name` in the folder atomically by one with this content.

        Raises:
            OSError: The file can't be written.
        """
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
