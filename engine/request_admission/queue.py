"""`RequestFairQueue`: who waits for one provider/model, and which waiter is next in fair order?

The order is start-time fair queueing (Goyal, Vin and Cheng 1996) over groups, with a call as the
unit of service; a group that was idle or blocked comes back at the current virtual time. The
waiters of one resource are kept in a *lane* of their own, so that a resource that is closed
(cooling down, or at its limit) costs one check per selection however many wait for it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from engine.identity import RequestResourceKey
from engine.request_admission.types import RequestWaiter

_MIN_EMPTY_LINES = 8
"""Empty lines that a lane keeps without a sweep."""


class RequestQueueSelection(NamedTuple):
    """The next waiter; invalid as soon as the queue has changed."""

    waiter: RequestWaiter
    sequence_version: int


class _Group:
    """A flow over all lanes. `start` is the virtual time at which its next waiter may start."""

    __slots__ = ("retired", "start", "waiting", "weight")

    def __init__(self) -> None:
        self.retired = False
        """Whether it is in `_retired`, to be forgotten once its start has passed."""
        self.start = 0.0
        self.weight = 1.0
        self.waiting = 0


class _Line:
    """One group's waiters in one lane, oldest first."""

    __slots__ = ("group", "waiters")

    def __init__(self, group: _Group) -> None:
        self.group = group
        self.waiters: OrderedDict[int, RequestWaiter] = OrderedDict()

    def head_id(self) -> int:
        return next(iter(self.waiters))


class _Lane:
    """The lines of one resource, in a heap with lazy updates.

    The start in a heap entry may lag behind that of its group, and is never ahead of it. A line has
    at most one entry and is kept while it has one; `sweep` bounds the number of empty lines.
    """

    __slots__ = ("empty", "heap", "lines", "waiting")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Hashable]] = []
        self.lines: dict[Hashable, _Line] = {}
        self.empty = 0
        self.waiting = 0

    def push(self, key: Hashable, line: _Line) -> None:
        heapq.heappush(self.heap, (line.group.start, line.head_id(), key))

    def head(self) -> tuple[float, int, Hashable] | None:
        """Start, waiter id and group key of the first line, after updating entries that lag."""
        while self.heap:
            entry = self.heap[0]
            line = self.lines[entry[2]]
            if not line.waiters:
                heapq.heappop(self.heap)
                del self.lines[entry[2]]
                self.empty -= 1
            elif (current := (line.group.start, line.head_id())) != entry[:2]:
                heapq.heapreplace(self.heap, (*current, entry[2]))
            else:
                return entry
        return None

    def sweep(self) -> None:
        """Remove the empty lines and their entries once most lines are empty."""
        if self.empty <= _MIN_EMPTY_LINES or 2 * self.empty <= len(self.lines):
            return
        self.lines = {key: line for key, line in self.lines.items() if line.waiters}
        self.heap = [entry for entry in self.heap if entry[2] in self.lines]
        heapq.heapify(self.heap)
        self.empty = 0


def _group_key(waiter: RequestWaiter) -> Hashable:
    group = waiter.item.group
    return waiter.item.resource if group is None else group.key


