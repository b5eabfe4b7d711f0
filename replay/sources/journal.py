"""`JournalFeed`: what has the producer of a run written, and does it still live?"""

from __future__ import annotations

import msgspec

from engine.events import (
    SCHEMA_VERSION,
    Event,
    HeaderFacts,
    JournalEnd,
    JournalHeader,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
    decode_line,
)
from engine.events.producer_lock import Doubt, Presence
from engine.events.run_folder import RunFolder, RunRecord, read_record
from replay.sources.base import Batch, BrokenLine, Liveness, SourceError
from replay.sources.dialects import BROKEN, MendedLine, OwnLines
from replay.sources.sanitize import clean_line, clean_text
from replay.sources.segment_reader import MAX_LINE, Place, SegmentReader

PROBLEM_LENGTH = 200

_DOUBTS: dict[Doubt, str] = {
    "": "no end of it is written here",
    "no_lock": "its run.lock is missing, or can't be asked",
    "unidentified": "its run.lock does not say which process held it",
    "copy": "this is a copy of a run, made while that was live or before its end was recorded",
    "elsewhere": "it was started on another machine",
}


class JournalFeed:
    """A `Feed` over the segments of one run's journal, from its first or its last segment.

    Ordinals count events from 1, over both streams. A torn last line waits for its rest; a broken
    one is reported with its number in its segment. Liveness is the producer's lock.
    """

    def __init__(self, folder: RunFolder, from_last_segment: bool = False) -> None:
        self._folder = folder
        self._from_last_segment = from_last_segment
        self._reader = SegmentReader(folder)
        self._next_ordinal = 1
        self._run: RunInfo | None = None
        self._header = HeaderFacts(self._run_without_header())
        self._own = OwnLines()
        self._end: JournalEnd | None = None
        self._outcome: str | None = None
        self._liveness: Liveness = "waiting"
        self._completed = False

    @property
    def run(self) -> RunInfo | None:
        return self._run

    @property
    def folder(self) -> RunFolder:
        return self._folder

    late_events = 0
    holds_back = False
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
    def notes(self) -> tuple[str, ...]:
        return journal_notes(self._folder, self._liveness)

    @property
    def completed(self) -> bool:
        """The journal is gone or not whole, because the recording has it all: open that instead."""
        return self._completed

    def poll(self, limit: int = 10_000) -> Batch:
        """Raises `SourceError` if the journal is of a newer schema than this reader."""
        events: list[Event] = []
        broken: list[BrokenLine] = []
        producer = self._folder.producer
        exhausted = self._from_last_segment and not self._go_to_last_segment()
        first_ordinal = self._next_ordinal
        while self._end is None and len(events) < limit and not exhausted:
            followed = self._reader.followed
            taken = self._read(limit - len(events), events, broken)
            if not taken and self._end is None:
                exhausted = not followed
                if followed:
                    self._take_torn(broken)
                    self._reader.go_on()
        self._next_ordinal = first_ordinal + len(events)
        if events and self._run is None:
            self._run = self._run_without_header()
        self._judge(producer, exhausted, broken)
        return Batch(events, first_ordinal, self._reader.place._asdict(), broken)

    def resume(self, position: dict[str, int], next_ordinal: int) -> None:
        self._from_last_segment = False
        self._reader.go(Place(**position))
        self._next_ordinal = next_ordinal
        if self._run is None:
            self._run = self._header_of(self._reader.place.segment)

    def pending_bytes(self) -> int:
        """Bytes of the current segment that are not read yet, roughly what a poll would bring."""
        return self._reader.pending_bytes()

    def close(self) -> None:
        self._reader.close()

    def _go_to_last_segment(self) -> bool:
        """Start at the newest segment whose header stands there whole; False if there is none."""
        for number in reversed(self._folder.segment_numbers()):
            self._reader.go(Place(number, 0, 0))
            lines = self._reader.lines(1)
            if not lines:
                continue
            try:
                header = decode_line(clean_line(lines[0]))
            except BROKEN:
                continue
            if isinstance(header, JournalHeader):
                self._take_header(header)
                self._next_ordinal = header.first_ordinal
                self._from_last_segment = False
                return True
        self._reader.go(Place(1, 0, 0))
        return False

    def _header_of(self, segment: int) -> RunInfo | None:
        """The run as an earlier header told it, so that one who resumes knows it at once."""
        try:
            with open(self._folder.open_segment(segment), "rb") as file:
                header = decode_line(clean_line(file.readline(MAX_LINE)))
        except (OSError, *BROKEN):
            return None
        if not isinstance(header, JournalHeader):
            return None
        self._take_header(header)
        return header.run

    def _read(self, limit: int, events: list[Event], broken: list[BrokenLine]) -> bool:
        """Take at most `limit` whole lines. False if there is none now."""
        lines = self._reader.lines(limit)
        first = self._reader.place.line
        taken = 0
        complete, append = self._header.complete, events.append
        for read in self._own.read(lines):
            kind = type(read)
            if kind is MendedLine:
                self._tell(read.problem, first + taken + 1, broken)  # type: ignore[union-attr]
                read = read.line  # type: ignore[union-attr]
                kind = type(read)
            if kind is SchedulerEvent or kind is RequestEvent:
                append(complete(read))  # type: ignore[arg-type]
            elif isinstance(read, JournalHeader):
                self._take_header(read)
                complete = self._header.complete
            elif isinstance(read, JournalEnd):
                # The place stays before it: who resumes must read it again.
                self._end = read
                break
            elif isinstance(read, Exception):
                self._tell(problem_of(read), first + taken + 1, broken)
            taken += 1
        self._reader.take(lines[:taken])
        return taken > 0

    def _tell(self, problem: str, number: int, broken: list[BrokenLine]) -> None:
        broken.append(BrokenLine(number, self._reader.named(problem)))

    def _take_header(self, header: JournalHeader) -> None:
        check_schema(header, self._folder)
        self._run = header.run
        self._header = HeaderFacts(header.run)

    def _run_without_header(self) -> RunInfo:
        """What can be said of a run whose header line is broken."""
        record = read_record(self._folder)
        if record is None:
            return RunInfo(run_id="", name=self._folder.path.name)
        return RunInfo(record.run_id, record.name, record.producer, wall_start=record.wall_start)

    def _take_torn(self, broken: list[BrokenLine]) -> None:
        """Report the bytes behind the last whole line once nothing will complete them."""
        if self._reader.torn():
            number = self._reader.place.line + 1
            broken.append(BrokenLine(number, self._reader.named("the line is cut off")))

    def _judge(self, producer: Presence, exhausted: bool, broken: list[BrokenLine]) -> None:
        """Liveness after this poll; `producer` was looked up before anything was read."""
        if self._end is not None:
            self._liveness, self._outcome = "ended", self._end.outcome
        elif producer == "alive":
            self._liveness = "live" if self._run is not None else "waiting"
        elif not exhausted:
            self._liveness = "live"
        else:
            record = read_record(self._folder)
            if record is None and self._run is None:
                self._liveness = "waiting"
                return
            self._liveness = without_end(record, producer)
            if record is None:
                return
            self._completed = record.state in ("complete", "lost")
            self._outcome = record.outcome
            if self._run is None:
                self._run = self._run_without_header()
            if not self._completed and self._liveness != "unknown":
                self._take_torn(broken)


