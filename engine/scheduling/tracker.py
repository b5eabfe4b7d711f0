"""`CompletionTracker`: which cells are dependency-ready?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.rows.admission import RowGroupSpec
from engine.scheduling.types import TaskPayload, TaskType

_PENDING, _READY, _HANDED_OUT, _CLOSED = range(4)


class TrackedColumn(Protocol):
    """What the tracker has to know of a column."""

    @property
    def name(self) -> str: ...
    @property
    def task_type(self) -> TaskType: ...
    @property
    def depends_on(self) -> tuple[str, ...]:
        """Names of the columns whose values it needs."""


class RestoredRows(Protocol):
    """What an earlier part of the run has made of a row group."""

    def has(self, row: int, column: str) -> bool:
        """Whether the cell was made in an earlier part of the run."""

    def is_dropped(self, row: int) -> bool:
        """Whether the row was given up in an earlier part of the run."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Effect of a drop: ids of tasks that must not start any more, and tasks that became ready."""

    cancelled: tuple[str, ...]
    ready: tuple[TaskPayload, ...]


class _Cells:
    """The tasks of one column in one row group: one per row, or one at all for a batch.

    `missing` counts what each task still waits for, `state` what became of it.
    """

    __slots__ = ("missing", "open", "state")

    def __init__(self, tasks: int, missing: int) -> None:
        self.missing = [missing] * tasks
        self.state = bytearray(tasks)
        self.open = tasks


class _RowGroup:
    __slots__ = ("cells", "dropped", "open", "spec")

    def __init__(self, spec: RowGroupSpec) -> None:
        self.spec = spec
        self.cells: dict[str, _Cells] = {}
        self.dropped: set[int] = set()
        self.open = 0
        """Tasks that are neither complete nor cancelled."""