class RequestFairQueue:
    """`select_next` changes nothing observable; `commit` and `discard` are the only removals.

    Every operation is O(log n) amortised in the waiters, times the lanes (one per domain).
    """

    def __init__(self) -> None:
        self._lanes: dict[RequestResourceKey, _Lane] = {}
        self._groups: dict[Hashable, _Group] = {}
        self._retired: list[tuple[float, int, Hashable]] = []
        self._virtual_time = 0.0
        self._waiting = 0
        self._version = 0

    def __len__(self) -> int:
        return self._waiting

    def waiting(self, resource: RequestResourceKey) -> int:
        lane = self._lanes.get(resource)
        return lane.waiting if lane is not None else 0

    def resources(self) -> list[RequestResourceKey]:
        """The resources that have waiters."""
        return [resource for resource, lane in self._lanes.items() if lane.waiting]

    def enqueue(self, waiter: RequestWaiter) -> bool:
        """Add a waiter; False if one of its id is queued. Later waiters must have larger ids."""
        key = _group_key(waiter)
        lane = self._lanes.get(waiter.item.resource)
        if lane is None:
            lane = self._lanes[waiter.item.resource] = _Lane()
        line = lane.lines.get(key)
        if line is not None and waiter.waiter_id in line.waiters:
            return False
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        if waiter.item.group is not None:
            group.weight = waiter.item.group.weight
        if group.waiting == 0:
            group.start = max(group.start, self._virtual_time)
        if line is None:
            line = lane.lines[key] = _Line(group)
            line.waiters[waiter.waiter_id] = waiter
            lane.push(key, line)
        else:
            lane.empty -= not line.waiters
            line.group = group
            line.waiters[waiter.waiter_id] = waiter
        self._count(lane, group, 1)
        return True

    def select_next(
        self, is_eligible: Callable[[RequestResourceKey], bool]
    ) -> RequestQueueSelection | None:
        """The first waiter of the eligible resources; `is_eligible` is called once for each."""
        best: tuple[float, int] | None = None
        chosen: RequestWaiter | None = None
        for resource, lane in self._lanes.items():
            if not lane.waiting or not is_eligible(resource):
                continue
            entry = lane.head()
            if entry is None:
                continue
            rank = (max(entry[0], self._virtual_time), entry[1])
            if best is None or rank < best:
                best = rank
                chosen = lane.lines[entry[2]].waiters[entry[1]]
        return None if chosen is None else RequestQueueSelection(chosen, self._version)

    def commit(self, selection: RequestQueueSelection) -> RequestWaiter | None:
        """Remove the selected waiter and charge its group; None if the queue has changed."""
        if selection.sequence_version != self._version:
            return None
        waiter = selection.waiter
        group = self._groups[_group_key(waiter)]
        self._virtual_time = max(self._virtual_time, group.start)
        group.start = self._virtual_time + 1.0 / group.weight
        self._remove(waiter)
        return waiter

    def discard(self, waiter: RequestWaiter) -> bool:
        """Remove a waiter that gave up, at no charge; False if it is not queued."""
        lane = self._lanes.get(waiter.item.resource)
        line = lane.lines.get(_group_key(waiter)) if lane is not None else None
        if line is None or waiter.waiter_id not in line.waiters:
            return False
        self._remove(waiter)
        return True

    def _remove(self, waiter: RequestWaiter) -> None:
        lane = self._lanes[waiter.item.resource]
        line = lane.lines[_group_key(waiter)]
        del line.waiters[waiter.waiter_id]
        self._count(lane, line.group, -1)
        if not self._waiting:
            self._reset()
            return
        if not line.waiters:
            lane.empty += 1
            lane.sweep()
        self._retire(_group_key(waiter), line.group, waiter.waiter_id)
        retired = self._retired
        while retired and retired[0][0] <= self._virtual_time:
            _, tie, key = heapq.heappop(retired)
            group = self._groups[key]
            group.retired = False
            self._retire(key, group, tie)

    def _retire(self, key: Hashable, group: _Group, tie: int) -> None:
        """Keep the start of a group without waiters only until virtual time has passed it."""
        if group.waiting or group.retired:
            return
        if group.start <= self._virtual_time:
            del self._groups[key]
        else:
            group.retired = True
            heapq.heappush(self._retired, (group.start, tie, key))

    def _count(self, lane: _Lane, group: _Group, change: int) -> None:
        lane.waiting += change
        group.waiting += change
        self._waiting += change
        self._version += 1

    def _reset(self) -> None:
        """Nothing waits: start afresh, since no group is ahead of or behind another."""
        self._lanes.clear()
        self._groups.clear()
        self._retired.clear()
        self._virtual_time = 0.0
        self._waiting = 0
        self._version += 1
