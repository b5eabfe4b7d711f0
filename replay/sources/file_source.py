"""`FileSource`: the lines of a JSON Lines file, and whether a writer still adds to it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from replay.sources.base import BrokenLine, Liveness
from replay.sources.delivery import Delivered, position_of
from replay.sources.dialect import Dialect
from replay.sources.dialects import dialect_of
from replay.sources.foreign_lines import WATERMARK_SECONDS
from replay.sources.line_reader import LineReader, is_written
from replay.sources.line_source import NO_LINES, Lines, Restart
from replay.sources.sanitize import clean_text

FOREIGN_NAME = "scheduler_events.jsonl"
COMPRESSED_SUFFIXES = (".gz", ".zst")
"""Suffixes of names; the first bytes of a file decide whether it is compressed."""
SILENCE_SECONDS = 30.0
WRITER_CHECK_SECONDS = 2.0
SEARCH_SECONDS = 0.5


class FileSource:
    """A `LineSource` over a file, plain or compressed with gzip or Zstandard.

    A file that is not growing is read to its present end. Where no end of the run stands in it,
    it is `live` as long as a process has it open for writing, else `lost`.
    """

    folder = None
    seekable = False
    lines_per_release = 0
    completed = False

    def __init__(
        self,
        path: str | Path,
        growing: bool | None = None,
        *,
        search: Callable[[], Path | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The arguments are those of `open_lines`."""
        self.path = Path(path)
        compressed = self.path.suffix in COMPRESSED_SUFFIXES
        self.growing = not compressed if growing is None else growing
        self.caught_up = False
        """The end of the file was reached once."""
        self._clock = clock
        self._search = search
        self._next_search = float("-inf")
        self._reader = LineReader(self.path, self.growing, self._note_rewrite)
        self._name = _name_of(self.path)
        self._dialect: Dialect | None = None
        self._drained = True
        self._notes: list[str] = []
        self._lines_read = 0
        self._head = 0
        self._restart: Restart = ""
        self._delivered = Delivered()
        self._resumed: dict[str, int] = {}
        """The position to go on behind, until the file is known to be the same up to there."""
        self._quiet_since = clock()
        self._writer_seen = False
        self._writer_gone = False
        self._next_writer_check = float("-inf")

    @property
    def over(self) -> bool:
        """The file was read to its end, and nobody is believed to write it."""
        return self._reader.at_end and not self.growing

    @property
    def quiet_seconds(self) -> float:
        return self._clock() - self._quiet_since

    @property
    def outcome(self) -> str | None:
        if self._dialect is None or not self._drained:
            return None
        return self._dialect.outcome

    @property
    def liveness(self) -> Liveness:
        if not self._lines_read and (self.growing or not self._settled):
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
        dialect = self._dialect.notes if self._dialect is not None else ()
        silence: tuple[str, ...] = ()
        if self.growing and self._settled and self.outcome is None and self._dialect is not None:
            quiet = self.quiet_seconds
            if self._writer_gone:
                silence = ("The process that wrote the file is gone.",)
            elif quiet >= SILENCE_SECONDS:
                silence = (f"Nothing was written for {quiet:.0f} s.",)
        problem = self._reader.damage
        damage = (f"{problem[0].upper()}{problem[1:]}.",) if problem else ()
        return (*self._notes, *dialect, *damage, *silence)

    @property
    def awaited(self) -> str:
        if self._reader.opened:
            return ""
        sentence = f"Waiting for {clean_text(str(self.path))}"
        if self.path.name != FOREIGN_NAME:
            return f"{sentence}."
        return f"{sentence}: Data Designer writes it under RunConfig(write_scheduler_events=True)."

    def start_poll(self) -> None:
        if self._search is not None and not self._reader.opened:
            self._find_file(self._search)

    def read(self, limit: int) -> Lines:
        lines = self._reader.read(limit)
        problems = [
            problem
            for problem in self._reader.problems
            if not self._delivered.was_read(problem.line_number)
        ]
        self._reader.problems.clear()
        self.caught_up = self.caught_up or self._reader.at_end
        if lines:
            self._quiet_since = self._clock()
            if not self._lines_read:
                first = self._reader.first_checksum
                self._head = zlib.crc32(lines[0][1]) if first is None else first
            self._lines_read = lines[-1][0]
            if self._resumed and not self._is_same_content():
                self._read_anew()
                return NO_LINES._replace(restart="another")
        restart, self._restart = self._restart, ""
        numbers, content = zip(*lines, strict=True) if lines else ((), ())
        return Lines(numbers, content, problems, restart)

    def accept(self, count: int) -> None:
        """Lines may follow the end of a run in a file: nothing ends there."""

    def named(self, broken: BrokenLine) -> BrokenLine:
        return broken

    def finish_poll(self, dialect: Dialect | None, drained: bool) -> list[BrokenLine]:
        self._dialect, self._drained = dialect, drained
        self._check_writer()
        return []

    def position(self, held: Iterable[int]) -> dict[str, int]:
        """The lines read, and as ranges those of them that were not handed out."""
        known = {"head": self._head}
        if self._reader.first_checksum is not None:
            known["digest"] = self._reader.digest(self._lines_read)
        return {**known, **position_of(self._lines_read, held)}

    def resume(self, position: dict[str, int]) -> Lines:
        self._delivered = Delivered(position)
        self._resumed = position
        self._reader.close()
        self._reader = self._new_reader()
        return NO_LINES

    def dialect_of(self, line: bytes) -> Dialect:
        """The dialect by the first good line. Raises an error of `BROKEN` for another line."""
        return dialect_of(line, self.path, self._name)

    def pending_bytes(self) -> int:
        """Bytes that are not read yet; 0 where the file is compressed."""
        return self._reader.pending_bytes()

    def close(self) -> None:
        self._reader.close()

    @property
    def _settled(self) -> bool:
        """Everything there is has been handed out, and no line is under way.

        The latter holds where the run or the file ends here, or has been quiet for long enough.
        """
        dialect = self._dialect
        if not self._drained or not self._reader.at_end or (dialect is not None and dialect.held):
            return False
        if not self.growing or (dialect is not None and dialect.complete):
            return True
        patience = dialect.patience if dialect is not None else WATERMARK_SECONDS
        return self.quiet_seconds >= patience

    @cached_property
    def _being_written(self) -> bool:
        """Whether a file that was read to its end once had its writer still then."""
        status = self._reader.status
        return status is not None and is_written(status)

    def _is_same_content(self) -> bool:
        """Does the file hold, as far as it was read again, what was read before?"""
        position = self._resumed
        if position.get("head", self._head) != self._head:
            return False
        if self._lines_read < position.get("read", 0):
            return True
        self._resumed = {}
        return position.get("digest") in (None, self._reader.digest(position["read"]))

    def _read_anew(self) -> None:
        self._notes.append("The file is another one than before: it is read anew.")
        self._resumed = {}
        self._delivered = Delivered()
        self._restart = ""
        self._lines_read = 0
        self._reader.close()
        self._reader = self._new_reader()

    def _note_rewrite(self, reason: str) -> None:
        """The reader is about to return lines of another content under the same name."""
        if reason not in self._notes:
            self._notes.append(reason)
        self._restart = "rewritten"
        self._delivered = Delivered()
        self._lines_read = 0

    def _find_file(self, search: Callable[[], Path | None]) -> None:
        now = self._clock()
        if now < self._next_search:
            return
        self._next_search = now + SEARCH_SECONDS
        path = search()
        if path is not None and path != self.path:
            self.path = path
            self._name = _name_of(path)
            self._reader = self._new_reader()

    def _new_reader(self) -> LineReader:
        remember = "digest" in self._resumed
        return LineReader(self.path, self.growing, self._note_rewrite, remember)

    def _check_writer(self) -> None:
        """A writer that was seen and is gone proves the end; one never seen proves nothing."""
        now = self._clock()
        if not self.growing or now < self._next_writer_check or not self._reader.opened:
            return
        self._next_writer_check = now + WRITER_CHECK_SECONDS
        status = self._reader.status
        quiet = now - self._quiet_since >= WRITER_CHECK_SECONDS
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
