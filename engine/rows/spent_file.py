"""`SpentFile`: a few bytes that change often, in two slots of one file."""

from __future__ import annotations

import os

import msgspec

from engine.events.safe_files import open_regular
from engine.rows.frames import frame, read_frames

_NAME = "spent"
_SLOT_BYTES = 256


class SpentFile:
    """Each content goes into the older of two slots, so that a write that is cut off loses nothing
    but itself.

    Args:
        folder: Descriptor of the folder that the file is in.

    Raises:
        OSError: The file can't be read or made.
    """

    def __init__(self, folder: int) -> None:
        flags = os.O_RDWR | os.O_CREAT
        self._fd = open_regular(_NAME, flags, dir_fd=folder, sole_name=True)
        self._number, self._written = self._read()
        self.content = self._written
        """What `flush` writes."""

    def flush(self) -> bool:
        """Write the content unless it was written; False if the disk did not take it."""
        if self.content is self._written:
            return True
        number = self._number + 1
        slot = frame(msgspec.msgpack.encode((number, self.content)))
        try:
            written = os.pwrite(self._fd, slot, number % 2 * _SLOT_BYTES)
        except OSError:
            return False
        self._number, self._written = number, self.content
        return written == len(slot)

    def close(self) -> None:
        """Writes the content, if the disk takes it."""
        self.flush()
        os.close(self._fd)

    def _read(self) -> tuple[int, bytes]:
        written: list[tuple[int, bytes]] = [(0, b"")]
        for slot in range(2):
            data = os.pread(self._fd, _SLOT_BYTES, slot * _SLOT_BYTES)
            for _, payload in read_frames(data):
                number, content = msgspec.msgpack.decode(payload)
                written.append((number, content))
                break
        return max(written)
