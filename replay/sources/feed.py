"""`Feed`: every producer is read as ordered events of one run, over a line source and a dialect."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from engine.events import JournalHeader, RunInfo, decode_line
from engine.events.run_folder import RunFolder, read_record
from replay.sources.base import Batch, BrokenLine, Liveness
from replay.sources.broken_lines import BROKEN, problem_of
from replay.sources.delivery import Delivered
from replay.sources.dialect import Dialect, Released
from replay.sources.file_source import FileSource
from replay.sources.foreign_lines import DataDesignerLines
from replay.sources.journal_source import JournalSource, run_of_record
from replay.sources.line_source import Lines, LineSource, Restart
from replay.sources.own_lines import OwnJournalLines
from replay.sources.sanitize import clean_line
from replay.sources.segment_reader import SegmentReader


class Feed:
    """Events of one run, read without blocking. Not thread-safe: one reader owns it.

    The source says which lines there are and whether more will come; the dialect says which events
    those lines are, and in which order.
    """

    def __init__(
        self,
        source: LineSource,
        dialect: Dialect | Callable[[bytes], Dialect],
        *,
        patient: bool = False,
    ) -> None:
        """
        Args:
            source: The lines.
            dialect: What the lines mean, or a function that says so of the first good line and
                raises an error of `BROKEN` for another.
            patient: Hand events out once what belongs before them can hardly come any more, a
                minute later or at the end. A wait is written when it is over, so that only this
                order puts long ones where they began.
        """
        self._source = source
        self._dialect: Dialect | None = None
        self._recognize: Callable[[bytes], Dialect] | None = None
        if callable(dialect):
            self._recognize = dialect
        else:
            self._dialect = dialect
        self._patient = patient
        self._ready: deque[Released] = deque()
        self._broken: list[BrokenLine] = []
        self._delivered = Delivered()
        self._next_ordinal = 1

    @property
    def run(self) -> RunInfo | None:
        """None until the producer has said what it runs; may gain facts as they are learnt."""
        return None if self._dialect is None else self._dialect.run

    @property
    def seekable(self) -> bool:
        """Each line has its meaning by itself: reading goes on from any position."""
        return self._source.seekable

    @property
    def liveness(self) -> Liveness:
        return self._source.liveness

    @property
    def outcome(self) -> str | None:
        """`success`, `failed`, `cancelled`; None while running or if it was lost."""
        return self._source.outcome

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of this source, a sentence each."""
        return self._source.notes

    @property
    def late_events(self) -> int:
        """Number of events that came too late to be put where their time belongs."""
        return 0 if self._dialect is None else self._dialect.late

    @property
    def holds_back(self) -> bool:
        """Lines that were read wait for earlier ones."""
        return self._dialect is not None and bool(self._dialect.held)

    @property
    def awaited(self) -> str:
        """A sentence naming the file that does not exist yet; empty once it does."""
        return self._source.awaited

    @property
    def has_end(self) -> bool:
        """The end line of a journal was read: the producer writes nothing after it."""
        return self._dialect is not None and self._dialect.end is not None

    @property
    def completed(self) -> bool:
        """The journal is gone or not whole because the recording has it all: open that instead."""
        return self._source.completed

    @property
    def folder(self) -> RunFolder | None:
        """The run folder that is read; None for a file."""
        return self._source.folder

    @property
    def path(self) -> Path:
        """The file or folder that is read."""
        return self._source.path

    @property
    def growing(self) -> bool:
        """Lines may still be added."""
        return self._source.growing

    def poll(self, limit: int = 10_000) -> Batch:
        """Return at most `limit` new events, none if there are none now. Never waits.

        Raises:
            SourceError: The lines are of a newer schema than this reader.
        """
        source = self._source
        source.start_poll()
        while len(self._ready) < limit:
            self._read(limit)
            self._release()
            if source.caught_up or source.over:
                break
        first = self._next_ordinal
        if len(self._ready) <= limit:
            released = list(self._ready)
            self._ready.clear()
        else:
            released = [self._ready.popleft() for _ in range(limit)]
        events = [event for _, event, _ in released]
        lines = [line for _, _, line in released]
        if self._dialect is None or not self._dialect.has_single_header or not all(lines):
            lines = []
        self._next_ordinal += len(events)
        broken, self._broken = self._broken, []
        broken += source.finish_poll(self._dialect, not self._ready)
        return Batch(events, first, self._position(), broken, lines)

    def resume(self, position: dict[str, int], next_ordinal: int) -> None:
        """Go on behind `position`, as an earlier `Batch` gave it.

        Where the meaning of a line depends on those before it, the source is read from its
        beginning again, and what was handed out is left out.
        """
        self._next_ordinal = next_ordinal
        self._ready.clear()
        if not self._source.seekable:
            self._delivered = Delivered(position)
        again = self._source.resume(position)
        if again.content and self._dialect is not None:
            self._dialect.accept(again.numbers, again.content, wrong=[])

    def pending_bytes(self) -> int:
        """Approximate number of bytes that the next poll would read."""
        return self._source.pending_bytes()

    def close(self) -> None:
        self._source.close()

    def _read(self, limit: int) -> None:
        """Interpret further lines, from several reads perhaps."""
        if self._source.seekable:
            room = limit - len(self._ready)
        else:
            room = self._source.lines_per_release or limit
        while room > 0:
            lines = self._source.read(room)
            if lines.restart:
                self._restart(lines.restart)
            self._broken += lines.problems
            if not lines.content:
                return
            self._interpret(lines)
            room -= len(lines.content)

    def _interpret(self, lines: Lines) -> None:
        numbers, content = lines.numbers, lines.content
        wrong: list[BrokenLine] = []
        used = 0
        while self._dialect is None and self._recognize is not None and used < len(content):
            try:
                self._dialect = self._recognize(content[used])
            except BROKEN as error:
                wrong.append(BrokenLine(numbers[used], problem_of(error)))
                used += 1
        if self._dialect is not None:
            used += self._dialect.accept(numbers[used:], content[used:], wrong)
        for broken in wrong:
            if not self._delivered.was_read(broken.line_number):
                self._broken.append(self._source.named(broken))
        self._source.accept(used)

    def _release(self) -> None:
        """Take what is due from the dialect: all of it where nothing more can come before it."""
        source, dialect = self._source, self._dialect
        if dialect is None:
            return
        if source.over:
            dialect.conclude()
        live = source.caught_up and source.growing and not self._patient
        everything = source.over or (live and source.quiet_seconds >= dialect.patience)
        released = dialect.release(everything=everything, live=live)
        self._ready += self._delivered.others(released)

    def _restart(self, restart: Restart) -> None:
        """The lines that follow are of another content than those before."""
        if restart == "another":
            self._dialect = None
            self._ready.clear()
            self._broken.clear()
        elif self._dialect is not None:
            self._ready += self._dialect.release(everything=True, live=True)
        self._delivered = Delivered()

    def _position(self) -> dict[str, int]:
        held = [released[0] for released in self._ready]
        if self._dialect is not None:
            held.extend(self._dialect.held)
        return self._source.position(held)


