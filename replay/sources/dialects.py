"""What lines mean, by producer: headgate's own, or Data Designer's put in order and mapped."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import msgspec

from engine.events import (
    SCHEMA_VERSION,
    Event,
    HeaderFacts,
    JournalEnd,
    JournalHeader,
    JournalLine,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
    decode_line,
    decode_whole,
)
from replay.sources.base import MENDED, BrokenLine, SourceError
from replay.sources.data_designer.events import EventMapper
from replay.sources.data_designer.run import STARTED, RunFacts
from replay.sources.data_designer.wire import Line, decode
from replay.sources.line_reader import LineReader, count_in_file
from replay.sources.sanitize import BYTE_ORDER_MARK, clean_line, clean_text, is_plain, mended_line
from replay.sources.times import PlausibleTimes

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
HORIZON_SECONDS = 60.0
WINDOW = 50_000
SCHEDULER_WINDOW = 1_000
"""Of a file that is read as a whole, the lines of so many seconds, but at most so many, are put in
order of time together. A scheduler stream alone is written in order; waits come when they end."""
CLEANED_TOGETHER = 32
"""Lines that are looked at together for whether they are plain: so many stay in the cache."""
SORT_EVERY_SECONDS = 5.0
"""Seconds of such lines that are put in order together, not each by itself."""
WATERMARK_SECONDS = 0.5
"""Seconds for which a growing file's events wait for earlier ones."""
START_PATIENCE_SECONDS = 5.0
"""Seconds of silence after which a run is shown whose start was not seen."""
PROBLEM_LENGTH = 160
JOURNAL_PROBLEM_LENGTH = 200
_AROUND = (b'{"stream":"header"', b'{"stream":"end"')
"""How headgate's own lines begin in a journal that another producer writes."""
_COMPLETED = "scheduler_job_completed"

Producer = Literal["headgate", "data_designer"]


class Dialect(Protocol):
    """What a producer's lines mean."""

    outcome: str | None

    @property
    def end(self) -> JournalEnd | None:
        """The end line of a journal, once it was reached."""

    @property
    def patience(self) -> float:
        """Seconds of silence after which what is held goes out."""

    @property
    def run(self) -> RunInfo | None: ...

    @property
    def held(self) -> list[int]:
        """Numbers of the lines that were accepted and not released yet."""

    @property
    def late(self) -> int:
        """Number of events released after events of a later time."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def complete(self) -> bool:
        """The last line of the run was accepted."""

    @property
    def followed(self) -> bool:
        """Another run began in the same file: nothing more will come of this one."""

    def accept(
        self, numbers: Sequence[int], lines: Sequence[bytes], wrong: list[BrokenLine]
    ) -> int:
        """Interpret numbered lines.

        Args:
            numbers: The number of each line.
            lines: The lines, not cleaned yet.
            wrong: Takes those that are no lines, or could not be interpreted as they are.

        Returns:
            The number of lines used: all, but for the end line of a journal and what follows it.
            Whoever resumes must read an end line again, so it counts as not used.
        """

    def release(self, *, everything: bool, live: bool) -> list[tuple[int, Event]]:
        """Events that are due, with the numbers of their lines.

        Args:
            everything: Nothing more comes that belongs before them.
            live: Seconds matter more than the order of what may come late.
        """

    def conclude(self) -> None:
        """No more lines will come to say of which run they are."""


class _HeadgateLines:
    """headgate's own lines, already in order: whole blocks are decoded at once."""

    patience = 0.0
    late = 0
    followed = False
    held: list[int] = []  # noqa: RUF012
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, assumed: RunInfo) -> None:
        """`name` is that of the file or folder; `assumed` is the run where no header says so."""
        self.run: RunInfo | None = None
        self.outcome: str | None = None
        self.end: JournalEnd | None = None
        self._name = name
        self._own = OwnLines()
        self._ready: list[tuple[int, Event]] = []
        self._header = HeaderFacts(assumed)

    @property
    def complete(self) -> bool:
        return self.end is not None

    def accept(
        self, numbers: Sequence[int], lines: Sequence[bytes], wrong: list[BrokenLine]
    ) -> int:
        complete, append = self._header.complete, self._ready.append
        for number, read in zip(numbers, self._own.read(lines), strict=True):
            kind = type(read)
            if kind is MendedLine:
                wrong.append(BrokenLine(number, read.problem))  # type: ignore[union-attr]
                read = read.line  # type: ignore[union-attr]
                kind = type(read)
            if kind is SchedulerEvent or kind is RequestEvent:
                append((number, complete(read)))  # type: ignore[arg-type]
            elif isinstance(read, JournalHeader):
                check_schema(read, self._name)
                self.run = read.run
                self._header = HeaderFacts(read.run)
                complete = self._header.complete
            elif isinstance(read, JournalEnd):
                if self._reached_end(read):
                    return numbers.index(number)
            elif isinstance(read, Exception):
                wrong.append(BrokenLine(number, self._problem_of(read)))
        return len(lines)

    def release(self, *, everything: bool, live: bool) -> list[tuple[int, Event]]:
        ready, self._ready = self._ready, []
        return ready

    def conclude(self) -> None:
        return

    def _reached_end(self, end: JournalEnd) -> bool:
        """True if nothing is read behind it."""
        raise NotImplementedError

    def _problem_of(self, error: Exception) -> str:
        raise NotImplementedError


