"""`LineSource`: numbered lines of one run, and the evidence of whether more of them will come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from engine.events.run_folder import RunFolder
from replay.sources.base import BrokenLine, Liveness
from replay.sources.dialect import Dialect

Restart = Literal["", "rewritten", "another"]
"""`rewritten`: the content begins anew while it is followed. `another`: it is not the content that
an earlier reader read, so nothing of its position holds."""


class Lines(NamedTuple):
    """Whole lines as they stand in their source, each with its number there, counted from 1."""

    numbers: Sequence[int]
    content: Sequence[bytes]
    problems: Sequence[BrokenLine] = ()
    """Problems met on the way to these lines."""
    restart: Restart = ""
    """What happened to the content before these lines."""


NO_LINES = Lines((), ())


class LineSource(Protocol):
    """Where the lines of a run come from. Never waits; one reader owns it."""

    @property
    def path(self) -> Path:
        """The file or folder that is read."""

    @property
    def folder(self) -> RunFolder | None:
        """The run folder that is read; None for a file."""

    @property
    def growing(self) -> bool:
        """Lines may still be added."""

    @property
    def seekable(self) -> bool:
        """Reading resumes behind the last line, not from the beginning."""

    @property
    def lines_per_release(self) -> int:
        """Number of lines to read before those in order are handed out; 0 leaves it to the poll."""

    @property
    def caught_up(self) -> bool:
        """All lines that there are now were read."""

    @property
    def over(self) -> bool:
        """All lines were read and no more will come."""

    @property
    def quiet_seconds(self) -> float:
        """Seconds since the last line was read."""

    @property
    def liveness(self) -> Liveness:
        """Whether the run goes on, as far as the source can tell."""

    @property
    def outcome(self) -> str | None:
        """How the run ended, as its lines say; None where they do not."""

    @property
    def completed(self) -> bool:
        """The lines hold the end of the run."""

    @property
    def awaited(self) -> str:
        """What is still waited for, as a sentence; empty for nothing."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of this source, a sentence each."""

    def start_poll(self) -> None:
        """Look for the source and its writer, before anything is read."""

    def read(self, limit: int) -> Lines:
        """At most `limit` further lines; none if there are none now."""

    def accept(self, count: int) -> None:
        """The first `count` of the lines just read are used. Fewer than all: the run ends there."""

    def named(self, broken: BrokenLine) -> BrokenLine:
        """`broken`, one of the lines just read, with the number and file for people."""

    def finish_poll(self, dialect: Dialect | None, drained: bool) -> list[BrokenLine]:
        """Conclude the liveness from the evidence and from what the lines say.

        Args:
            dialect: None until a line has told whose words they are.
            drained: All events so far were handed out.

        Returns:
            The problems found apart from the lines just read.
        """

    def position(self, held: Iterable[int]) -> dict[str, int]:
        """Where to resume; lines with the numbers `held` were read and not handed out."""

    def resume(self, position: dict[str, int]) -> Lines:
        """Go on behind `position`. Returns lines to interpret again before those that follow."""

    def pending_bytes(self) -> int:
        """Approximate number of bytes that the next poll would read."""

    def close(self) -> None: ...
