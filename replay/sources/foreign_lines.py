"""`DataDesignerLines`: Data Designer's lines, put in order of time and mapped."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from engine.events import JournalEnd, JournalHeader, RunInfo, SchedulerEvent, decode_line
from replay.sources.base import MENDED, BrokenLine
from replay.sources.broken_lines import BROKEN, check_schema, problem_of
from replay.sources.data_designer.events import EventMapper
from replay.sources.data_designer.run import LearnedRun
from replay.sources.data_designer.wire import WireLine, decode
from replay.sources.dialect import Released
from replay.sources.sanitize import clean_line, is_plain, mended_line
from replay.sources.times import PlausibleTimes

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
_AROUND = (b'{"stream":"header"', b'{"stream":"end"')
"""How headgate's own lines begin in a journal that another producer writes."""
_COMPLETED = "scheduler_job_completed"

_Waiting = tuple[float, bool, int, int, WireLine]
"""In their order: time, does it belong to requests, sequence, number in the file; and the line."""


class DataDesignerLines:
    """Data Designer's lines: put in order of time, then mapped."""

    has_single_header = False

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
        self._facts = LearnedRun(name, run_id)
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
                self._facts = LearnedRun(read.run.name, announced=read.run)
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

    def _accept(self, number: int, decoded: WireLine) -> None:
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

    def release(self, *, everything: bool, live: bool) -> list[Released]:
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
        released: list[Released] = []
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
            released.append((number, event, b""))
        del waiting[:due]
        return released

    def conclude(self) -> None:
        return