class CompletionTracker:
    """Readiness over the column DAG, by row group. A completion costs O(dependants).

    A ready task is returned by `ready_frontier` until `mark_enqueued` acknowledges it. A batch
    waits for every surviving cell of its cell columns; a cell waits for its batch columns.

    Raises:
        ValueError: A column depends on an unknown one. Cycles are the caller's to exclude.
    """

    def __init__(self, columns: Sequence[TrackedColumn]) -> None:
        self._columns = {column.name: column for column in columns}
        self._dependants: dict[str, list[TrackedColumn]] = {column.name: [] for column in columns}
        for column in columns:
            for name in column.depends_on:
                if name not in self._columns:
                    raise ValueError(f"column {column.name!r} depends on unknown {name!r}")
                self._dependants[name].append(column)
        self._groups: dict[int, _RowGroup] = {}
        self._frontier: dict[str, TaskPayload] = {}
        self._handed_out: dict[str, TaskPayload] = {}

    def add_row_group(
        self, spec: RowGroupSpec, restored: RestoredRows | None = None
    ) -> tuple[TaskPayload, ...]:
        """Start following a row group, of which some may be made already; returns its tasks that
        are ready at once."""
        group = self._groups[spec.index] = _RowGroup(spec)
        for column in self._columns.values():
            tasks = spec.rows if column.task_type == "cell" else 1
            missing = 0
            for name in column.depends_on:
                fan_in = column.task_type == "batch" and self._columns[name].task_type == "cell"
                missing += spec.rows if fan_in else 1
            group.cells[column.name] = _Cells(tasks, missing)
            group.open += tasks
        if restored is not None:
            self._restore(group, restored)
        ready: list[TaskPayload] = []
        for column in self._columns.values():
            cells = group.cells[column.name]
            for slot, missing in enumerate(cells.missing):
                if not missing and cells.state[slot] == _PENDING:
                    ready.append(self._make_ready(group, column, slot))
        return tuple(ready)

    def _restore(self, group: _RowGroup, restored: RestoredRows) -> None:
        """Close what is made or dropped, and count it for what depends on it."""
        spec = group.spec
        group.dropped = {row for row in spec.row_range() if restored.is_dropped(row)}
        all_dropped = len(group.dropped) == spec.rows
        for column in self._columns.values():
            name = column.name
            if column.task_type == "cell":
                closed = [
                    row - spec.first_row
                    for row in spec.row_range()
                    if row in group.dropped or restored.has(row, name)
                ]
            else:
                kept = (row for row in spec.row_range() if row not in group.dropped)
                closed = [0] if all_dropped or all(restored.has(r, name) for r in kept) else []
            for slot in closed:
                self._close(group, group.cells[name], slot)
            for dependant in self._dependants[name]:
                missing = group.cells[dependant.name].missing
                if column.task_type == "cell" and dependant.task_type == "cell":
                    for slot in closed:
                        missing[slot] -= 1
                elif closed:
                    below = range(len(missing)) if column.task_type == "batch" else (0,)
                    for slot in below:
                        missing[slot] -= len(closed)

    def forget_row_group(self, index: int) -> None:
        """Stop following a finished row group."""
        del self._groups[index]

    def ready_frontier(self) -> tuple[TaskPayload, ...]:
        """Ready tasks that are not acknowledged yet, oldest first."""
        return tuple(self._frontier.values())

    @property
    def ready_count(self) -> int:
        """Number of tasks that are ready and not handed out yet."""
        return len(self._frontier)

    def mark_enqueued(self, task_ids: Iterable[str]) -> None:
        """The queue has taken over these tasks of the frontier."""
        for task_id in task_ids:
            payload = self._frontier.pop(task_id)
            self._handed_out[task_id] = payload
            _, cells, slot = self._locate(payload)
            cells.state[slot] = _HANDED_OUT

    def mark_ready_again(self, task_id: str) -> TaskPayload | None:
        """Put a task that failed retryably back on the frontier; None where it was cancelled."""
        payload = self._handed_out.pop(task_id, None)
        if payload is None:
            return None
        _, cells, slot = self._locate(payload)
        cells.state[slot] = _READY
        self._frontier[task_id] = payload
        return payload

    def mark_complete(self, task_id: str) -> tuple[TaskPayload, ...]:
        """Returns the tasks that became ready; none if the task was cancelled meanwhile."""
        payload = self._handed_out.pop(task_id, None)
        if payload is None:
            return ()
        group, cells, slot = self._locate(payload)
        self._close(group, cells, slot)
        ready: list[TaskPayload] = []
        for dependant in self._dependants[payload.column]:
            if payload.task_type == "cell":
                slot_below = slot if dependant.task_type == "cell" else 0
                self._satisfy(group, dependant, slot_below, ready)
            else:
                below = len(group.cells[dependant.name].state)
                for row_slot in range(below):
                    self._satisfy(group, dependant, row_slot, ready)
        return tuple(ready)

    def drop_rows(self, row_group: int, rows: Iterable[int]) -> Dropped:
        """Drop rows: cancel their open cells, and let batches go on without them.

        If no row of the group is left, its open batches are cancelled too. `Dropped.cancelled`
        includes tasks that were handed out: the caller knows which of them run, and lets them end.
        """
        group = self._groups[row_group]
        cancelled: list[str] = []
        ready: list[TaskPayload] = []
        for row in rows:
            if row in group.dropped:
                continue
            group.dropped.add(row)
            slot = row - group.spec.first_row
            for column in self._columns.values():
                if column.task_type != "cell":
                    continue
                cells = group.cells[column.name]
                if cells.state[slot] == _CLOSED:
                    continue
                self._cancel(group, column, slot, cancelled)
                for dependant in self._dependants[column.name]:
                    if dependant.task_type == "batch":
                        self._satisfy(group, dependant, 0, ready)
        if len(group.dropped) < group.spec.rows:
            return Dropped(tuple(cancelled), tuple(ready))
        for column in self._columns.values():
            if column.task_type == "batch" and group.cells[column.name].state[0] != _CLOSED:
                self._cancel(group, column, 0, cancelled)
        unseen = {payload.task_id for payload in ready}
        return Dropped(tuple(task_id for task_id in cancelled if task_id not in unseen), ())

    def dropped_rows(self, row_group: int) -> frozenset[int]:
        return frozenset(self._groups[row_group].dropped)

    def unfinished_rows(self, row_group: int) -> frozenset[int]:
        """The rows that are neither dropped nor complete: one of their values is missing."""
        group = self._groups[row_group]
        rows = [row for row in group.spec.row_range() if row not in group.dropped]
        for column in self._columns.values():
            state = group.cells[column.name].state
            if column.task_type == "batch" and state[0] != _CLOSED:
                return frozenset(rows)
        cells = [
            group.cells[column.name].state
            for column in self._columns.values()
            if column.task_type == "cell"
        ]
        first = group.spec.first_row
        return frozenset(
            row for row in rows if any(state[row - first] != _CLOSED for state in cells)
        )

    def is_complete(self, row_group: int) -> bool:
        """Whether every task of the row group is complete or cancelled."""
        return not self._groups[row_group].open

    def _locate(self, payload: TaskPayload) -> tuple[_RowGroup, _Cells, int]:
        group = self._groups[payload.row_group]
        slot = 0 if payload.row is None else payload.row - group.spec.first_row
        return group, group.cells[payload.column], slot

    def _make_ready(self, group: _RowGroup, column: TrackedColumn, slot: int) -> TaskPayload:
        row = group.spec.first_row + slot if column.task_type == "cell" else None
        payload = TaskPayload(column.name, group.spec.index, row, column.task_type)
        group.cells[column.name].state[slot] = _READY
        self._frontier[payload.task_id] = payload
        return payload

    def _satisfy(
        self, group: _RowGroup, column: TrackedColumn, slot: int, ready: list[TaskPayload]
    ) -> None:
        cells = group.cells[column.name]
        cells.missing[slot] -= 1
        if not cells.missing[slot] and cells.state[slot] == _PENDING:
            ready.append(self._make_ready(group, column, slot))

    def _cancel(
        self, group: _RowGroup, column: TrackedColumn, slot: int, cancelled: list[str]
    ) -> None:
        cells = group.cells[column.name]
        if cells.state[slot] != _PENDING:
            row = group.spec.first_row + slot if column.task_type == "cell" else None
            task_id = TaskPayload(column.name, group.spec.index, row, column.task_type).task_id
            self._frontier.pop(task_id, None)
            self._handed_out.pop(task_id, None)
            cancelled.append(task_id)
        self._close(group, cells, slot)

    def _close(self, group: _RowGroup, cells: _Cells, slot: int) -> None:
        cells.state[slot] = _CLOSED
        group.open -= 1
