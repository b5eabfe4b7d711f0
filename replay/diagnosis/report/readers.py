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
    def complete(self) -> bool: ...

    @property
    def outcome(self) -> str | None: ...

    @property
    def lost(self) -> bool: ...


class EventBounds(Protocol):
    """First and last event."""

    @property
    def first_ordinal(self) -> int: ...

    @property
    def last_ordinal(self) -> int: ...

    @property
    def t0(self) -> float: ...

    @property
    def t1(self) -> float: ...


class HistoryReader(Protocol):
    """What the history of one task needs."""

    def run(self) -> RunInfo: ...

    def bounds(self) -> EventBounds: ...

    def ordinal_at(self, t: float) -> int: ...

    def state_at(self, ordinal: int) -> State: ...

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]: ...

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]: ...


class ReportReader(Protocol):
    """What the report on a run needs."""

    def run(self) -> RunInfo: ...

    def status(self) -> ReportStatus: ...

    def bounds(self) -> EventBounds: ...

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]: ...

    def verdicts(self, t0: float | None = None, t1: float | None = None) -> list[VerdictRow]: ...

    def broken_lines(self) -> Sequence[BrokenLine]: ...

    def spending(self) -> list[SpendingRow]: ...

    def ordinal_at(self, t: float) -> int: ...

    def state_at(self, ordinal: int) -> State: ...

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]: ...
