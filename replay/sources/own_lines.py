"""headgate's own lines, in its journals and in files of any origin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.events import (
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
from replay.sources.base import MENDED, BrokenLine
from replay.sources.broken_lines import BROKEN, check_schema, problem_of
from replay.sources.dialect import Released
from replay.sources.sanitize import clean_line, clean_text, is_plain, mended_line
from replay.sources.times import PlausibleTimes

JOURNAL_PROBLEM_LENGTH = 200
_COMPLETED = "scheduler_job_completed"
_SPACES = (b" ", b"\t", b"\r")


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
        self.has_single_header = False
        self._ready: list[Released] = []
        self._header = HeaderFacts(assumed)

    @property
    def complete(self) -> bool:
        return self.end is not None

    def accept(
        self, numbers: Sequence[int], lines: Sequence[bytes], wrong: list[BrokenLine]
    ) -> int:
        complete, append = self._header.complete, self._ready.append
        decoded, compact = self._own.read(lines)
        as_written = compact and self.has_single_header
        for number, read, line in zip(numbers, decoded, lines, strict=True):
            kind = type(read)
            if kind is SchedulerEvent or kind is RequestEvent:
                append((number, complete(read), line if as_written else b""))  # type: ignore[arg-type]
                continue
            if kind is MendedLine:
                wrong.append(BrokenLine(number, read.problem))  # type: ignore[union-attr]
                read = read.line  # type: ignore[union-attr]
                kind = type(read)
            if kind is SchedulerEvent or kind is RequestEvent:
                append((number, complete(read), b""))  # type: ignore[arg-type]
            elif isinstance(read, JournalHeader):
                check_schema(read, self._name)
                self.has_single_header = self.run is None or (
                    self.has_single_header and self.run == read.run
                )
                as_written = compact and self.has_single_header
                self.run = read.run
                self._header = HeaderFacts(read.run)
                complete = self._header.complete
            elif isinstance(read, JournalEnd):
                if self._reached_end(read):
                    return numbers.index(number)
            elif isinstance(read, Exception):
                wrong.append(BrokenLine(number, self._problem_of(read)))
        return len(lines)

    def release(self, *, everything: bool, live: bool) -> list[Released]:
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

    def release(self, *, everything: bool, live: bool) -> list[Released]:
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
        for _, event, _ in self._ready[self._searched :]:
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

    def release(self, *, everything: bool, live: bool) -> list[Released]:
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


class MendedLine(NamedTuple):
    """A line that could not be read as it stands."""

    line: JournalLine
    problem: str


class OwnLines:
    """headgate's own lines of one run as they are read; whether they belong there is checked."""

    def __init__(self) -> None:
        self._times = PlausibleTimes()

    def read(
        self, lines: Sequence[bytes]
    ) -> tuple[list[JournalLine | MendedLine | Exception], bool]:
        """Lines that are not cleaned yet: each as read, or what was wrong with it.

        Returns:
            As many results as lines, and whether all are as compact as headgate writes them.
        """
        self._times.learn(lines)
        together = b"\n".join(lines)
        try:
            if is_plain(together):
                return self._checked(decode_whole(lines)), not any(
                    space in together for space in _SPACES
                )
        except BROKEN:
            pass
        return [self._tried(line) for line in lines], False

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
