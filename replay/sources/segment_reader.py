"""`SegmentReader`: the whole lines of a journal's segments, in order, as they are added."""

from __future__ import annotations

import os
from typing import NamedTuple

from engine.events.run_folder import RunFolder, segment_name

MAX_LINE = 64 << 20
"""A longer one is taken for a torn one: what follows it in its segment is lost."""
_BLOCK = 1 << 20


class Position(NamedTuple):
    """Behind the last line taken: segment number, byte offset in it, lines of it taken."""

    segment: int
    offset: int
    line: int


class SegmentReader:
    """Reads from a position on and never waits. A torn last line is not there until it is whole."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.position = Position(1, 0, 0)
        self._fd = -1
        self._torn_reported = False
        self._ahead: list[bytes] = []
        self._taken = 0

    def go(self, position: Position) -> None:
        """Goes on reading at `position`."""
        self.close()
        self.position = position
        self._torn_reported = False
        self._ahead = []

    @property
    def followed(self) -> bool:
        """Is there a next segment? To be asked before the last lines of this one are read."""
        return self._folder.has_segment(self.position.segment + 1)

    def go_on(self) -> None:
        """To the next segment."""
        self.go(Position(self.position.segment + 1, 0, 0))

    def lines(self, limit: int) -> list[bytes]:
        """At most `limit` next whole lines of this segment, without newline; none if none is there.

        They are not taken: `take` says how many were used.
        """
        if not self._ahead:
            self._ahead, self._taken = self._read_block(), 0
        return self._ahead[self._taken : self._taken + limit]

    def take(self, lines: list[bytes]) -> None:
        """The first lines of `lines()` are used: go on behind them."""
        segment, offset, line = self.position
        used = sum(map(len, lines)) + len(lines)
        self.position = Position(segment, offset + used, line + len(lines))
        self._taken += len(lines)
        if self._taken == len(self._ahead):
            self._ahead = []

    def block(self, size: int) -> bytes:
        """Bytes from the current position; none where the segment can't be opened (any more)."""
        if self._fd < 0:
            try:
                self._fd = self._folder.open_segment(self.position.segment)
            except OSError:
                return b""
        return os.pread(self._fd, size, self.position.offset)

    def torn(self) -> bool:
        """Are there bytes behind the last whole line, not reported yet? To be asked at the end."""
        if self._torn_reported or not self.block(1):
            return False
        self._torn_reported = True
        return True

    def pending_bytes(self) -> int:
        """Bytes of the current segment that are not read yet."""
        self.block(0)
        return 0 if self._fd < 0 else max(0, os.fstat(self._fd).st_size - self.position.offset)

    def named(self, problem: str) -> str:
        """`problem` with the file in which it is."""
        return f"{segment_name(self.position.segment)}: {problem}"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_block(self) -> list[bytes]:
        size = _BLOCK
        data = self.block(size)
        while len(data) == size and b"\n" not in data and size < MAX_LINE:
            size *= 4
            data = self.block(size)
        parts = data.split(b"\n")
        parts.pop()
        return parts
