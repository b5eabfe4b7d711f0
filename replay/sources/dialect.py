"""`Dialect`: what the lines of a producer mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.events import Event, JournalEnd, RunInfo
from replay.sources.base import BrokenLine

Released = tuple[int, Event, bytes]
"""Number of a line, its event, and the line itself where it stands as headgate writes it, so that
it may be handed on in place of the event; else empty."""


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
    def has_single_header(self) -> bool:
        """All lines stand under one header, which is `run`: it says all that they leave out."""

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

    def release(self, *, everything: bool, live: bool) -> list[Released]:
        """Events that are due, with the numbers of their lines.

        Args:
            everything: Nothing more comes that belongs before them.
            live: Seconds matter more than the order of what may come late.
        """

    def conclude(self) -> None:
        """No more lines will come to say of which run they are."""
