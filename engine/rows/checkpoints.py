"""`Checkpoints`: writes finished row groups, and counts the rows that survived."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from engine.errors import UserError
from engine.events import EventStream
from engine.rows.admission import RowGroupSpec

WRITE_RETRY_SECONDS = (0.5, 1.0, 2.0)
"""Time to the next try after each write that failed; then the row group is given up."""
Checkpoint = Callable[[int, frozenset[int]], Awaitable[None]]


class WrittenRows(NamedTuple):
    """Rows that earlier parts of a run have written."""

    done: int = 0
    dropped: int = 0
    reopened: Mapping[int, tuple[int, int]] = MappingProxyType({})
    """Rows that were written and dropped, by index of the row groups that are open again."""


class Checkpoints:
    """Writes each row group once, in a task of its own, and then calls `on_written` or
    `on_failed`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        stream: EventStream,
        on_written: Callable[[RowGroupSpec], None],
        on_failed: Callable[[], None],
        written: WrittenRows | None = None,
    ) -> None:
        """`written`: what earlier parts of the run have written."""
        written = written or WrittenRows()
        self.failed: dict[int, str] = {}
        """Why a row group could not be written, by its index."""
        self.rows_done = written.done
        self.rows_dropped = written.dropped
        self.rows_unfinished = 0
        self._reopened = dict(written.reopened)
        self._checkpoint = checkpoint
        self._stream = stream
        self._on_written = on_written
        self._on_failed = on_failed
        self._writing: dict[int, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._writing)

    def __contains__(self, row_group: int) -> bool:
        return row_group in self._writing

    def start(
        self, spec: RowGroupSpec, dropped: frozenset[int], unfinished: frozenset[int] = frozenset()
    ) -> None:
        """Write the rows of a row group but those that are dropped, or unfinished at a stop."""
        self._stream.scheduler(
            "row_group_checkpoint_started", diagnostics={"row_group": spec.index}
        )
        task = asyncio.get_running_loop().create_task(self._write(spec.index, dropped | unfinished))
        self._writing[spec.index] = task
        task.add_done_callback(partial(self._written, spec, len(dropped), len(unfinished)))

    def loss(self, in_flight: Sequence[int]) -> str:
        """One sentence: which row groups could not be written, and what became of the others."""
        numbers = sorted(self.failed)
        sentence = f"{_row_groups(numbers)} could not be written: {self.failed[numbers[0]]}"
        unfinished = [index for index in in_flight if index not in self.failed]
        if unfinished:
            sentence += f"; {_row_groups(unfinished)} ended unfinished"
        return f"{sentence}; the {self.rows_done} rows of all others are kept"

    async def _write(self, row_group: int, left_out: frozenset[int]) -> None:
        for tries, delay in enumerate(WRITE_RETRY_SECONDS, 1):
            try:
                return await self._checkpoint(row_group, left_out)
            except (OSError, UserError) as error:
                facts = {
                    "row_group": row_group,
                    "try": tries,
                    "delay_seconds": delay,
                    "message": _sentence(error),
                }
                self._stream.scheduler("row_group_write_retried", diagnostics=facts)
                await asyncio.sleep(delay)
        return await self._checkpoint(row_group, left_out)

    def _written(
        self, spec: RowGroupSpec, dropped: int, unfinished: int, task: asyncio.Task[None]
    ) -> None:
        del self._writing[spec.index]
        if task.cancelled() or task.exception() is not None:
            cause = "cancelled" if task.cancelled() else _sentence(task.exception())
            self.failed[spec.index] = cause
            self._on_failed()
            return
        surviving = spec.rows - dropped - unfinished
        done_before, dropped_before = self._reopened.pop(spec.index, (0, 0))
        self.rows_done += surviving - done_before
        self.rows_dropped += dropped - dropped_before
        self.rows_unfinished += unfinished
        facts = {
            "row_group": spec.index,
            "rows": spec.rows,
            "surviving_rows": surviving,
            "dropped_rows": dropped,
        }
        if unfinished:
            facts["unfinished_rows"] = unfinished
        if done_before:
            facts["surviving_before"] = done_before
        if dropped_before:
            facts["dropped_before"] = dropped_before
        self._stream.scheduler("row_group_checkpointed", diagnostics=facts)
        self._on_written(spec)


def _row_groups(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers))
    return f"row group {listed}" if len(numbers) == 1 else f"row groups {listed}"


def _sentence(error: BaseException | None) -> str:
    """What may be reported of an error: our own words, those of the system, or only its type."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
