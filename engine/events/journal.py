"""`JournalWriter`: how do events reach the disk without slowing a run?

It writes whole lines, with one `os.write` at most every 20 ms and without `fsync`: a producer that
is killed loses the events of that interval. All but `write_through` is for the thread of the event
loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Sequence

import msgspec

from engine.events.codec import HeaderFacts, encode_lines
from engine.events.kinds import NEVER_SHED
from engine.events.run_folder import RunFolder
from engine.events.types import (
    Event,
    JournalEnd,
    JournalHeader,
    JournalLine,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
)

KEYFRAME_SHARE = 16
"""A segment is at least this many times as long as the keyframe that opens it."""
_LINES_PER_WRITE = 4096
_MAX_RETRY_SECONDS = 1.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class JournalWriter:
    """An `EventSink` that appends to `journal/NNNNNN.jsonl` in the folder of a run.

    A write that the disk refuses never stops the run. Events that may be shed (`EventKind.shed`)
    are dropped and counted, the others wait for a later try, and `recording_gap` lines say which
    events are missing.

    Args:
        folder: The folder of the run.
        run: Description of the run, for the header of each segment.
        loop: Delays writes; without it every call writes at once.
        request_keyframe: Called with `segment` when the next segment needs its keyframe.
        segment_bytes: Size at which a new segment begins.
        interval_seconds: Least time between writes.
        write: Writes bytes to a descriptor.
        segments: Segments that earlier parts of the run have written.
        events: Events in them.

    Raises:
        OSError: The first segment can't be written. No method raises it.
    """

    def __init__(
        self,
        folder: RunFolder,
        run: RunInfo,
        *,
        loop: asyncio.AbstractEventLoop | None,
        request_keyframe: Callable[[str], None],
        segment_bytes: int = 64 << 20,
        interval_seconds: float = 0.02,
        write: Callable[[int, bytes], int] = os.write,
        segments: int = 0,
        events: int = 0,
    ) -> None:
        self._folder = folder
        self._run = run
        self._header = HeaderFacts(run)
        self._loop = loop
        self._request_keyframe = request_keyframe
        self._segment_bytes = segment_bytes
        self._opening_bytes = 0
        self._interval_seconds = interval_seconds
        self._os_write = write
        self._lines: list[JournalLine] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last_write = float("-inf")
        self._retry_seconds = interval_seconds
        self._shed_events = 0
        self._resync_due = False
        self._keyframe_requested = False
        self._written_events = events
        self._segment = segments
        self._first_segment = segments + 1
        self._size = 0
        self._torn = False
        self._writing = threading.RLock()
        folder.create_journal()
        self._fd = -1
        self._open_segment()
        self._lines.append(JournalHeader(run, self._segment, events + 1))
        self._write_out()

    @property
    def shed_events(self) -> int:
        """Number of events that could not be written and are lost."""
        return self._shed_events

    def write_events(self, events: Sequence[Event]) -> None:
        if self._fd < 0:
            self._shed_events += len(events)
            return
        with self._writing:
            self._lines.extend(events)
        if self._timer is not None:
            return
        if self._loop is None or self._loop.time() - self._last_write >= self._interval_seconds:
            self._flush()
        else:
            due = self._last_write + self._interval_seconds
            self._timer = self._loop.call_at(due, self._flush)

    def write_through(self, events: Sequence[Event]) -> None:
        """Write the events, and what waited before them, at once and from any thread."""
        with self._writing:
            if self._fd < 0:
                return
            self._lines.extend(events)
            self._write_out()

    def close(self, end: JournalEnd) -> bool:
        """Write the pending lines and the end line. False if some could not be written."""
        with self._writing:
            self._write_out()
            self._lines.append(msgspec.structs.replace(end, shed_events=self._shed_events))
            done = self._write_out() or self._write_out()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            os.close(self._fd)
            self._fd = -1
        return done

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._last_write = self._loop.time()
        with self._writing:
            done = self._write_out()
        if done:
            self._retry_seconds = self._interval_seconds
        elif self._loop is not None:
            self._timer = self._loop.call_later(self._retry_seconds, self._flush)
            self._retry_seconds = min(self._retry_seconds * 2, _MAX_RETRY_SECONDS)
        self._request_keyframe_if_due()

    def _request_keyframe_if_due(self) -> None:
        """Request the keyframe that opens the next segment: after a full segment, and after a gap,
        so that a reader can resume with the whole state."""
        too_long = self._size >= max(self._segment_bytes, KEYFRAME_SHARE * self._opening_bytes)
        if (too_long or (self._resync_due and not self._lines)) and not self._keyframe_requested:
            self._keyframe_requested = True
            self._resync_due = False
            self._request_keyframe("segment")

    def _write_out(self) -> bool:
        """Write all lines, usually in one write. False if some have to wait for a later try."""
        while self._lines:
            chunk = self._next_chunk()
            data = self._encode(chunk)
            if data is None:
                continue
            try:
                head = chunk[0]
                opening = isinstance(head, JournalHeader) and head.segment > self._first_segment
                if isinstance(head, JournalHeader) and head.segment != self._segment:
                    self._open_segment()
                done = self._append(data, opening)
                if opening:
                    self._opening_bytes = sum(map(len, data.split(b"\n", 2)[1:2]))
            except OSError as error:
                cause = "disk_full" if error.errno in _FULL else "write_error"
                self._shed(lambda line: not _is_kept(line), cause)
                return False
            self._remove_written(done)
            if done < len(chunk):
                return False
        return True

    def _next_chunk(self) -> list[JournalLine]:
        """The next lines that belong to one segment, with the header if they begin a new one."""
        lines = self._lines
        if _opens_segment(lines[0]):
            self._keyframe_requested = False
            header = JournalHeader(self._run, self._segment + 1, self._written_events + 1)
            lines.insert(0, header)
        start = 2 if isinstance(lines[0], JournalHeader) else 1
        stop = start
        while stop < min(len(lines), _LINES_PER_WRITE) and not _opens_segment(lines[stop]):
            stop += 1
        return lines[:stop]

    def _append(self, data: bytes, opening: bool) -> int:
        """Append in one write, and cut off a line that was written in part.

        Args:
            data: Whole lines.
            opening: They open a segment: its header is not kept without its keyframe.

        Returns:
            Number of lines on disk, at least 1.

        Raises:
            OSError: Not even one line could be written.
        """
        if self._torn:
            os.ftruncate(self._fd, self._size)
            self._torn = False
        written = self._os_write(self._fd, data)
        whole = written if written == len(data) else data.rfind(b"\n", 0, written) + 1
        if opening and data.count(b"\n", 0, whole) < 2:
            whole = 0
        self._size += whole
        if whole != written:
            self._torn = True
            os.ftruncate(self._fd, self._size)
            self._torn = False
        if whole == 0:
            raise OSError(errno.ENOSPC, "no room for a whole line")
        return data.count(b"\n", 0, whole)

    def _remove_written(self, count: int) -> None:
        self._written_events += sum(
            isinstance(line, SchedulerEvent | RequestEvent) for line in self._lines[:count]
        )
        del self._lines[:count]

    def _open_segment(self) -> None:
        fd = self._folder.create_segment(self._segment + 1)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._segment += 1
        self._size = 0
        self._torn = False

    def _encode(self, chunk: list[JournalLine]) -> bytes | None:
        """The lines as bytes; None after shedding those that can't be written as JSON."""
        try:
            return encode_lines([self._header.shorten(line) for line in chunk])
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            bad = {id(line) for line in chunk if not _encodable(line)}
            self._shed(lambda line: id(line) in bad, "unencodable")
            return None

    def _shed(self, lost: Callable[[JournalLine], bool], cause: str) -> None:
        """Replace lost lines by one gap line for each range of sequence numbers of a stream."""
        remaining: list[JournalLine] = []
        open_gaps: dict[str, int] = {}
        for line in self._lines:
            if not isinstance(line, SchedulerEvent | RequestEvent):
                remaining.append(line)
                continue
            stream = "scheduler" if isinstance(line, SchedulerEvent) else "request"
            if not lost(line):
                if line.event_kind == "recording_gap":
                    stream = line.diagnostics["stream"]
                open_gaps.pop(stream, None)
                if line.event_kind == "recording_gap" and line.diagnostics["cause"] == cause:
                    open_gaps[stream] = len(remaining)
                remaining.append(line)
                continue
            self._shed_events += 1
            self._resync_due = True
            if _opens_segment(line) and remaining and isinstance(remaining[-1], JournalHeader):
                remaining.pop()
            if stream in open_gaps:
                index = open_gaps[stream]
                remaining[index] = _gap(line, stream, cause, remaining[index])
            else:
                open_gaps[stream] = len(remaining)
                remaining.append(_gap(line, stream, cause, None))
        self._lines = remaining


def _is_kept(line: JournalLine) -> bool:
    if not isinstance(line, SchedulerEvent | RequestEvent):
        return True
    return line.event_kind in NEVER_SHED or _opens_segment(line)


def _opens_segment(line: JournalLine) -> bool:
    return (
        isinstance(line, SchedulerEvent)
        and line.event_kind == "scheduler_health_snapshot"
        and line.diagnostics.get("reason") == "segment"
    )


def _encodable(line: JournalLine) -> bool:
    try:
        encode_lines([line])
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return False
    return True


def _gap(lost: Event, stream: str, cause: str, before: JournalLine | None) -> SchedulerEvent:
    """A `recording_gap` for `lost`, extending the gap `before` it if there is one.

    The journal writes it outside the numbering of the stream, with sequence 0.
    """
    first, at = lost.sequence, lost.captured_at_monotonic
    if isinstance(before, SchedulerEvent):
        first, at = before.diagnostics["first_lost"], before.captured_at_monotonic
    return SchedulerEvent(
        "recording_gap",
        at,
        0,
        reason_or_result=cause,
        diagnostics={
            "stream": stream,
            "first_lost": first,
            "last_lost": lost.sequence,
            "cause": cause,
        },
    )
