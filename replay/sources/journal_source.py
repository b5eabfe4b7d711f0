"""`JournalSource`: the lines of a run folder's journal, and whether its producer still lives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.events import JournalHeader, RunInfo, decode_line
from engine.events.process_lock import Doubt, Presence
from engine.events.run_folder import RunFolder, read_record
from engine.events.run_record import RunRecord, run_state
from replay.sources.base import BrokenLine, Liveness
from replay.sources.broken_lines import BROKEN
from replay.sources.delivery import position_of
from replay.sources.dialect import Dialect
from replay.sources.line_source import NO_LINES, Lines
from replay.sources.sanitize import clean_line
from replay.sources.segment_reader import MAX_LINE, Position, SegmentReader

LINES_PER_RELEASE = 20_000

_DOUBTS: dict[Doubt, str] = {
    "": "no end of it is written here",
    "no_lock": "its run.lock is missing, or can't be asked",
    "unidentified": "its run.lock does not say which process held it, as in a run of an older "
    "headgate; what its journal holds is shown, and the folder is left as it is",
    "copy": "this is a copy of a run, made while that was live or before its end was recorded",
    "elsewhere": "it was started on another machine",
}


class JournalSource:
    """A `LineSource` over the segments of one run's journal.

    A torn last line waits for its rest. Problems carry the number of the line in its segment. The
    evidence of liveness is the producer's lock, which is tested before anything is read: what a
    producer wrote before it died is then read before the run counts as lost.
    """

    awaited = ""
    growing = True

    def __init__(
        self,
        folder: RunFolder,
        *,
        seekable: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seekable`: each line has its meaning by itself, so that reading resumes anywhere."""
        self.folder = folder
        self.seekable = seekable
        self.lines_per_release = LINES_PER_RELEASE
        self.liveness: Liveness = "waiting"
        self.outcome: str | None = None
        self.completed = False
        self.caught_up = False
        self._clock = clock
        self._quiet_since = clock()
        self._reader = SegmentReader(folder)
        self._lines: list[bytes] = []
        self._lines_before = 0
        """Number of lines in the segments before the current one; 0 where seekable."""
        self._ended = False
        self._producer: Presence = "unknown"

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def over(self) -> bool:
        return self._ended or (self.caught_up and self._producer != "alive")

    @property
    def quiet_seconds(self) -> float:
        return self._clock() - self._quiet_since

    @property
    def notes(self) -> tuple[str, ...]:
        """What only its folder tells of a run: a full disk, and why its liveness is unknown."""
        notes: list[str] = []
        if self.liveness == "unknown":
            doubt = _DOUBTS[self.folder.doubt]
            notes.append(f"Whether this run goes on can't be told: {doubt}.")
        if self.liveness in ("live", "lost", "unknown") and self.folder.disk_is_full:
            notes.append(
                f"The disk that holds {self.folder.path} is full: not all that happened could be "
                "written."
            )
        return tuple(notes)

    def start_poll(self) -> None:
        self._producer = self.folder.producer
        self.caught_up = False

    def read(self, limit: int) -> Lines:
        reader = self._reader
        problems: list[BrokenLine] = []
        while not self._ended:
            followed = reader.followed
            lines = self._lines = reader.lines(limit)
            if lines:
                self._quiet_since = self._clock()
                first = self._lines_before + reader.position.line + 1
                return Lines(range(first, first + len(lines)), lines, problems)
            if not followed:
                self.caught_up = True
                break
            problems += self._torn()
            if not self.seekable:
                self._lines_before += reader.position.line
            reader.go_on()
        return NO_LINES._replace(problems=problems)

    def accept(self, count: int) -> None:
        self._ended = count < len(self._lines)
        self._reader.take(self._lines[:count])

    def named(self, broken: BrokenLine) -> BrokenLine:
        number = broken.line_number - self._lines_before
        return BrokenLine(number, self._reader.named(broken.problem))

    def finish_poll(self, dialect: Dialect | None, drained: bool) -> list[BrokenLine]:
        assert dialect is not None
        if not (self.over and drained):
            self.liveness = "live" if dialect.run is not None else "waiting"
            return []
        if dialect.end is not None:
            self.liveness, self.outcome = "ended", dialect.end.outcome
            return []
        record = read_record(self.folder)
        if record is None and self._reader.position == Position(1, 0, 0):
            self.liveness = "waiting"
            return []
        concluded = _without_end(record, self._producer)
        self.liveness, self.outcome = concluded, dialect.outcome
        if dialect.outcome is not None:
            self.liveness = "ended"
        elif record is not None:
            self.outcome = record.outcome
        self.completed = record is not None and record.is_imported
        return [] if self.completed or concluded == "unknown" else self._torn()

    def position(self, held: Iterable[int]) -> dict[str, int]:
        here = self._reader.position
        if self.seekable:
            return here._asdict()
        return position_of(self._lines_before + here.line, held)

    def resume(self, position: dict[str, int]) -> Lines:
        """Returns the header of the segment, so that the run is known at once."""
        if not self.seekable:
            return NO_LINES
        self._reader.go(Position(**position))
        try:
            with open(self.folder.open_segment(self._reader.position.segment), "rb") as file:
                line = file.readline(MAX_LINE)
            header = decode_line(clean_line(line))
        except (OSError, *BROKEN):
            return NO_LINES
        return Lines((1,), (line,)) if isinstance(header, JournalHeader) else NO_LINES

    def pending_bytes(self) -> int:
        """Bytes of the current segment that are not read yet."""
        return self._reader.pending_bytes()

    def close(self) -> None:
        self._reader.close()

    def _torn(self) -> list[BrokenLine]:
        """The bytes behind the last whole line, once nothing will complete them."""
        if not self._reader.torn():
            return []
        number = self._reader.position.line + 1
        return [BrokenLine(number, self._reader.named("the line is cut off"))]


def run_of_record(folder: RunFolder) -> RunInfo | None:
    """What `run.json` says of a run whose header can't be read; None where there is none."""
    record = read_record(folder)
    if record is None:
        return None
    return RunInfo(record.run_id, record.name, record.producer, wall_start=record.wall_start)


def _without_end(record: RunRecord | None, producer: Presence) -> Liveness:
    """Liveness of a journal that is read as far as it goes and that has no end line."""
    state = run_state("running" if record is None else record.state, producer)
    if state in ("ended", "complete"):
        return "ended"
    return "lost" if state == "lost" else "unknown"