class OwnFileLines(_HeadgateLines):
    """headgate's own lines in a file of any origin. A header is optional, and so is an end line."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(str(path), RunInfo(run_id=name, name=name))
        self._run_name = name
        self._searched = 0

    def release(self, *, everything: bool, live: bool) -> list[tuple[int, Event]]:
        self._find_outcome()
        self._searched = 0
        ready = super().release(everything=everything, live=live)
        if ready and self.run is None:
            self.run = self._without_header(ready[0][1])
        return ready

    def _reached_end(self, end: JournalEnd) -> bool:
        self._find_outcome()
        self.end, self.outcome = end, end.outcome
        return False

    def _find_outcome(self) -> None:
        """The outcome as the events since the last search say, up to the newest."""
        for _, event in self._ready[self._searched :]:
            if event.event_kind == _COMPLETED and type(event) is SchedulerEvent:
                self.outcome = event.reason_or_result or "success"
        self._searched = len(self._ready)

    def _problem_of(self, error: Exception) -> str:
        return problem_of(error)

    def _without_header(self, first: Event) -> RunInfo:
        correlation = first.captured_correlation
        return RunInfo(
            run_id=(correlation.run_id if correlation else "") or self._run_name,
            name=self._run_name,
            monotonic_start=first.captured_at_monotonic,
            lacks=("header (columns, limits)", "wall clock"),
        )


class OwnJournalLines(_HeadgateLines):
    """headgate's own lines in its own journal: only the end line proves an end, and is the last."""

    def __init__(self, folder: Path, run_of_record: Callable[[], RunInfo | None]) -> None:
        """`run_of_record` gives what is known of a run whose header can't be read."""
        nameless = RunInfo(run_id="", name=folder.name)
        super().__init__(str(folder), run_of_record() or nameless)
        self._run_of_record = run_of_record
        self._nameless = nameless

    def release(self, *, everything: bool, live: bool) -> list[tuple[int, Event]]:
        ready = super().release(everything=everything, live=live)
        if ready and self.run is None:
            self.run = self._run_of_record() or self._nameless
        return ready

    def conclude(self) -> None:
        if self.run is None:
            self.run = self._run_of_record()

    def _reached_end(self, end: JournalEnd) -> bool:
        self.end = end
        return True

    def _problem_of(self, error: Exception) -> str:
        if not isinstance(error, msgspec.DecodeError):
            return problem_of(error)
        invalid = isinstance(error, msgspec.ValidationError)
        kind = "not a line of a journal" if invalid else "broken JSON"
        return clean_text(f"{kind}: {error}"[:JOURNAL_PROBLEM_LENGTH])


_Waiting = tuple[float, bool, int, int, Line]
"""In their order: time, does it belong to requests, sequence, number in the file; and the line."""