def open_lines(
    path: str | Path,
    growing: bool | None = None,
    *,
    search: Callable[[], Path | None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Feed:
    """Open a file of JSON Lines in either dialect, plain or compressed with gzip or Zstandard.

    Args:
        path: The file, which need not exist yet.
        growing: Whether lines may still be added, by a writer that may not have begun; None means
            so unless the name is that of a compressed file.
        search: Finds the file where `path` is only a guess of where its writer will put it.
        clock: Monotonic time in seconds.
    """
    source = FileSource(path, growing, search=search, clock=clock)
    return Feed(source, source.dialect_of)


def open_journal(
    folder: RunFolder,
    *,
    patient: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Feed:
    """Open the journal of a run, in either dialect.

    `headgate exec` has Data Designer write journals of its own: headgate's header, gaps and end
    around that producer's events. `patient` is as for `Feed`.
    """
    if _is_foreign(folder):
        record = read_record(folder)
        name = folder.path.name if record is None else record.name
        source = JournalSource(folder, seekable=False, clock=clock)
        return Feed(source, DataDesignerLines(name, journal=folder.path), patient=patient)
    dialect = OwnJournalLines(folder.path, lambda: run_of_record(folder))
    return Feed(JournalSource(folder, seekable=True, clock=clock), dialect)


def _is_foreign(folder: RunFolder) -> bool:
    """Is the journal in another producer's words, by its header or else by `run.json`?"""
    reader = SegmentReader(folder)
    try:
        lines = reader.lines(1)
        header = decode_line(clean_line(lines[0])) if lines else None
    except BROKEN:
        header = None
    finally:
        reader.close()
    if isinstance(header, JournalHeader):
        return header.dialect != "headgate"
    record = read_record(folder)
    return record is not None and record.producer == "data_designer"
