"""`RunJournal`: one run's folder and journal, as every headgate reads them.

The layout is that of `engine/events/run_folder.py`, the lines between header and end are the
producer's own events. One thread owns it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LINES_PER_WRITE = 4096
_LONGEST_RETRY_SECONDS = 1.0
_MOST_PENDING = 50_000
"""Lines that wait for a disk which takes nothing; beyond it even ends are lost."""

_encoder = json.JSONEncoder(
    separators=(",", ":"), check_circular=False, allow_nan=False, default=str
)


def encode(value: Any) -> bytes:
    """Its JSON, in ASCII, with a newline. Raises `ValueError`, `TypeError` or `RecursionError`."""
    return _encoder.encode(value).encode("ascii") + b"\n"


@dataclass
class Line:
    """One event on its way to the disk."""

    data: bytes
    """With its newline."""
    stream: str
    number: int
    """In its stream: what a gap is told by."""
    at: float
    kept: bool
    """An end: waits for a full disk rather than being lost."""
    keyframe: bool = False
    """A segment may begin with it."""
    gap: tuple[int, int, str] | None = None
    """This line tells of lost ones: first and last number, cause."""


class RunJournal:
    """Claims a folder and appends to `journal/NNNNNN.jsonl` in it.

    `folders` gives the paths to try, in turn: one that exists and is not empty is passed over. Only
    the constructor raises (`OSError`); what the disk refuses later is counted and told in the
    journal by `recording_gap` lines.
    """

    def __init__(
        self,
        folders: Callable[[int], str],
        header: dict[str, Any],
        record: dict[str, Any],
        *,
        segment_bytes: int = 64 << 20,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._header = header
        self._record = record
        self._segment_bytes = segment_bytes
        self._os_write = write
        self._pending: list[Line] = []
        self._retry_at = 0.0
        self._retry_seconds = 0.02
        self._segment = 1
        self._size = 0
        self._torn = False
        self._written = 0
        self._in_segment = 0
        self.shed_events = 0
        self.refusal = ""
        """Why lines were not taken, in words of the system; empty where all were."""
        self._folder = -1
        self.path, self._lock, self._fd = self._claim(folders)

    def append(self, lines: list[Line]) -> None:
        """Write them, and what waited before them, as far as the disk takes it."""
        self._pending += lines
        if time.monotonic() < self._retry_at:
            if len(self._pending) > _MOST_PENDING:
                self._shed(lambda line: True, "write_error")
            return
        self.retry_now()

    def retry_now(self) -> None:
        """Write what waits, however short ago the disk refused it."""
        if self._flush():
            self._retry_seconds = 0.02
        else:
            self._retry_at = time.monotonic() + self._retry_seconds
            self._retry_seconds = min(self._retry_seconds * 2, _LONGEST_RETRY_SECONDS)

    def end(self, outcome: str, message: str, scheduler: int, request: int) -> None:
        """The last lines, the end line, `run.json`, and the lock is free.

        `scheduler` and `request`: the last number of each stream. Without room for the end line
        readers take the run for lost, unless its own end is among the events.
        """
        at = time.monotonic()
        end = {
            "stream": "end",
            "outcome": outcome,
            "captured_at_monotonic": at,
            "scheduler_sequence": scheduler,
            "request_sequence": request,
            "shed_events": self.shed_events,
            "message": message,
        }
        if self._flush() or self._flush():
            end["shed_events"] = self.shed_events
            self._pending.append(Line(encode(end), "", 0, at, True))
            self._flush()
        self._record |= {
            "state": "ended",
            "outcome": outcome,
            "message": message,
            "wall_end": time.time(),
        }
        with contextlib.suppress(OSError):
            self._write_record()
        self.abandon()

    def abandon(self) -> None:
        """Close everything and write nothing: of a run that belongs to another process."""
        for descriptor in (self._fd, self._lock, self._folder):
            os.close(descriptor)

    def _claim(self, folders: Callable[[int], str]) -> tuple[str, int, int]:
        """Make the folder whole under another name first: it appears at one instant.

        It stays open: whatever it is renamed to, the run is written there. Nobody but its owner may
        read it, whatever the umask.
        """
        final = folders(1)
        parent = os.path.dirname(final)
        os.makedirs(parent, exist_ok=True)
        fresh = os.path.join(parent, f".{os.path.basename(final)}.{os.getpid()}")
        os.mkdir(fresh, 0o700)
        lock = fd = -1
        try:
            os.chmod(fresh, 0o700)
            self._folder = os.open(fresh, _FOLDER)
            os.mkdir("journal", 0o700, dir_fd=self._folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            lock = os.open("run.lock", flags, 0o600, dir_fd=self._folder)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(lock, _identity(lock))
            self._write_record()
            fd = self._open_segment()
            data = self._header_line()
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), fresh)
            self._size = len(data)
            nth = 1
            while True:
                try:
                    os.rename(fresh, folders(nth))
                    return folders(nth), lock, fd
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
                    nth += 1
        except BaseException:
            for opened in (lock, fd, self._folder):
                if opened >= 0:
                    os.close(opened)
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _write_record(self) -> None:
        fresh = f".run.json.{os.getpid()}"
        folder = self._folder
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)
        descriptor = os.open(fresh, _NEW, 0o600, dir_fd=folder)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(self._record, file, indent=2)
            file.write("\n")
        os.replace(fresh, "run.json", src_dir_fd=folder, dst_dir_fd=folder)

    def _open_segment(self) -> int:
        journal = os.open("journal", _FOLDER, dir_fd=self._folder)
        try:
            name = f"{self._segment:06d}.jsonl"
            return os.open(name, _NEW | os.O_APPEND, 0o600, dir_fd=journal)
        finally:
            os.close(journal)

    def _header_line(self) -> bytes:
        start = {"segment": self._segment, "first_ordinal": self._written + 1}
        return encode({"stream": "header", **self._header, **start})

    def _flush(self) -> bool:
        """Write all that is pending. False if some of it must wait for a later try."""
        while self._pending:
            try:
                if self._is_full(self._pending[0]):
                    self._next_segment()
                chunk = self._next_chunk()
                done = self._append(b"".join(line.data for line in chunk))
            except OSError as error:
                cause = "disk_full" if error.errno in _FULL else "write_error"
                self.refusal = error.strerror or type(error).__name__
                self._shed(lambda line: not line.kept, cause)
                return False
            events = sum(line.stream != "" for line in chunk[:done])
            self._written += events
            self._in_segment += events
            del self._pending[:done]
            if done < len(chunk):
                self.refusal = "only part of a write"
                self._shed(lambda line: not line.kept, "disk_full")
                return False
        return True

    def _is_full(self, line: Line) -> bool:
        """Before `line`: a segment ends before a keyframe where one comes in time."""
        if self._in_segment == 0:
            return False
        nearly = self._size >= self._segment_bytes * 7 // 8
        return (nearly and line.keyframe) or self._size + len(line.data) > self._segment_bytes

    def _next_chunk(self) -> list[Line]:
        """At least one line, and no more than this segment takes."""
        size = self._size + len(self._pending[0].data)
        for count, line in enumerate(self._pending[1:_LINES_PER_WRITE], start=1):
            nearly = size >= self._segment_bytes * 7 // 8
            size += len(line.data)
            if size > self._segment_bytes or (nearly and line.keyframe):
                return self._pending[:count]
        return self._pending[:_LINES_PER_WRITE]

    def _next_segment(self) -> None:
        self._segment += 1
        try:
            fd = self._open_segment()
        except OSError:
            self._segment -= 1
            raise
        os.close(self._fd)
        self._fd, self._size, self._in_segment, self._torn = fd, 0, 0, False
        self._pending.insert(0, Line(self._header_line(), "", 0, 0.0, True))

    def _append(self, data: bytes) -> int:
        """Append in one write. Returns how many lines are on the disk, whole; at least one."""
        if self._torn:
            os.ftruncate(self._fd, self._size)
            self._torn = False
        written = self._os_write(self._fd, data)
        whole = written if written == len(data) else data.rfind(b"\n", 0, written) + 1
        self._size += whole
        if whole != written:
            self._torn = True
            os.ftruncate(self._fd, self._size)
            self._torn = False
        if whole == 0:
            raise OSError(errno.ENOSPC, "no room for a whole line")
        return data.count(b"\n", 0, whole)

    def _shed(self, lost: Callable[[Line], bool], cause: str) -> None:
        """Give up lines that the disk refuses; one gap line tells of neighbours in a stream."""
        left: list[Line] = []
        open_gaps: dict[str, int] = {}
        for line in self._pending:
            if line.gap is not None and line.gap[2] == cause and line.stream not in open_gaps:
                open_gaps[line.stream] = len(left)
                left.append(line)
            elif line.gap is not None or not line.stream or not lost(line):
                open_gaps.pop(line.stream, None)
                left.append(line)
            else:
                self.shed_events += 1
                index = open_gaps.setdefault(line.stream, len(left))
                first = line.number
                if index == len(left):
                    left.append(line)
                else:
                    before = left[index].gap
                    first = before[0] if before is not None else first
                left[index] = gap_line(line.stream, first, line.number, cause, line.at)
        self._pending = left


def _identity(lock: int) -> bytes:
    """Which lock this is, as `engine/events/process_lock.py` reads it: a copy is another one."""
    boot = ""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    status = os.fstat(lock)
    facts = {"host": socket.gethostname(), "boot": boot}
    return encode({**facts, "device": status.st_dev, "inode": status.st_ino})


def gap_line(stream: str, first: int, last: int, cause: str, at: float) -> Line:
    """A `recording_gap`: the events `first` to `last` of the stream are lost."""
    event = {
        "stream": "scheduler",
        "event_kind": "recording_gap",
        "captured_at_monotonic": at,
        "sequence": 0,
        "reason_or_result": cause,
        "diagnostics": {
            "stream": stream,
            "first_lost": first,
            "last_lost": last,
            "cause": cause,
        },
    }
    return Line(encode(event), stream, last, at, True, gap=(first, last, cause))
