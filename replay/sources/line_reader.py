"""Whole lines of a file, finished or growing, in bounded memory and without waiting."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from replay.sources.base import BrokenLine
from replay.sources.compressed import (
    COMPARED,
    MAGIC_BYTES,
    Decompressed,
    compression_of,
    may_become_compressed,
)
from replay.sources.seen import SeenLines

MAX_LINE = 8 * 1024 * 1024
_CHUNK = 256 * 1024
_BYTES_PER_READ = 16 * 1024 * 1024


class LineReader:
    """Reads numbered lines as they appear, of a file that may be compressed.

    A line without its newline is waited for while the file grows; in a finished file it is the
    last line. A file that grows may be truncated, rewritten or replaced: lines that were read
    before are known again and passed over. Where other ones stand there, reading goes on with
    them, numbered as they stand in the file: `on_restart` is first told why, in a sentence.
    """

    def __init__(
        self,
        path: Path,
        growing: bool,
        on_restart: Callable[[str], None],
        remember: bool = False,
    ) -> None:
        """`remember`: keep the checksums of the lines, as is done anyway where the file grows."""
        self.at_end = False
        """All that the file has now was handed out."""
        self.problems: list[BrokenLine] = []
        """Lines that could not be read, since they were last taken away."""
        self._path = path
        self._growing = growing
        self._on_restart = on_restart
        self._file: IO[bytes] | None = None
        self._content: _Plain | Decompressed | None = None
        self._seen = SeenLines() if growing or remember else None
        self._begun_anew = ""
        """Why the content may be another one, until a line shows whether it is."""
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

    @property
    def damage(self) -> str:
        """Why the file can't be read any further; empty where it can."""
        return "" if self._content is None else self._content.problem

    @property
    def first_checksum(self) -> int | None:
        """Of the first line; None where lines are not remembered."""
        return None if self._seen is None else self._seen.first

    def pending_bytes(self) -> int:
        """Bytes of the open file that are not read yet; 0 where it is compressed."""
        if self._file is None or not isinstance(self._content, _Plain):
            return 0
        return max(0, os.fstat(self._file.fileno()).st_size - self._content.position)

    def digest(self, number: int) -> int:
        """A checksum of the first lines up to `number`; 0 where lines are not remembered."""
        return 0 if self._seen is None else self._seen.digest(number)

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
                line = self._whole.popleft()
                if self._begun_anew and self._was_read(line):
                    continue
                self._number += 1
                if self._seen is not None:
                    self._seen.add(line)
                if len(line) > MAX_LINE:
                    self._problem("longer than 8 MB")
                elif line.strip():
                    lines.append((self._number, line))
            if len(lines) >= limit or budget <= 0:
                return lines
            chunk = self._chunk()
            if chunk is None:
                if lines:
                    return lines  # of the old content: not in one answer with another
                self._begin_anew("The file was rewritten: reading goes on in what it holds now.")
                continue
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
            self._file = self._content = None

    def _open(self) -> bool:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except OSError:
                return False
        return True

    def _chunk(self) -> bytes | None:
        """Further bytes of the content, none if there are none now.

        None where the bytes before them are no longer those that were read.
        """
        if self._content is None:
            if self._file is None or (self._growing and _undecided(self._file)):
                return b""
            self._content = content_of(self._file)
        if self._growing and not self._unchanged(self._content):
            return None
        if self._finished:
            return b""
        try:
            return self._content.read(_CHUNK)
        except OSError as error:
            self._content.problem = f"the file can't be read any further: {error.strerror}"
        return b""

    def _unchanged(self, content: _Plain | Decompressed) -> bool:
        """False where the bytes before the position are others than those that were read."""
        last = content.last
        if self._file is None or not last:
            return True
        try:
            now = os.pread(self._file.fileno(), len(last), content.position - len(last))
        except OSError:
            return True
        return now == last or len(now) < len(last)

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
        if not self._growing and self._content is not None:
            self._content.finish()
        if self._content is not None and self._content.problem and not self._finished:
            return self._end_at_problem(self._content)
        if not self._growing:
            self._finished = True
            if not self._tail:
                return False
            self._whole.append(self._tail)
            self._tail = b""
            return True
        if self._file is None:
            return False
        opened = os.fstat(self._file.fileno())
        if self._content is not None and opened.st_size < self._content.position:
            self._begin_anew("The file was truncated: reading goes on from its new beginning.")
            return opened.st_size > 0
        try:
            now = os.stat(self._path)
        except OSError:
            return False
        if (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino):
            return False
        self._begin_anew("The file was replaced: reading goes on in the new one.")
        self.close()
        return self._open()

    def _end_at_problem(self, content: _Plain | Decompressed) -> bool:
        """Nothing can be read behind it; the last line may stand before it without a newline."""
        self._finished = True
        rest, self._tail = self._tail, b""
        if content.torn:
            rest = b""
        lines = self._number + bool(rest)
        read = "1 line was read" if lines == 1 else f"{lines:,} lines were read"
        self.problems.append(BrokenLine(lines + 1, f"{content.problem} ({read})"))
        if rest:
            self._whole.append(rest)
        return bool(rest)

    def _begin_anew(self, why: str) -> None:
        """Read from the beginning; whether it is another content, the lines will show."""
        self._begun_anew = why
        if self._seen is not None:
            self._seen.go_back()
        self._finished = False
        self._content = None
        self._tail = b""
        self._skipping = False
        if self._file is not None:
            self._file.seek(0)

    def _was_read(self, line: bytes) -> bool:
        """Of a content that began anew: was this line handed out already?"""
        assert self._seen is not None
        if self._seen.repeats(line):
            return True
        if not self._seen.repeated_all:
            self._on_restart(self._begun_anew)
        self._number = self._seen.forget_rest()
        self._begun_anew = ""
        return False

    def _problem(self, problem: str) -> None:
        self.problems.append(BrokenLine(self._number, problem))


class _Plain:
    """The bytes of a file that is not compressed."""

    torn = False

    def __init__(self, file: IO[bytes]) -> None:
        self.problem = ""
        self.position = 0
        self.last = b""
        self._file = file

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self.position += len(chunk)
        if chunk:
            self.last = chunk[-COMPARED:]
        return chunk

    def finish(self) -> None:
        return


def content_of(file: IO[bytes]) -> _Plain | Decompressed:
    """The bytes of a file, decompressed where they begin as compressed ones do."""
    kind = compression_of(os.pread(file.fileno(), MAGIC_BYTES, 0))
    return _Plain(file) if kind is None else Decompressed(file, kind)


def _undecided(file: IO[bytes]) -> bool:
    """Are there too few bytes yet to tell whether they are compressed?"""
    return may_become_compressed(os.pread(file.fileno(), MAGIC_BYTES, 0))


def count_in_file(path: Path, needle: bytes, enough: int) -> int:
    """How often `needle` occurs, counted up to `enough`; 0 for what can't be read."""
    lines_seen, carried = 0, b""
    try:
        with path.open("rb") as file:
            content = content_of(file)
            while lines_seen < enough and (chunk := content.read(_CHUNK)):
                lines_seen += (carried + chunk).count(needle)
                carried = chunk[1 - len(needle) :]
    except OSError:
        return lines_seen
    return lines_seen


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
