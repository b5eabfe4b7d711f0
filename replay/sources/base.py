"""What readers of sources and their callers share: batches of events, liveness, problems."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from engine.events import Event, RunInfo

Liveness = Literal["waiting", "live", "unknown", "ended", "lost"]
"""`waiting`: nothing to read yet. `live`: its producer holds the lock or the file still grows.
`ended`: the producer finished cleanly and all is read. `lost`: the producer is gone without an end,
and all it left is read. `unknown`: all that is there is read, there is no end, and whether the
producer lives can't be told, as of a copy."""


class SourceError(Exception):
    """A user's mistake or a damaged source; `str(error)` is one clear sentence for a person.

    `exit_code` is 2 for misuse (no such file, not a recording, newer schema) and 4 for damage.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


MENDED = " (the rest of the line was read)"
"""The problem of a line ends with this where its events were read nevertheless."""


class BrokenLine(msgspec.Struct, frozen=True):
    """A line that could not be read, or not as it stands: counted and shown."""

    line_number: int
    problem: str

    @property
    def skipped(self) -> bool:
        """Nothing of the line was read."""
        return not self.problem.endswith(MENDED)


class Batch(msgspec.Struct):
    """What one poll brought. Events are in order; ordinals run on from `first_ordinal`."""

    events: list[Event]
    first_ordinal: int
    """Ordinal of `events[0]`; where there are none, of the next event to come."""
    position: dict[str, int]
    """Where to resume after these events, opaque to everyone but the feed itself."""
    broken: list[BrokenLine] = []
    lines: list[bytes] = []
    """The line of each event, all as headgate writes them under the header of the run; empty where
    one is not."""


class EventSource(Protocol):
    """Events of one run, read without blocking: what an import needs."""

    @property
    def run(self) -> RunInfo | None:
        """None until the producer has said what it runs; may gain facts as they are learnt."""

    @property
    def liveness(self) -> Liveness: ...

    @property
    def outcome(self) -> str | None:
        """`success`, `failed`, `cancelled`; None while running or if it was lost."""

    def poll(self, limit: int = 10_000) -> Batch:
        """At most `limit` new events, none if there are none now. Never waits."""

    def resume(self, position: dict[str, int], next_ordinal: int) -> None:
        """Go on behind `position`, as an earlier `Batch` gave it."""
