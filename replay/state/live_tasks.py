"""`PackedTasks`: the live tasks of a run by id, in the order in which they became live.

A wide run has more than a million tasks that only wait: ready, or in the queue. A `Task` with its
index entries takes about a kilobyte, so those are kept packed, in 64 bytes beside their id. What
many of them have in common (column, group, phase, resources, ...) is stored once, as their `_Kind`.
A few thousand tasks stay unpacked, so that a small run pays nothing. From `id_table.WIDE` tasks on
their ids are packed as well, and the order becomes that of `RecordTable`.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, MutableMapping, ValuesView
from typing import NamedTuple

import msgspec

from replay.state import id_table
from replay.state.id_table import RECORD, RecordTable
from replay.state.task import Task

MOST_UNPACKED = 4_096
"""Tasks that may stay unpacked after the last time that all were packed that can be."""

# A record is: number of the kind from 1, row (-1 for none), ready and enqueued at (NaN for none).
_NOTHING_MORE = (None,) * 9


class WaitingTasks(NamedTuple):
    """Packed tasks of one group in one phase."""

    group: str
    phase: str
    number: int
    oldest_enqueued_at: float | None


class PackedTasks(MutableMapping[str, Task]):
    """Only `unpacked` returns a task that may be modified; the other methods return copies to read.

    A task of `unpacked` stays the one in here until `unpacked` or an assignment brings another id.
    """

    __slots__ = ("_free", "_kind_numbers", "_kinds", "_pack_at", "_tasks", "_unpacked")

    def __init__(self, tasks: Mapping[str, Task] | None = None) -> None:
        self._tasks: dict[str, Task | bytes] | RecordTable[Task] = {}
        self._unpacked: dict[str, Task] = {}
        self._pack_at = MOST_UNPACKED
        self._kinds: list[_Kind] = []
        self._kind_numbers: dict[_KindKey, int] = {}
        self._free: list[int] = []
        """Numbers of kinds of which there is no task any more."""
        if tasks is not None:
            self.update(tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._tasks

    def __getitem__(self, task_id: str) -> Task:
        record = self._tasks[task_id]
        return self._unpack(task_id, record) if type(record) is bytes else record  # type: ignore[return-value]

    def get(self, task_id: str, default: Task | None = None) -> Task | None:  # type: ignore[override]
        record = self._tasks.get(task_id)
        if type(record) is bytes:
            return self._unpack(task_id, record)
        return default if record is None else record  # type: ignore[return-value]

    def unpacked(self, task_id: str) -> Task | None:
        """The task to be changed, None where there is none."""
        record = self._tasks.get(task_id)
        if type(record) is bytes:
            task = self._unpack(task_id, record)
            self._forget(record)
            self._insert(task_id, task)
            return task
        return record  # type: ignore[return-value]

    def __setitem__(self, task_id: str, task: Task) -> None:
        record = self._tasks.get(task_id)
        if type(record) is bytes:
            self._forget(record)
        self._insert(task_id, task)

    def __delitem__(self, task_id: str) -> None:
        record = self._tasks.pop(task_id)
        if type(record) is bytes:
            self._forget(record)
        else:
            del self._unpacked[task_id]

    def copy(self) -> PackedTasks:
        """Return a copy whose tasks are independent of this one's."""
        copy = PackedTasks()
        copy._tasks = self._tasks.copy()
        for task_id, task in self._unpacked.items():
            copy._tasks[task_id] = copy._unpacked[task_id] = msgspec.structs.replace(task)
        copy._pack_at = self._pack_at
        copy._kinds = [kind.copy() for kind in self._kinds]
        copy._kind_numbers = dict(self._kind_numbers)
        copy._free = list(self._free)
        return copy

    def unpacked_tasks(self) -> ValuesView[Task]:
        """Tasks stored unpacked, including every one that is neither ready nor queued."""
        return self._unpacked.values()

    def packed_tasks(self) -> Iterator[WaitingTasks]:
        """Counts of the packed tasks, by group and phase."""
        for kind in self._kinds:
            if kind.number:
                yield WaitingTasks(kind.task.group, kind.task.phase, kind.number, kind.oldest())

    def count_by_group(self, phase: str) -> dict[str, int]:
        """Tasks in that phase; costs as much as there are unpacked tasks and kinds of others."""
        counts: dict[str, int] = {}
        for waiting in self.packed_tasks():
            if waiting.phase == phase:
                counts[waiting.group] = counts.get(waiting.group, 0) + waiting.number
        for task in self._unpacked.values():
            if task.phase == phase:
                counts[task.group] = counts.get(task.group, 0) + 1
        return counts

    def oldest_queued_by_group(self) -> dict[str, float]:
        """When each group's oldest queued task entered the queue; costs the same."""
        oldest: dict[str, float] = {}
        for waiting in self.packed_tasks():
            at = waiting.oldest_enqueued_at
            if waiting.phase == "queued" and at is not None:
                oldest[waiting.group] = min(at, oldest.get(waiting.group, at))
        for task in self._unpacked.values():
            if task.phase == "queued" or task.phase == "selected":
                at = task.since if task.enqueued_at is None else task.enqueued_at
                oldest[task.group] = min(at, oldest.get(task.group, at))
        return oldest

    def _insert(self, task_id: str, task: Task) -> None:
        if len(self._unpacked) >= self._pack_at:
            self._pack_all()
        self._tasks[task_id] = self._unpacked[task_id] = task

    def _pack_all(self) -> None:
        """Packing is deferred: the next event of a new task often follows immediately."""
        tasks, unpacked = self._tasks, self._unpacked
        for task_id, task in list(unpacked.items()):
            if _can_be_packed(task):
                tasks[task_id] = self._pack(task)
                del unpacked[task_id]
        self._pack_at = MOST_UNPACKED + 2 * len(unpacked)
        if len(tasks) > id_table.WIDE and not isinstance(tasks, RecordTable):
            self._tasks = RecordTable(tasks)

    def _pack(self, task: Task) -> bytes:
        key = _key(task)
        number = self._kind_numbers.get(key)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._kinds[number - 1] = _Kind(key, task)
            else:
                self._kinds.append(_Kind(key, task))
                number = len(self._kinds)
            self._kind_numbers[key] = number
        self._kinds[number - 1].add(task.enqueued_at)
        return RECORD.pack(
            number,
            -1 if task.row is None else task.row,
            math.nan if task.ready_at is None else task.ready_at,
            math.nan if task.enqueued_at is None else task.enqueued_at,
        )

    def _unpack(self, task_id: str, record: bytes) -> Task:
        number, row, ready_at, enqueued_at = RECORD.unpack(record)
        common = self._kinds[number - 1].task
        return Task(
            task_id,
            common.column,
            common.group,
            common.phase,
            ready_at if common.phase == "ready" else enqueued_at,
            common.row_group,
            None if row < 0 else row,
            common.task_type,
            None if ready_at != ready_at else ready_at,
            None if enqueued_at != enqueued_at else enqueued_at,
            common.attempt,
            common.resources,
            common.request_resource,
        )

    def _forget(self, record: bytes) -> None:
        """Remove a record from the statistics of its kind."""
        number, _, _, enqueued_at = RECORD.unpack(record)
        kind = self._kinds[number - 1]
        kind.remove(enqueued_at)
        if not kind.number:
            del self._kind_numbers[kind.key]
            self._free.append(number)


