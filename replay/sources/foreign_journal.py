"""`ForeignJournalFeed`: a journal whose lines are in another producer's words.

`headgate exec` has such journals written in the user's own process: headgate's header, gaps and end
around Data Designer's own events.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from engine.events import Event, JournalEnd, JournalHeader, RunInfo, decode_line
from engine.events.producer_lock import Presence
from engine.events.run_folder import RunFolder, read_record
from replay.sources.base import Batch, BrokenLine, Feed, Liveness
from replay.sources.delivery import Delivered, position_of
from replay.sources.dialects import BROKEN, DataDesignerLines, problem_of
from replay.sources.journal import JournalFeed, check_schema, journal_notes, without_end
from replay.sources.sanitize import clean_line
from replay.sources.segment_reader import SegmentReader

_LINES_PER_POLL = 20_000


class ForeignJournalFeed:
    """A `Feed` that puts the events in order of time, as for a file of that producer.

    What a line means depends on those before it: who resumes reads from the beginning again, and
    leaves out what was handed out. Liveness is the producer's lock.

    `patient`: events are handed out once what belongs before them can hardly come any more, a
    minute later or at the end. A wait is told when it is over, so that only this order puts long
    ones where they began.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        patient: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._patient = patient
        self._clock = clock
        self._quiet_since = clock()
        self._reader = SegmentReader(folder)
        self._dialect: DataDesignerLines | None = None
        self._ready: deque[tuple[int, Event]] = deque()
        self._delivered = Delivered()
        self._read_to = 0
        self._next_ordinal = 1
        self._end: JournalEnd | None = None
        self._liveness: Liveness = "waiting"
        self._outcome: str | None = None
        self._completed = False

    @property
    def run(self) -> RunInfo | None:
        return None if self._dialect is None else self._dialect.run

    @property
    def folder(self) -> RunFolder:
        return self._folder

    awaited = ""

    @property
    def has_end(self) -> bool:
        """Its end line was read: the producer writes nothing behind it."""
        return self._end is not None

    @property
    def liveness(self) -> Liveness:
        return self._liveness

    @property
    def outcome(self) -> str | None:
        return self._outcome

    @property
    def late_events(self) -> int:
        """Events that came too late to be put where their time belongs."""
        return 0 if self._dialect is None else self._dialect.late

    @property
    def holds_back(self) -> bool:
        """Lines that were read wait for earlier ones."""
        return self._dialect is not None and bool(self._dialect.held)

    @property
    def notes(self) -> tuple[str, ...]:
        return journal_notes(self._folder, self._liveness)

    @property
    def completed(self) -> bool:
        """The journal is gone or not whole, because the recording has it all: open that instead."""
        return self._completed

    def poll(self, limit: int = 10_000) -> Batch:
        """Raises `SourceError` if the journal is of a newer schema than this reader."""
        broken: list[BrokenLine] = []
        producer = self._folder.producer
        over, exhausted, released = self._end is not None, False, False
        while len(self._ready) < limit and not (over or exhausted or released):
            exhausted = self._read_on(limit, broken)
            over = self._end is not None or (exhausted and producer != "alive")
            if over and self._end is None and producer == "dead":
                self._take_torn(broken)
            released = self._release(over, exhausted)
        first = self._next_ordinal
        events = [self._ready.popleft()[1] for _ in range(min(limit, len(self._ready)))]
        self._next_ordinal += len(events)
        self._judge(producer, over and not self._ready)
        return Batch(events, first, self._position(), broken)

    def resume(self, position: dict[str, int], next_ordinal: int) -> None:
        self._delivered = Delivered(position)
        self._next_ordinal = next_ordinal

    def pending_bytes(self) -> int:
        """Bytes of the current segment that are not read yet, roughly what a poll would bring."""
        return self._reader.pending_bytes()

    def close(self) -> None:
        self._reader.close()

    def _read_on(self, limit: int, broken: list[BrokenLine]) -> bool:
        """Take further lines, of several segments perhaps. True if there are no more now."""
        read_before = self._read_to
        exhausted = False
        room = _LINES_PER_POLL
        while self._end is None and not exhausted and room > 0 and len(self._ready) < limit:
            followed = self._reader.followed
            taken = self._read(room, broken)
            room -= taken
            if taken == 0 and self._end is None:
                exhausted = not followed
                if followed:
                    self._take_torn(broken)
                    self._reader.go_on()
        if self._read_to > read_before:
            self._quiet_since = self._clock()
        return exhausted

    def _read(self, limit: int, broken: list[BrokenLine]) -> int:
        """Take whole lines of this segment. Returns how many; 0 if there is none now."""
        lines = self._reader.lines(limit)
        taken = 0
        for line in lines:
            own = line.startswith((b'{"stream":"header"', b'{"stream":"end"'))
            try:
                if own and not self._take_own(line):
                    break
                if not own:
                    for wrong in self._take_event(self._read_to + 1, line):
                        self._tell(wrong.problem, taken, broken)
            except BROKEN as error:
                self._tell(problem_of(error), taken, broken)
            taken += 1
            self._read_to += 1
        self._reader.take(lines[:taken])
        return taken

    def _tell(self, problem: str, taken: int, broken: list[BrokenLine]) -> None:
        """Of the line behind the next `taken` ones; told once."""
        if not self._delivered.was_read(self._read_to + 1):
            number = self._reader.place.line + taken + 1
            broken.append(BrokenLine(number, self._reader.named(problem)))

    def _take_own(self, line: bytes) -> bool:
        """A line of headgate's. False for the end, before which the place stays."""
        read = decode_line(clean_line(line))
        if isinstance(read, JournalEnd):
            self._end = read
            return False
        if isinstance(read, JournalHeader):
            check_schema(read, self._folder)
            if self._dialect is None:
                self._dialect = DataDesignerLines(read.run.name, told=read.run)
        return True

    def _take_event(self, number: int, line: bytes) -> list[BrokenLine]:
        if self._dialect is None:
            record = read_record(self._folder)
            name = self._folder.path.name if record is None else record.name
            self._dialect = DataDesignerLines(name)
        return self._dialect.accept([(number, line)])

    def _release(self, over: bool, exhausted: bool) -> bool:
        """Hand out what is due: in order within seconds while more may come, else all. False if
        nothing is."""
        if self._dialect is None:
            return False
        quiet = self._clock() - self._quiet_since
        live = exhausted and not self._patient
        everything = over or (live and quiet >= self._dialect.patience)
        released = self._dialect.release(everything=everything, live=live)
        self._ready += self._delivered.others(released)
        return bool(released)

    def _position(self) -> dict[str, int]:
        held = [number for number, _ in self._ready]
        if self._dialect is not None:
            held.extend(self._dialect.held)
        return position_of(self._read_to, held)

    def _take_torn(self, broken: list[BrokenLine]) -> None:
        if self._reader.torn():
            number = self._reader.place.line + 1
            broken.append(BrokenLine(number, self._reader.named("the line is cut off")))

    def _judge(self, producer: Presence, over: bool) -> None:
        """Liveness after this poll; `producer` was looked up before anything was read."""
        if not over:
            known = self._dialect is not None and self._dialect.run is not None
            self._liveness = "live" if known else "waiting"
            return
        record = read_record(self._folder)
        if producer != "alive" and record is not None:
            self._completed = record.state in ("complete", "lost")
        said: str | None = self._end.outcome if self._end is not None else None
        if said is None and self._dialect is not None:
            said = self._dialect.outcome
        if said is None and record is not None:
            said = record.outcome
        self._outcome = said
        self._liveness = "ended" if said is not None else without_end(record, producer)


def open_journal(folder: RunFolder, *, patient: bool = False) -> Feed:
    """The journal of a run, in whosever words it is; `patient` as for `ForeignJournalFeed`."""
    reader = SegmentReader(folder)
    try:
        lines = reader.lines(1)
        header = decode_line(clean_line(lines[0])) if lines else None
    except BROKEN:
        header = None
    finally:
        reader.close()
    if isinstance(header, JournalHeader):
        foreign = header.dialect != "headgate"
    else:
        record = read_record(folder)
        foreign = record is not None and record.producer == "data_designer"
    return ForeignJournalFeed(folder, patient=patient) if foreign else JournalFeed(folder)
