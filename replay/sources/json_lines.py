"""`JsonLinesFeed`: a JSON Lines file as ordered events, headgate's own or Data Designer's."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from engine.events import Event, RunInfo
from replay.sources.base import Batch, BrokenLine, Liveness
from replay.sources.delivery import Delivered, position_of
from replay.sources.dialects import BROKEN, WATERMARK, Dialect, dialect_of, problem_of
from replay.sources.line_reader import LineReader, is_written
from replay.sources.sanitize import clean_text

FOREIGN_NAME = "scheduler_events.jsonl"
COMPRESSED_SUFFIXES = (".gz", ".zst")
"""Of names; what a file is, its first bytes tell."""
SILENCE = 30.0
WRITER_CHECK = 2.0
SEARCH_EVERY = 0.5


class JsonLinesFeed:
    """A `Feed` of a file of JSON Lines, plain or compressed with gzip or Zstandard.

    `growing`: lines may still be added, by a writer that may not have begun; None means so unless
    the name is that of a compressed file. A file that is not growing is read to its end of now.
    Where no end of the run stands in it, it is `live` as long as a process has it open for
    writing, else `lost`.
    `search` finds the file where `path` is only a guess of where its writer will put it.
    """

    def __init__(
        self,
        path: str | Path,
        growing: bool | None = None,
        *,
        search: Callable[[], Path | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        packed = self.path.suffix in COMPRESSED_SUFFIXES
        self.growing = not packed if growing is None else growing
        self._clock = clock
        self._search = search
        self._next_search = float("-inf")
        self._reader = LineReader(self.path, self.growing, self._restart)
        self._name = _name_of(self.path)
        self._dialect: Dialect | None = None
        self._ready: deque[tuple[int, Event]] = deque()
        self._next_ordinal = 1
        self._broken: list[BrokenLine] = []
        self._notes: list[str] = []
        self._read_to = 0
        self._head = 0
        self._delivered = Delivered()
        self._resumed: dict[str, int] = {}
        """The position to go on behind, until the file is known to be the same up to there."""
        self._caught_up = False
        self._quiet_since = clock()
        self._writer_seen = False
        self._writer_gone = False
        self._next_writer_check = float("-inf")

    @property
    def run(self) -> RunInfo | None:
        return None if self._dialect is None else self._dialect.run

    @property
    def outcome(self) -> str | None:
        if self._dialect is None or self._ready:
            return None
        return self._dialect.outcome

    @property
    def liveness(self) -> Liveness:
        if not self._read_to and (self.growing or not self._settled):
            return "waiting"
        if not self._settled:
            return "live"
        if self.outcome is not None:
            return "ended"
        if self._dialect is not None and self._dialect.followed:
            return "lost"
        gone = self._writer_gone if self.growing else not self._being_written
        return "lost" if gone else "live"

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences about the file, for people."""
        dialect = self._dialect.notes if self._dialect is not None else ()
        silence: tuple[str, ...] = ()
        if self.growing and self._settled and self.outcome is None and self._dialect is not None:
            quiet = self._clock() - self._quiet_since
            if self._writer_gone:
                silence = ("The process that wrote the file is gone.",)
            elif quiet >= SILENCE:
                silence = (f"Nothing was written for {quiet:.0f} s.",)
        problem = self._reader.damage
        damage = (f"{problem[0].upper()}{problem[1:]}.",) if problem else ()
        return (*self._notes, *dialect, *damage, *silence)

    has_end = False
    completed = False
    folder = None

    @property
    def late_events(self) -> int:
        """Events that came too late to be put where their time belongs."""
        return 0 if self._dialect is None else self._dialect.late

    @property
    def holds_back(self) -> bool:
        """Lines that were read wait for earlier ones."""
        return self._dialect is not None and bool(self._dialect.held)

    @property
    def awaited(self) -> str:
        """In words, the file that is not there yet; empty once it is."""
        if self._reader.opened:
            return ""
        what = f"Waiting for {clean_text(str(self.path))}"
        if self.path.name != FOREIGN_NAME:
            return f"{what}."
        return f"{what}: Data Designer writes it under RunConfig(write_scheduler_events=True)."

    def poll(self, limit: int = 10_000) -> Batch:
        if self._search is not None and not self._reader.opened:
            self._look_for_file(self._search)
        while len(self._ready) < limit:
            lines = self._reader.read(limit)
            if lines:
                self._accept(lines)
                self._quiet_since = self._clock()
            self._caught_up = self._caught_up or self._reader.at_end
            self._release()
            if self._caught_up or self._ready:
                break
        self._look_for_writer()
        first = self._next_ordinal
        events = [self._ready.popleft()[1] for _ in range(min(limit, len(self._ready)))]
        self._next_ordinal += len(events)
        found = [*self._reader.problems, *self._broken]
        self._reader.problems.clear()
        self._broken.clear()
        broken = [problem for problem in found if not self._delivered.was_read(problem.line_number)]
        return Batch(events, first, self._position(), broken)

    def resume(self, position: dict[str, int], next_ordinal: int) -> None:
        """Read from the beginning again, and leave out what was delivered."""
        self._delivered = Delivered(position)
        self._resumed = position
        self._next_ordinal = next_ordinal
        self._reader.close()
        self._reader = self._new_reader()

    def pending_bytes(self) -> int:
        """Bytes of the file that are not read yet; 0 where it is compressed."""
        return self._reader.pending_bytes()

    def close(self) -> None:
        self._reader.close()

    @property
    def _settled(self) -> bool:
        """Everything there is has been handed out."""
        if self._ready or not self._caught_up:
            return False
        if self._dialect is not None and self._dialect.held:
            return False
        return self._complete

    @cached_property
    def _being_written(self) -> bool:
        """Of a file that was read to its end once: its writer was still there then."""
        status = self._reader.status
        return status is not None and is_written(status)

    @property
    def _complete(self) -> bool:
        """No line is under way: the run or file ends here, or has been quiet for long enough."""
        if not self._reader.at_end:
            return False
        if self._dialect is not None and self._dialect.complete:
            return True
        patience = self._dialect.patience if self._dialect is not None else WATERMARK
        return not self.growing or self._clock() - self._quiet_since >= patience

    def _accept(self, lines: list[tuple[int, bytes]]) -> None:
        if not self._read_to:
            first = self._reader.first_checksum
            self._head = zlib.crc32(lines[0][1]) if first is None else first
        self._read_to = lines[-1][0]
        if self._resumed and not self._goes_on():
            self._read_anew()
            return
        first = 0
        while self._dialect is None and first < len(lines):
            number, line = lines[first]
            try:
                self._dialect = dialect_of(line, self.path, self._name)
            except BROKEN as error:
                self._broken.append(BrokenLine(number, problem_of(error)))
                first += 1
        if self._dialect is not None:
            self._broken += self._dialect.accept(lines[first:])

    def _goes_on(self) -> bool:
        """Does the file hold, as far as it was read again, what was read before?"""
        position = self._resumed
        if position.get("head", self._head) != self._head:
            return False
        if self._read_to < position.get("read", 0):
            return True
        self._resumed = {}
        return position.get("digest") in (None, self._reader.digest(position["read"]))

    def _read_anew(self) -> None:
        self._notes.append("The file is another one than before: it is read anew.")
        self._resumed = {}
        self._delivered = Delivered()
        self._dialect = None
        self._ready.clear()
        self._broken.clear()
        self._read_to = 0
        self._reader.close()
        self._reader = self._new_reader()

    def _release(self) -> None:
        dialect = self._dialect
        if dialect is None:
            return
        live = self.growing and self._caught_up
        released = dialect.release(everything=self._complete, live=live)
        self._ready += self._delivered.others(released)

    def _restart(self, why: str) -> None:
        """The file begins anew: what is held of its old content goes out first."""
        if why not in self._notes:
            self._notes.append(why)
        if self._dialect is not None:
            self._ready.extend(self._dialect.release(everything=True, live=True))
        self._delivered = Delivered()
        self._read_to = 0

    def _position(self) -> dict[str, int]:
        """The lines read, and as ranges those of them that were not delivered."""
        known = {"head": self._head}
        if self._reader.first_checksum is not None:
            known["digest"] = self._reader.digest(self._read_to)
        held = [number for number, _ in self._ready]
        if self._dialect is not None:
            held.extend(self._dialect.held)
        return {**known, **position_of(self._read_to, held)}

    def _look_for_file(self, search: Callable[[], Path | None]) -> None:
        now = self._clock()
        if now < self._next_search:
            return
        self._next_search = now + SEARCH_EVERY
        found = search()
        if found is not None and found != self.path:
            self.path = found
            self._name = _name_of(found)
            self._reader = self._new_reader()

    def _new_reader(self) -> LineReader:
        remember = "digest" in self._resumed
        return LineReader(self.path, self.growing, self._restart, remember)

    def _look_for_writer(self) -> None:
        """A writer that was seen and is gone proves the end; one never seen proves nothing."""
        now = self._clock()
        if not self.growing or now < self._next_writer_check or not self._reader.opened:
            return
        self._next_writer_check = now + WRITER_CHECK
        status = self._reader.status
        quiet = now - self._quiet_since >= WRITER_CHECK
        if status is None or (self._writer_seen and not quiet):
            return
        if is_written(status):
            self._writer_seen, self._writer_gone = True, False
        else:
            self._writer_gone = self._writer_seen and quiet


def _name_of(path: Path) -> str:
    """A dataset folder lends its name to the file that always has the same one."""
    if path.name.startswith(FOREIGN_NAME):
        return path.resolve().parent.name
    return path.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".jsonl")
