"""`JournalFeed`: what has the producer of a run written, and does it still live?"""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from engine.events import (
    SCHEMA_VERSION,
    Event,
    JournalEnd,
    JournalHeader,
    RunInfo,
    decode_line,
)
from engine.events.run_folder import RunFolder, read_record
from replay.sources.base import Batch, BrokenLine, Liveness, SourceError

_BLOCK = 1 << 20


class _Place(NamedTuple):
    """Behind the last line taken: segment number, byte offset in it, lines of it taken."""

    segment: int
    offset: int
    line: int


class JournalFeed:
    """A `Feed` over the segments of one run's journal, from its first or its last segment.

    Ordinals count events from 1, over both streams. A torn last line waits for its rest; a broken
    one is reported with its number in its segment. Liveness is the producer's lock.
    """

    def __init__(self, folder: RunFolder, from_last_segment: bool = False) -> None:
        self._folder = folder
        self._from_last_segment = from_last_segment
        self._place = _Place(1, 0, 0)
        self._next_ordinal = 1
        self._fd = -1
        self._run: RunInfo | None = None
        self._end: JournalEnd | None = None
        self._outcome: str | None = None
        self._liveness: Liveness = "waiting"
        self._completed = False
        self._torn_reported = False

    @property
    def run(self) -> RunInfo | None:
        return self._run

    @property
    def liveness(self) -> Liveness:
        return self._liveness

    @property
    def outcome(self) -> str | None:
        return self._outcome

    @property
    def completed(self) -> bool:
        """The journal is gone or not whole, because the recording has it all: open that instead."""
        return self._completed

    def poll(self, limit: int = 10_000) -> Batch:
        """Raises `SourceError` if the journal is of a newer schema than this reader."""
        events: list[Event] = []
        broken: list[BrokenLine] = []
        alive = self._folder.producer_lives
        exhausted = self._from_last_segment and not self._go_to_last_segment()
        first_ordinal = self._next_ordinal
        while self._end is None and len(events) < limit and not exhausted:
            following = self._folder.segment(self._place.segment + 1).exists()
            taken = self._read(limit - len(events), events, broken)
            if not taken and self._end is None:
                exhausted = not following
                if following:
                    self._take_torn(broken)
                    self._open(_Place(self._place.segment + 1, 0, 0))
        self._next_ordinal = first_ordinal + len(events)
        if events and self._run is None:
            self._run = self._run_without_header()
        self._judge(alive, exhausted, broken)
        return Batch(events, first_ordinal, self._place._asdict(), broken)

    def resume(self, position: dict[str, int], next_ordinal: int) -> None:
        self._from_last_segment = False
        self._open(_Place(**position))
        self._next_ordinal = next_ordinal
        if self._run is None:
            self._run = self._header_of(self._place.segment)

    def pending_bytes(self) -> int:
        """Bytes of the current segment that are not read yet, roughly what a poll would bring."""
        try:
            return max(0, os.stat(self._current()).st_size - self._place.offset)
        except OSError:
            return 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _current(self) -> int | os.PathLike[str]:
        return self._fd if self._fd >= 0 else self._folder.segment(self._place.segment)

    def _open(self, place: _Place) -> None:
        self.close()
        self._place = place
        self._torn_reported = False

    def _go_to_last_segment(self) -> bool:
        """Start at the newest segment whose header stands there whole; False if there is none."""
        for number in reversed(self._folder.segment_numbers()):
            self._open(_Place(number, 0, 0))
            data = self._block(_BLOCK)
            cut = data.find(b"\n")
            if cut < 0:
                continue
            try:
                header = decode_line(data[:cut])
            except msgspec.DecodeError:
                continue
            if isinstance(header, JournalHeader):
                self._take_header(header)
                self._next_ordinal = header.first_ordinal
                self._from_last_segment = False
                return True
        self._open(_Place(1, 0, 0))
        return False

    def _header_of(self, segment: int) -> RunInfo | None:
        """The run as an earlier header told it, so that one who resumes knows it at once."""
        try:
            with open(self._folder.segment(segment), "rb") as file:
                header = decode_line(file.readline())
        except (OSError, msgspec.DecodeError):
            return None
        if not isinstance(header, JournalHeader):
            return None
        self._take_header(header)
        return header.run

    def _block(self, size: int) -> bytes:
        """Bytes from the current place; none where the segment can't be opened (any more)."""
        if self._fd < 0:
            try:
                path = self._folder.segment(self._place.segment)
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return b""
        return os.pread(self._fd, size, self._place.offset)

    def _read(self, limit: int, events: list[Event], broken: list[BrokenLine]) -> bool:
        """Take whole lines, at most `limit` events. False if there is no whole line now."""
        size = _BLOCK
        data = self._block(size)
        while len(data) == size and b"\n" not in data:
            size *= 4
            data = self._block(size)
        start, line = 0, self._place.line
        room = limit
        while room > 0:
            cut = data.find(b"\n", start)
            if cut < 0:
                break
            problem = None
            try:
                read = decode_line(data[start:cut])
            except msgspec.ValidationError as error:
                problem = f"not a line of a journal: {error}"
            except msgspec.DecodeError as error:
                problem = f"broken JSON: {error}"
            else:
                if isinstance(read, JournalHeader):
                    self._take_header(read)
                elif isinstance(read, JournalEnd):
                    # The place stays before it: who resumes must read it again.
                    self._end = read
                    break
                else:
                    events.append(read)
                    room -= 1
            line += 1
            if problem is not None:
                broken.append(BrokenLine(line, self._named(problem)))
            start = cut + 1
        self._place = _Place(self._place.segment, self._place.offset + start, line)
        return start > 0

    def _take_header(self, header: JournalHeader) -> None:
        if header.run.schema_version > SCHEMA_VERSION:
            raise SourceError(
                f"{self._folder.path} was written by a newer headgate (schema "
                f"{header.run.schema_version}; this one reads up to {SCHEMA_VERSION})."
            )
        self._run = header.run

    def _run_without_header(self) -> RunInfo:
        """What can be said of a run whose header line is broken."""
        record = read_record(self._folder)
        if record is None:
            return RunInfo(run_id="", name=self._folder.path.name)
        return RunInfo(record.run_id, record.name, record.producer, wall_start=record.wall_start)

    def _named(self, problem: str) -> str:
        return f"{self._folder.segment(self._place.segment).name}: {problem}"

    def _take_torn(self, broken: list[BrokenLine]) -> None:
        """Report the bytes behind the last whole line once nothing will complete them."""
        if not self._torn_reported and self._block(1):
            broken.append(BrokenLine(self._place.line + 1, self._named("the line is cut off")))
            self._torn_reported = True

    def _judge(self, alive: bool, exhausted: bool, broken: list[BrokenLine]) -> None:
        """Liveness after this poll; `alive` was looked up before anything was read."""
        if self._end is not None:
            self._liveness, self._outcome = "ended", self._end.outcome
        elif alive:
            self._liveness = "live" if self._run is not None else "waiting"
        elif not exhausted:
            self._liveness = "live"
        else:
            record = read_record(self._folder)
            if record is None:
                self._liveness = "waiting" if self._run is None else "lost"
                return
            self._completed = record.state in ("complete", "lost")
            ended = record.state in ("ended", "complete")
            self._liveness = "ended" if ended else "lost"
            self._outcome = record.outcome
            if self._run is None:
                self._run = self._run_without_header()
            if not self._completed:
                self._take_torn(broken)