def without_end(record: RunRecord | None, producer: Presence) -> Liveness:
    """Of a journal that is read to its end of now, in which no end line stands."""
    if record is not None and record.state in ("ended", "complete"):
        return "ended"
    if record is not None and record.state == "lost":
        return "lost"
    return "lost" if producer == "dead" else "unknown"


def check_schema(header: JournalHeader, folder: RunFolder) -> None:
    """Raises `SourceError` where this reader is too old for the journal."""
    if header.run.schema_version > SCHEMA_VERSION:
        raise SourceError(
            f"{folder.path} was written by a newer headgate (schema "
            f"{header.run.schema_version}; this one reads up to {SCHEMA_VERSION})."
        )


def problem_of(error: Exception) -> str:
    """What is wrong with a line, for people."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    what = (
        "not a line of a journal" if isinstance(error, msgspec.ValidationError) else "broken JSON"
    )
    return clean_text(f"{what}: {error}"[:PROBLEM_LENGTH])


def journal_notes(folder: RunFolder, liveness: Liveness) -> tuple[str, ...]:
    """What only its folder tells of a run: a full disk, and why its liveness is unknown."""
    notes: list[str] = []
    if liveness == "unknown":
        notes.append(f"Whether this run goes on can't be told: {_DOUBTS[folder.doubt]}.")
    if liveness in ("live", "lost", "unknown") and folder.disk_is_full:
        notes.append(
            f"The disk that holds {folder.path} is full: not all that happened could be written."
        )
    return tuple(notes)
