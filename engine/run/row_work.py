"""`RowWork`: makes cells, keeps them, and writes finished rows.

Between the scheduler, which says what is to be made, and the store of the run on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Set
from typing import Any

from engine.rows.admission import RowGroupSpec
from engine.rows.checkpoints import WrittenRows
from engine.rows.kept_cells import DroppedRow, Restored, WrittenGroup
from engine.rows.parquet import RowGroupWriter, RowNumbers
from engine.rows.run_store import RunStore
from engine.rows.store import RowStore
from engine.run.plan import RunPlan
from engine.scheduling.task_outcomes import DroppedTask
from engine.scheduling.types import TaskPayload
from engine.workflow.columns.generator import (
    BatchContext,
    CellContext,
    ModelCalls,
)


class ResumedRows:
    """What earlier parts of a run have made."""

    def __init__(self) -> None:
        self.finished: set[int] = set()
        """Row groups of which nothing is to be made."""
        self.completed: dict[str, int] = {}
        """Completed tasks by column."""
        self.open_cells = 0
        """Cells of row groups that are open."""
        self._done = self._dropped = 0
        self._reopened: dict[int, tuple[int, int]] = {}

    @property
    def written(self) -> WrittenRows:
        return WrittenRows(self._done, self._dropped, self._reopened)

    def note_written(self, index: int, group: WrittenGroup, is_finished: bool) -> None:
        """A row group was found written; its rows count as made."""
        dropped = len(group.dropped)
        self._done += group.surviving
        self._dropped += dropped
        if is_finished:
            self.finished.add(index)
        else:
            self._reopened[index] = (group.surviving, dropped)
        if not group.unfinished:
            for column, count in group.completed.items():
                self._complete(column, count)

    def note_open(self, restored: Restored, batches: Set[str]) -> None:
        """A row group was found unfinished; its cells need not be made again."""
        made: set[str] = set()
        for values in restored.values.values():
            self.open_cells += len(values)
            for column in values:
                if column not in batches or column not in made:
                    self._complete(column, 1)
                made.add(column)

    def _complete(self, column: str, count: int) -> None:
        self.completed[column] = self.completed.get(column, 0) + count


class RowWork:
    """
    Args:
        plan: What is run.
        calls: Makes the calls of generators.
        writer: Writes finished rows; None to discard them.
        store: Keeps what is made; None to keep nothing.
        retry_dropped: Make the rows again that an earlier part of the run has dropped.
        inline: Write files on the loop instead of in a thread, as virtual time demands.
    """

    def __init__(
        self,
        plan: RunPlan,
        calls: ModelCalls,
        writer: RowGroupWriter | None,
        store: RunStore | None,
        *,
        retry_dropped: bool = False,
        inline: bool = False,
    ) -> None:
        self._plan = plan
        self._calls = calls
        self._rows = RowStore()
        self._writer = writer
        self._store = store
        self._retry_dropped = retry_dropped
        self._inline = inline
        self._dropped: dict[int, dict[int, DroppedRow]] = {}
        """By row group, and by row."""
        self._restored: dict[int, Restored] = {}
        """What was restored of the row groups that are open."""
        self._columns = tuple(column.name for column in plan.workflow.columns)
        self._batches = frozenset(c.name for c in plan.columns if c.task_type == "batch")

    def is_finished(self, group: WrittenGroup) -> bool:
        """Whether nothing is to be made of a row group that was written."""
        return not (
            group.unfinished
            or set(self._columns) - set(group.columns)
            or (self._retry_dropped and group.dropped)
        )

    def restore(self, spec: RowGroupSpec) -> Restored | None:
        """What is kept of a row group that is not finished; None for nothing."""
        if self._store is None:
            return None
        restored = self._store.restore(spec.index)
        if self._retry_dropped and restored.dropped:
            restored.dropped = {}
            self._store.rewrite(spec.index, restored)
        group = self._written(spec.index)
        if group is not None and not group.unfinished:
            self._restore_written(spec, group, restored)
        if not (restored.values or restored.dropped):
            return None
        for row, values in restored.values.items():
            for column, value in values.items():
                if column in self._columns:
                    self._rows.put(row, column, value)
        if restored.dropped:
            self._dropped[spec.index] = restored.dropped
        self._restored[spec.index] = restored
        return restored

    async def execute(self, payload: TaskPayload) -> None:
        """Make the value of a task."""
        workflow, rows, store = self._plan.workflow, self._rows, self._store
        generator = self._plan.generators[payload.column]
        index, column = payload.row_group, payload.column
        if payload.row is None:
            numbers = self._missing(index, column)
            batch = BatchContext(
                index, numbers, workflow.seed, [rows.values(n) for n in numbers], self._calls
            )
            values = await generator.batch(batch)
            for row, value in zip(numbers, values, strict=True):
                rows.put(row, column, value)
            if store is not None:
                store.put_batch(index, numbers, column, values)
            return
        updated: dict[str, Any] = {}

        def update(other: str, value: Any) -> None:
            updated[other] = value
            rows.put(number, other, value)

        number = payload.row
        context = CellContext(
            number, rows.values(number), self._calls, workflow.seed, update=update
        )
        value = await generator.cell(context)
        rows.put(number, column, value)
        if store is not None:
            # Kept once the cell is made: until then a run that goes on makes all of it again.
            for other, other_value in updated.items():
                store.put(index, number, other, other_value)
            store.put(index, number, column, value)

    def drop(self, task: DroppedTask) -> None:
        """Note why rows are dropped; the first reason of a row counts."""
        index = task.payload.row_group
        known = self._dropped.setdefault(index, {})
        new = [
            DroppedRow(row, task.payload.column, task.error_type, task.failure, task.attempts)
            for row in task.rows
            if row not in known
        ]
        known.update((dropped.row, dropped) for dropped in new)
        if self._store is not None:
            self._store.drop(index, new)

    async def checkpoint(self, row_group: int, left_out: frozenset[int]) -> None:
        """Write the rows of a row group but those left out, which are dropped or unfinished."""
        numbers = self._plan.row_groups[row_group].row_range()
        survivors = [self._rows.values(row) for row in numbers if row not in left_out]
        dropped = tuple(
            reason
            for row, reason in sorted(self._dropped.get(row_group, {}).items())
            if row in left_out
        )
        group = WrittenGroup(
            len(numbers),
            len(survivors),
            len(left_out) - len(dropped),
            self._columns,
            self._completed(row_group, numbers),
            dropped,
        )
        present = RowNumbers(numbers.start, len(numbers), tuple(sorted(left_out)))
        if self._store is not None:
            self._store.end_group(row_group)
        if self._inline:
            self._write(row_group, survivors, group, present)
        else:
            await asyncio.to_thread(self._write, row_group, survivors, group, present)
        self._rows.forget(numbers)
        self._dropped.pop(row_group, None)
        self._restored.pop(row_group, None)

    def _write(
        self, row_group: int, survivors: list[Any], group: WrittenGroup, present: RowNumbers
    ) -> None:
        if self._writer is not None:
            self._writer.write(row_group, survivors, present)
        if self._store is not None:
            self._store.note_written(row_group, group)

    def _missing(self, row_group: int, column: str) -> range | list[int]:
        """The rows of a row group that a batch is to make: those of an earlier part are kept, and
        a row that was dropped lacks a value."""
        numbers = self._plan.row_groups[row_group].row_range()
        needed = set(self._plan.workflow.graph.depends_on[column])
        restored = self._restored.get(row_group) or Restored()
        missing = [
            row
            for row in numbers
            if column not in (made := self._rows.values(row))
            and made.keys() >= needed
            and not restored.is_complete(row, column)
        ]
        return numbers if len(missing) == len(numbers) else missing

    def _completed(self, row_group: int, numbers: Iterable[int]) -> dict[str, int]:
        """Completed tasks of a row group, by column."""
        counts = dict.fromkeys(self._columns, 0)
        restored = self._restored.get(row_group) or Restored()
        for row in numbers:
            values = self._rows.values(row)
            for column in values:
                counts[column] += 1
            if row in restored.complete_rows:
                for column in restored.complete_columns - values.keys():
                    counts[column] += 1
        return {
            column: min(count, 1) if column in self._batches else count
            for column, count in counts.items()
        }

    def _restore_written(self, spec: RowGroupSpec, group: WrittenGroup, restored: Restored) -> None:
        """Take the rows of a written row group from its file."""
        dropped = {reason.row: reason for reason in group.dropped}
        kept = [row for row in spec.row_range() if row not in dropped]
        if self._writer is not None and kept:
            for row, values in zip(kept, self._writer.read(spec.index), strict=True):
                for column, value in values.items():
                    restored.put(row, column, value)
            restored.complete_rows = frozenset(kept)
            restored.complete_columns = frozenset(group.columns) - self._needed_anew(group, values)
        if not self._retry_dropped:
            restored.dropped = dropped | restored.dropped

    def _needed_anew(self, group: WrittenGroup, known: Container[str]) -> set[str]:
        """The columns of a written row group that columns that were added since need, but whose
        values are not in the dataset."""
        depends_on = self._plan.workflow.graph.depends_on
        needed: set[str] = set()
        left = [name for name in self._columns if name not in group.columns]
        while left:
            new = [name for name in depends_on[left.pop()] if name not in known]
            left += [name for name in new if name not in needed]
            needed.update(new)
        return needed

    def _written(self, index: int) -> WrittenGroup | None:
        """A row group that was written, unless its file is gone."""
        group = None if self._store is None else self._store.written_group(index)
        if group is None or self._writer is None or not group.surviving:
            return group
        return group if self._writer.has(index) else None

    def resumed(self) -> ResumedRows:
        """What earlier parts of the run have made."""
        assert self._store is not None
        resumed = ResumedRows()
        for index, _ in self._store.written_groups():
            group = self._written(index)
            if group is not None:
                resumed.note_written(index, group, self.is_finished(group))
        for index in self._store.open_groups():
            written = self._written(index)
            if written is None or written.unfinished:
                resumed.note_open(self._store.restore(index), self._batches)
        return resumed