_KindKey = tuple[str, str, str, int | None, str, int, tuple[tuple[str, int], ...], str | None]


def _key(task: Task) -> _KindKey:
    return (
        task.column,
        task.group,
        task.phase,
        task.row_group,
        task.task_type,
        task.attempt,
        tuple(task.resources.items()),
        task.request_resource,
    )


def _can_be_packed(task: Task) -> bool:
    """It waits, and nothing is known of it that a record has no room for."""
    if task.phase == "queued":
        since = task.enqueued_at
    elif task.phase == "ready":
        since = task.ready_at
    else:
        return False
    more = (
        task.lease_id,
        task.acquired_at,
        task.execution_id,
        task.spawned_at,
        task.retry_at,
        task.error,
        task.selected_at,
        task.acquired_ordinal,
        task.result,
    )
    return task.since == since and more == _NOTHING_MORE


class _Kind:
    """What some packed tasks have in common, their number, and when each entered the queue.

    The times are sorted. Queues are left at the front, so what left there is only skipped until it
    is half of all: removing it from the array at once would move the whole rest.
    """

    __slots__ = ("_first", "_times", "key", "number", "task")

    def __init__(self, key: _KindKey, task: Task) -> None:
        self.key = key
        self.task = task
        """One of them, for what they have in common."""
        self.number = 0
        self._times = array("d")
        self._first = 0

    def copy(self) -> _Kind:
        copy = _Kind(self.key, self.task)
        copy.number, copy._times, copy._first = self.number, self._times[:], self._first
        return copy

    def oldest(self) -> float | None:
        return self._times[self._first] if self._first < len(self._times) else None

    def add(self, enqueued_at: float | None) -> None:
        self.number += 1
        if enqueued_at is not None:
            insort(self._times, enqueued_at, self._first)

    def remove(self, enqueued_at: float) -> None:
        """NaN stands for none."""
        self.number -= 1
        if enqueued_at != enqueued_at:
            return
        position = bisect_left(self._times, enqueued_at, self._first)
        if position > self._first:
            del self._times[position]
            return
        self._first += 1
        if self._first * 2 > len(self._times):
            del self._times[: self._first]
            self._first = 0