class DataDesignerLines:
    """Data Designer's lines: put in order of time, then mapped."""

    def __init__(self, name: str, run_id: str | None = None, journal: Path | None = None) -> None:
        """
        Args:
            name: Of a run that does not name itself.
            run_id: Of the run to read, where a file holds several.
            journal: The run folder, where headgate's header and end stand around the lines.
        """
        self.outcome: str | None = None
        self.end: JournalEnd | None = None
        self.late = 0
        self._journal = journal
        self._facts = RunFacts(name, run_id)
        self._mapper = EventMapper(self._facts.rows)
        self._begun = False
        self._times = PlausibleTimes()
        self._waiting: list[_Waiting] = []
        self._newest = float("-inf")
        self._released = float("-inf")
        self._completed = False

    @property
    def patience(self) -> float:
        return WATERMARK_SECONDS if self._facts.started else START_PATIENCE_SECONDS

    @property
    def run(self) -> RunInfo | None:
        known = self._facts.started or self._released > float("-inf")
        return self._facts.run if known else None

    @property
    def held(self) -> list[int]:
        return list(map(itemgetter(3), self._waiting))

    @property
    def notes(self) -> tuple[str, ...]:
        others = self._facts.other_runs
        if not others:
            return ()
        if self._facts.followed:
            return ("Another run has begun in this file: open it again to see that one.",)
        return (f"The file holds {len(others) + 1} runs: this is the last one.",)

    @property
    def complete(self) -> bool:
        return self._completed and not self._facts.has_requests

    @property
    def followed(self) -> bool:
        return self._facts.followed

    def accept(
        self, numbers: Sequence[int], lines: Sequence[bytes], wrong: list[BrokenLine]
    ) -> int:
        self._times.learn(lines)
        for start in range(0, len(lines), CLEANED_TOGETHER):
            some = lines[start : start + CLEANED_TOGETHER]
            plain = is_plain(b"\n".join(some))
            for index, line in enumerate(some, start):
                number = numbers[index]
                if self._journal is not None and line.startswith(_AROUND):
                    self._accept_around(number, line, self._journal, wrong)
                    if self.end is not None:
                        return index
                    continue
                try:
                    self._accept(number, decode(line if plain else clean_line(line)))
                except BROKEN as error:
                    wrong += self._accept_mended(number, line, error)
        return len(lines)

    def _accept_around(
        self, number: int, line: bytes, journal: Path, wrong: list[BrokenLine]
    ) -> None:
        """A header or an end line of headgate's."""
        try:
            read = decode_line(clean_line(line))
        except BROKEN as error:
            wrong.append(BrokenLine(number, problem_of(error)))
            return
        if isinstance(read, JournalEnd):
            self.end = read
        elif isinstance(read, JournalHeader):
            check_schema(read, str(journal))
            if not self._begun:
                self._begun = True
                self._facts = RunFacts(read.run.name, told=read.run)
                self._mapper = EventMapper(self._facts.rows)
                if read.run.monotonic_start:  # 0 where it is not known
                    self._times.learn_start(read.run.monotonic_start)

    def _accept_mended(self, number: int, line: bytes, error: Exception) -> list[BrokenLine]:
        mended = mended_line(line)
        if mended is not None:
            try:
                self._accept(number, decode(mended.line))
            except BROKEN as still:
                error = still
            else:
                return [BrokenLine(number, mended.losses + MENDED)] if mended.losses else []
        return [BrokenLine(number, problem_of(error))]

    def _accept(self, number: int, decoded: Line) -> None:
        at = decoded.captured_at_monotonic
        self._times.check(at)
        self._begun = True
        if not self._facts.learn(decoded):
            return
        if decoded.event_kind == _COMPLETED:
            self._completed = True
        if at > self._newest:
            self._newest = at
        self._waiting.append((at, decoded.is_request, decoded.sequence, number, decoded))

    def release(self, *, everything: bool, live: bool) -> list[tuple[int, Event]]:
        waiting = self._waiting
        everything = everything or self.complete
        live = live and self._facts.started
        window = WINDOW if self._facts.has_requests else SCHEDULER_WINDOW
        before = self._newest - (WATERMARK_SECONDS if live else HORIZON_SECONDS)
        overdue = bool(waiting) and waiting[0][0] <= before - SORT_EVERY_SECONDS
        if not waiting or not (everything or live or overdue or len(waiting) > window):
            return []
        waiting.sort()
        if everything:
            due = len(waiting)
        else:
            due = bisect_right(waiting, before, key=itemgetter(0))
            due = due if live else max(due, len(waiting) - window)
        released = []
        map_line = self._mapper.map
        for at, _, _, number, line in waiting[:due]:
            late = at < self._released
            if late:
                self.late += 1
            else:
                self._released = at
            event = map_line(line, late=late, live=live)
            if line.event_kind == _COMPLETED and isinstance(event, SchedulerEvent):
                self.outcome = event.reason_or_result
            released.append((number, event))
        del waiting[:due]
        return released

    def conclude(self) -> None:
        return


