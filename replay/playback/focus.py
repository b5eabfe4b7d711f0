"""What a page about one thing needs: the life of a task, a call, a list of tasks, or spending."""

from __future__ import annotations

from dataclasses import dataclass

from engine.events import Event
from replay.diagnosis.report.schema import TaskHistory
from replay.state.rows import AttemptRow
from replay.state.spending import SpendingRow


@dataclass(frozen=True, slots=True)
class TaskFocus:
    """One task."""

    task_id: str


@dataclass(frozen=True, slots=True)
class CallFocus:
    """One request attempt."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class TasksFocus:
    """Tasks of a scheduling group at the cursor, of a row, or those that met a failure."""

    group: str | None = None
    row: int | None = None
    failure: tuple[str, str, str] | None = None
    """Request resource, column and error, as in `replay.state.model.Failure`."""


@dataclass(frozen=True, slots=True)
class SpendingFocus:
    """Tokens and money, and what of them came to nothing."""


Focus = TaskFocus | CallFocus | TasksFocus | SpendingFocus


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task in a list; times are run time."""

    task_id: str
    column: str
    row_group: int | None
    row: int | None
    attempt: int
    """Its last execution, from 1."""
    phase: str
    """What it does, or how it ended."""
    began: float | None
    """When it was ready."""
    ended: float | None
    queued: float | None
    """Seconds in the queue before its last lease."""
    error: str | None


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event in a life; `at` is run time."""

    ordinal: int
    at: float
    event: Event


@dataclass(frozen=True, slots=True)
class Focused:
    """What is known of a focus; what is not asked for is empty."""

    focus: Focus
    history: TaskHistory | None = None
    calls: tuple[AttemptRow, ...] = ()
    """Of the task, or the one call."""
    owner: TaskLine | None = None
    """The task whose call it is."""
    events: tuple[EventLine, ...] = ()
    tasks: tuple[TaskLine, ...] = ()
    total: int = 0
    """How many tasks there are; `tasks` may hold fewer."""
    spending: tuple[SpendingRow, ...] = ()
    """By column and model, of the whole run."""
