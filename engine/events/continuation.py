"""`Continuation`: where does the journal of an interrupted run end, so that the run can go on?

A run that goes on keeps its id, its header, its sequence numbers and the ids of its leases. Its
clock goes on as well: the time between is no time of the run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import msgspec

from engine.errors import UserError
from engine.events.codec import decode_line
from engine.events.run_folder import RunFolder, segment_name
from engine.events.safe_files import open_regular
from engine.events.types import (
    JournalEnd,
    JournalHeader,
    JournalLine,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
)

_TAIL_BYTES = 64 << 20
_GAP_TO_THE_NEXT_SECOND = 0.001
_ID_PREFIXES = ("e", "t", "a", "r")


class LastIds(NamedTuple):
    """Numbers of the last ids that were used."""

    executions: int = 0
    task_leases: int = 0
    attempts: int = 0
    request_leases: int = 0


class Continuation(msgspec.Struct, frozen=True):
    """The end of a journal."""

    run: RunInfo
    segments: int
    events: int
    scheduler_sequence: int
    request_sequence: int
    last_time: float
    """Of the last event, in monotonic seconds of the run."""
    ids: LastIds

    @property
    def restart_time(self) -> float:
        """When the clock of the run goes on: at the next whole second of the run, so that no second
        belongs to both parts."""
        start = self.run.monotonic_start
        seconds = max(0.0, self.last_time - start)
        return start + int(seconds) + 1 + _GAP_TO_THE_NEXT_SECOND


def read_continuation(folder: RunFolder) -> Continuation:
    """Read where the journal ends.

    Raises:
        UserError: There is no journal from its beginning, or no line of it says of which run.
    """
    numbers = folder.segment_numbers()
    if numbers[:1] != [1]:
        raise UserError(f"{folder.path} has no whole journal, so the run can't go on.")
    progress = _TailFacts()
    for number in reversed(numbers):
        progress.begin_segment()
        for line in _lines(folder, number):
            progress.note(line)
        if progress.is_complete:
            break
    if progress.run is None:
        raise UserError(f"The journal in {folder.path} does not say of which run it is.")
    if progress.run.producer != "headgate":
        raise UserError(f"{folder.path} holds a run of {progress.run.producer}, not of headgate.")
    ids = (progress.ids[prefix] for prefix in _ID_PREFIXES)
    return Continuation(
        progress.run,
        numbers[-1],
        progress.events,
        progress.sequences["scheduler"],
        progress.sequences["request"],
        progress.run.monotonic_start if progress.last_time is None else progress.last_time,
        LastIds(*ids),
    )


def open_tail(folder: RunFolder, segments: int) -> None:
    """Remove what ends the first `segments` of a journal: an end line, and a line that was cut off.

    Segments of a run that did not go on hold a header and nothing else: the one before them ends
    the journal as well.

    Raises:
        OSError: A segment can't be written.
    """
    with folder.journal_folder() as journal:
        for number in range(segments, 0, -1):
            fd = open_regular(segment_name(number), os.O_RDWR, dir_fd=journal, sole_name=True)
            try:
                if _cut_end(fd) > 1:
                    return
            finally:
                os.close(fd)


def remove_segments(folder: RunFolder, after: int) -> None:
    """Remove the segments behind the first `after`, as far as they hold no event."""
    with suppress(OSError), folder.journal_folder() as journal:
        for number in folder.segment_numbers():
            if number > after and sum(1 for _ in _lines(folder, number)) <= 1:
                os.unlink(segment_name(number), dir_fd=journal)


class _TailFacts:
    """What the segments say, from the last one backwards, until nothing more can be learnt."""

    def __init__(self) -> None:
        self.run: RunInfo | None = None
        self.sequences = {"scheduler": 0, "request": 0}
        self.last_time: float | None = None
        self.ids = dict.fromkeys(_ID_PREFIXES, 0)
        self._read = 0
        self._before: int | None = None

    @property
    def events(self) -> int:
        return self._read + (self._before or 0)

    @property
    def is_complete(self) -> bool:
        known = (*self.sequences.values(), *self.ids.values())
        return self.run is not None and self._before is not None and all(known)

    def begin_segment(self) -> None:
        self._before = None

    def note(self, line: JournalLine) -> None:
        if isinstance(line, JournalHeader):
            self.run = self.run or line.run
            if self._before is None:
                self._before = line.first_ordinal - 1
            return
        at = line.captured_at_monotonic
        self.last_time = at if self.last_time is None else max(self.last_time, at)
        if isinstance(line, JournalEnd):
            return
        self._read += 1
        if isinstance(line, RequestEvent):
            stream, names = "request", (line.request_attempt_id, line.request_lease_id)
        else:
            stream, names = "scheduler", (line.task_execution_id, line.task_lease_id)
            if line.event_kind == "recording_gap":
                self._note_gap(line)
        self.sequences[stream] = max(self.sequences[stream], line.sequence)
        for name in names:
            if name is not None and name[:1] in self.ids and name[1:].isdecimal():
                self.ids[name[:1]] = max(self.ids[name[:1]], int(name[1:]))

    def _note_gap(self, line: SchedulerEvent) -> None:
        stream, last = line.diagnostics.get("stream"), line.diagnostics.get("last_lost")
        if stream in self.sequences and type(last) is int:
            self.sequences[stream] = max(self.sequences[stream], last)


def _lines(folder: RunFolder, segment: int) -> Iterator[JournalLine]:
    """The lines of a segment that can be read."""
    with open(folder.open_segment(segment), "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                yield decode_line(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue


def _cut_end(fd: int) -> int:
    """Cut a segment behind its last whole line that is no end line. Returns how many lines of its
    end are left, as far as those were read."""
    size = os.fstat(fd).st_size
    before = max(0, size - _TAIL_BYTES)
    block = os.pread(fd, size - before, before)
    if len(block) < size - before:
        raise OSError(errno.EIO, "the journal can't be read")
    whole = block[: block.rfind(b"\n") + 1]
    start = whole.rfind(b"\n", 0, -1) + 1
    try:
        ends = bool(whole) and isinstance(decode_line(whole[start:]), JournalEnd)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        ends = False
    left = whole[:start] if ends else whole
    if before + len(left) < size:
        os.ftruncate(fd, before + len(left))
    return left.count(b"\n") + (before > 0)
