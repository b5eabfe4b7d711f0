"""What reports ask of a recording; `replay.recording.reader`, a layer above, answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from engine.events import RunInfo
from replay.diagnosis.verdicts import VerdictRow
from replay.sources.base import BrokenLine
from replay.state.model import State
from replay.state.rows import AttemptRow, BlameRow, LeaseRow
from replay.state.spending import SpendingRow


class ReportStatus(Protocol):
    """How far the recording of a run reaches, and how the run ended."""

    @property
    def complete(self) -> bool:
        """Nothing more will come."""

    @property
    def outcome(self) -> str | None:
        """How the run ended; None where no end is known."""

    @property
    def lost(self) -> bool:
        """The producer died without an end of the run."""


class EventBounds(Protocol):
    """First and last event."""

    @property
    def first_ordinal(self) -> int: ...

    @property
    def last_ordinal(self) -> int: ...

    @property
    def t0(self) -> float:
        """Monotonic time of the first event."""

    @property
    def t1(self) -> float:
        """Monotonic time of the last event."""


class HistoryReader(Protocol):
    """What the history of one task needs."""

    def run(self) -> RunInfo: ...

    def bounds(self) -> EventBounds: ...

    def ordinal_at(self, t: float) -> int:
        """Ordinal of the last event up to run time `t`; 0 for none."""

    def state_at(self, ordinal: int) -> State:
        """The state after the event with this ordinal."""

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]:
        """All leases of a task, and the calls within them."""

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        """The blame of the bins `bin0` to `bin1`, both included."""


class ReportReader(Protocol):
    """What the report on a run needs."""

    def run(self) -> RunInfo: ...

    def status(self) -> ReportStatus: ...

    def bounds(self) -> EventBounds: ...

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        """The blame of the bins `bin0` to `bin1`, both included."""

    def verdicts(self, t0: float | None = None, t1: float | None = None) -> list[VerdictRow]:
        """The verdicts that overlap the time from `t0` to `t1`; None leaves an end open."""

    def broken_lines(self) -> Sequence[BrokenLine]:
        """What could not be read of the source."""

    def spending(self) -> list[SpendingRow]: ...

    def ordinal_at(self, t: float) -> int:
        """Ordinal of the last event up to run time `t`; 0 for none."""

    def state_at(self, ordinal: int) -> State:
        """The state after the event with this ordinal."""

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]:
        """All leases of a task, and the calls within them."""
