"""`SeenLines`: checksums of the lines read from a file, to find them again in its replacement."""

from __future__ import annotations

import sys
import zlib
from array import array

_BYTES_PER_SUM = array("I").itemsize
_LONGEST = 8 * 1024 * 1024
"""Only so many leading bytes are hashed: readers cut longer lines at different lengths."""


class SeenLines:
    """Checksums of the lines read, four bytes each, in the order of the file.

    After `go_back` the file is read from its beginning again. Its first line may be the first one
    that was read, or a later one where the file lost its beginning; those behind it must follow
    in the same order.
    """

    def __init__(self) -> None:
        self._sums = array("I")
        self._digest = 0
        self._first = 0
        self._next = 0

    def add(self, line: bytes) -> None:
        checksum = _checksum(line)
        self._sums.append(checksum)
        self._digest = zlib.crc32(checksum.to_bytes(_BYTES_PER_SUM, sys.byteorder), self._digest)

    @property
    def first(self) -> int | None:
        """The checksum of the first line."""
        return self._sums[0] if self._sums else None

    def digest(self, number: int) -> int:
        """Of the first `number` lines; that of all is known, whatever their number."""
        if number >= len(self._sums):
            return self._digest
        return zlib.crc32(memoryview(self._sums)[:number])

    def go_back(self) -> None:
        """Compares from the first line on again."""
        self._first = self._next = 0

    def repeats(self, line: bytes) -> bool:
        """Is it the next of the lines that were read? Asked of every line after `go_back`."""
        checksum = _checksum(line)
        if self._next < len(self._sums) and self._sums[self._next] == checksum:
            self._next += 1
            return True
        if self._next == 0 and line.strip():
            try:
                self._first = self._sums.index(checksum)
            except ValueError:
                return False
            self._next = self._first + 1
            return True
        return False

    @property
    def repeated_all(self) -> bool:
        """The file begins as before and goes on behind the last line that was read."""
        return self._first == 0 and self._next == len(self._sums)

    def forget_rest(self) -> int:
        """Keep the lines that the file still has, and return how many those are."""
        self._sums = self._sums[self._first : self._next]
        self._digest = zlib.crc32(self._sums)
        self._first, self._next = 0, len(self._sums)
        return self._next


def _checksum(line: bytes) -> int:
    return zlib.crc32(line[:_LONGEST])