def check_schema(header: JournalHeader, name: str) -> None:
    """Raises `SourceError` where the lines of a file or folder are newer than this reader."""
    if header.run.schema_version > SCHEMA_VERSION:
        raise SourceError(
            f"{clean_text(name)} was written by a newer headgate (schema "
            f"{header.run.schema_version}; this one reads up to {SCHEMA_VERSION})."
        )


class MendedLine(NamedTuple):
    """A line that could not be read as it stands."""

    line: JournalLine
    problem: str


class OwnLines:
    """headgate's own lines of one run as they are read; whether they belong there is checked."""

    def __init__(self) -> None:
        self._times = PlausibleTimes()

    def read(self, lines: Sequence[bytes]) -> list[JournalLine | MendedLine | Exception]:
        """Lines that are not cleaned yet: each as read, or what was wrong with it."""
        self._times.learn(lines)
        try:
            if is_plain(b"\n".join(lines)):
                return self._checked(decode_whole(lines))
        except BROKEN:
            pass
        return [self._tried(line) for line in lines]

    def _checked(self, read: list[JournalLine]) -> list[JournalLine | MendedLine | Exception]:
        """Raises `msgspec.ValidationError` where the time of one is none of this run."""
        earliest, latest = self._times.earliest, self._times.latest
        for line in read:
            if type(line) is not JournalHeader and not (
                earliest <= line.captured_at_monotonic <= latest  # type: ignore[union-attr]
            ):
                self._times.check(line.captured_at_monotonic)  # type: ignore[union-attr]
        return [*read]

    def _tried(self, line: bytes) -> JournalLine | MendedLine | Exception:
        try:
            return self._check(decode_line(clean_line(line)))
        except BROKEN as error:
            mended = mended_line(line)
            if mended is None:
                return error
        try:
            read = self._check(decode_line(mended.line))
        except BROKEN as error:
            return error
        return MendedLine(read, mended.losses + MENDED) if mended.losses else read

    def _check(self, line: JournalLine) -> JournalLine:
        if not isinstance(line, JournalHeader):
            self._times.check(line.captured_at_monotonic)
        return line


def problem_of(error: Exception) -> str:
    """What is wrong with a line, for people."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return clean_text(str(error)[:PROBLEM_LENGTH])


class _Peek(msgspec.Struct):
    stream: str | None = None
    event_kind: str | None = None


def producer_of(line: bytes) -> Producer | None:
    """Whose line this is, by its fields; None where it is no line of a recording."""
    try:
        peek = msgspec.json.decode(line.removeprefix(BYTE_ORDER_MARK), type=_Peek)
    except BROKEN:
        mended = mended_line(line)
        if mended is None:
            return None
        try:
            peek = msgspec.json.decode(mended.line, type=_Peek)
        except BROKEN:
            return None
    if peek.stream is not None:
        return "headgate"
    return "data_designer" if peek.event_kind is not None else None


def last_run_id(path: Path) -> str | None:
    """The id of the last run in a file of several of Data Designer; None for one or none."""
    needle = f'"{STARTED}"'.encode()
    if count_in_file(path, needle, 2) < 2:
        return None
    found = None
    reader = LineReader(path, growing=False, on_restart=lambda why: None)
    while not reader.at_end:
        for _, line in reader.read(1_000):
            if needle in line:
                try:
                    correlation = decode(line).captured_correlation
                except BROKEN:
                    continue
                found = correlation.run_id if correlation is not None else found
    reader.close()
    return found


def dialect_of(line: bytes, path: Path, name: str) -> Dialect:
    """The dialect of a file by its first good line; `name` is for a run that has none.

    Raises `msgspec.ValidationError` where the line is of no recording.
    """
    producer = producer_of(line)
    if producer is None:
        raise msgspec.ValidationError("neither an event of headgate nor of Data Designer")
    if producer == "headgate":
        return OwnFileLines(path, name)
    return DataDesignerLines(name, last_run_id(path))
