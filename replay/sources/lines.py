"""Whole lines of a file, finished or growing, in bounded memory and without waiting."""

from __future__ import annotations

import gzip
import os
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from replay.sources.base import BrokenLine

MAX_LINE = 8 * 1024 * 1024
_CHUNK = 256 * 1024
_BYTES_PER_READ = 16 * 1024 * 1024


class LineReader:
    """Reads numbered lines as they appear.

    A line without its newline is waited for while the file grows; in a finished file it is the
    last line. A file that is truncated or replaced goes on from its new beginning, with line
    numbers from 1: `on_restart` is first told why, in a sentence.
    """

    def __init__(self, path: Path, growing: bool, on_restart: Callable[[str], None]) -> None:
        self.at_end = False
        """All that the file has now was handed out."""
        self.problems: list[BrokenLine] = []
        """Lines that could not be read, since they were last taken away."""
        self._path = path
        self._growing = growing
        self._on_restart = on_restart
        self._compressed = path.suffix == ".gz"
        self._file: IO[bytes] | gzip.GzipFile | None = None
        self._offset = 0
        self._number = 0
        self._tail = b""
        self._skipping = False
        self._finished = False
        self._whole: deque[bytes] = deque()

    @property
    def opened(self) -> bool:
        return self._file is not None

    @property
    def status(self) -> os.stat_result | None:
        """Of the open file."""
        return None if self._file is None else os.fstat(self._file.fileno())

    def read(self, limit: int) -> list[tuple[int, bytes]]:
        """At most `limit` further lines with their numbers."""
        lines: list[tuple[int, bytes]] = []
        if not self._open():
            self.at_end = True
            return lines
        budget = _BYTES_PER_READ
        self.at_end = False
        while True:
            while self._whole and len(lines) < limit:
                self._number += 1
                line = self._whole.popleft()
                if len(line) > MAX_LINE:
                    self._problem("longer than 8 MB")
                elif line.strip():
                    lines.append((self._number, line))
            if len(lines) >= limit or budget <= 0:
                return lines
            chunk = self._chunk()
            budget -= len(chunk)
            if chunk:
                self._split(chunk)
            elif lines and self._growing:
                return lines  # what follows may be another content: not in one answer
            elif not self._next_content():
                self.at_end = True
                return lines

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        if self._file is None:
            try:
                if self._compressed:
                    self._file = gzip.open(self._path)  # noqa: SIM115
                else:
                    self._file = self._path.open("rb")
            except OSError:
                return False
        return True

    def _chunk(self) -> bytes:
        if self._file is None or self._finished:
            return b""
        try:
            chunk = self._file.read(_CHUNK)
        except (OSError, EOFError, zlib.error):
            self._number += 1
            self._problem("the file is damaged or ends too early here: what follows is lost")
            self._number -= 1
            self._tail = b""
            self._finished = True
            return b""
        self._offset += len(chunk)
        return chunk

    def _split(self, chunk: bytes) -> None:
        if self._skipping:
            _, newline, chunk = chunk.partition(b"\n")
            if not newline:
                return
            self._skipping = False
        parts = (self._tail + chunk).split(b"\n")
        self._tail = parts.pop()
        self._whole.extend(parts)
        if len(self._tail) > MAX_LINE:
            # keeps the line's number and its verdict, not its bytes
            self._whole.append(self._tail)
            self._tail = b""
            self._skipping = True

    def _next_content(self) -> bool:
        """At the end of what there is: more, under another beginning or without a newline?"""
        if not self._growing:
            self._finished = True
            if not self._tail:
                return False
            self._whole.append(self._tail)
            self._tail = b""
            return True
        if self._compressed or self._file is None:
            return False
        opened = os.fstat(self._file.fileno())
        if opened.st_size < self._offset:
            self._restart("The file was truncated: reading goes on from its new beginning.")
            self._file.seek(0)
            return opened.st_size > 0
        try:
            now = os.stat(self._path)
        except OSError:
            return False
        if (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino):
            return False
        self._restart("The file was replaced: reading goes on in the new one.")
        self.close()
        return self._open()

    def _restart(self, why: str) -> None:
        self._on_restart(why)
        self._offset = self._number = 0
        self._tail = b""
        self._skipping = False

    def _problem(self, problem: str) -> None:
        self.problems.append(BrokenLine(self._number, problem))


def count_in_file(path: Path, needle: bytes, enough: int) -> int:
    """How often `needle` occurs, counted up to `enough`; 0 for what can't be read."""
    found, carried = 0, b""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while found < enough and (chunk := file.read(_CHUNK)):
                found += (carried + chunk).count(needle)
                carried = chunk[1 - len(needle) :]
    except (OSError, EOFError, zlib.error):
        return found
    return found


def is_written(status: os.stat_result) -> bool:
    """Does a process that this one may look into hold the file open for writing?"""
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return False
    return any(_writes(f"/proc/{process}", status) for process in processes)


def _writes(process: str, status: os.stat_result) -> bool:
    try:
        descriptors = os.listdir(f"{process}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            held = os.stat(f"{process}/fd/{descriptor}")
            if (held.st_dev, held.st_ino) != (status.st_dev, status.st_ino):
                continue
            with open(f"{process}/fdinfo/{descriptor}") as info:
                flags = next(line for line in info if line.startswith("flags:"))
            if int(flags.split()[1], 8) & (os.O_WRONLY | os.O_RDWR):
                return True
        except (OSError, StopIteration, ValueError, IndexError):
            continue
    return False
