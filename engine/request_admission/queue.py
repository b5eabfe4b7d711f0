"""`RequestFairQueue`: who waits for one provider/model, and which waiter is next in fair order.

Waiters of one resource stand in a *lane*: a resource that is closed (cooling, at its limit) costs
one question per selection, however many wait for it. Fairness is start-time fair queueing over
groups, across lanes; a group that was idle or closed comes back at the current virtual time.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from engine.identity import RequestResourceKey
from engine.request_admission.types import RequestWaiter

_FEW = 8


class RequestQueueSelection(NamedTuple):
    """The next waiter; void as soon as the queue has changed."""

    waiter: RequestWaiter
    sequence_version: int


class _Group:
    """A flow over all lanes; `start` is the virtual time at which its next waiter starts."""

    __slots__ = ("resting", "start", "waiting", "weight")

    def __init__(self) -> None:
        self.resting = False
        """Listed to be forgotten."""
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
    """The lines of one resource. A heap entry's start may lag behind its group's, never lead.

    A line has at most one entry in the heap, and stays for as long as it has one; `sweep` bounds
    how many of them are empty.
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
        """The first line's (start, waiter id, group key), after mending entries that lag."""
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
        """Forget the empty lines once they are the most; their heap entries go with them."""
        if self.empty <= _FEW or 2 * self.empty <= len(self.lines):
            return
        self.lines = {key: line for key, line in self.lines.items() if line.waiters}
        self.heap = [entry for entry in self.heap if entry[2] in self.lines]
        heapq.heapify(self.heap)
        self.empty = 0


def _group_key(waiter: RequestWaiter) -> Hashable:
    group = waiter.item.group
    return waiter.item.resource if group is None else group.key


class RequestFairQueue:
    """Selection changes nothing that can be seen; `commit` and `discard` are the only removals.

    Every operation is O(log n) amortised in the waiters, times the lanes (one per domain).
    """

    def __init__(self) -> None:
        self._lanes: dict[RequestResourceKey, _Lane] = {}
        self._groups: dict[Hashable, _Group] = {}
        self._at_rest: list[tuple[float, int, Hashable]] = []
        self._virtual_time = 0.0
        self._waiting = 0
        self._version = 0

    def __len__(self) -> int:
        return self._waiting

    def waiting(self, resource: RequestResourceKey) -> int:
        lane = self._lanes.get(resource)
        return lane.waiting if lane is not None else 0

    def resources(self) -> list[RequestResourceKey]:
        """Those that have waiters."""
        return [resource for resource, lane in self._lanes.items() if lane.waiting]

    def enqueue(self, waiter: RequestWaiter) -> bool:
        """False where a waiter of that id is in the queue already. Ids must grow with age."""
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
        """The first waiter among the resources that are eligible; each is asked about once."""
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
        """Remove the selected waiter and charge its group; None where the queue has changed."""
        if selection.sequence_version != self._version:
            return None
        waiter = selection.waiter
        group = self._groups[_group_key(waiter)]
        self._virtual_time = max(self._virtual_time, group.start)
        group.start = self._virtual_time + 1.0 / group.weight
        self._remove(waiter)
        return waiter

    def discard(self, waiter: RequestWaiter) -> bool:
        """Remove a waiter that gave up, at no charge; False where it is not in the queue."""
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
            self._forget()
            return
        if not line.waiters:
            lane.empty += 1
            lane.sweep()
        self._let_rest(_group_key(waiter), line.group, waiter.waiter_id)
        at_rest = self._at_rest
        while at_rest and at_rest[0][0] <= self._virtual_time:
            _, tie, key = heapq.heappop(at_rest)
            group = self._groups[key]
            group.resting = False
            self._let_rest(key, group, tie)

    def _let_rest(self, key: Hashable, group: _Group, tie: int) -> None:
        """A group without waiters is remembered only until the others have had their turn."""
        if group.waiting or group.resting:
            return
        if group.start <= self._virtual_time:
            del self._groups[key]
        else:
            group.resting = True
            heapq.heappush(self._at_rest, (group.start, tie, key))

    def _count(self, lane: _Lane, group: _Group, change: int) -> None:
        lane.waiting += change
        group.waiting += change
        self._waiting += change
        self._version += 1

    def _forget(self) -> None:
        """Nobody waits: no group has a claim or a debt."""
        self._lanes.clear()
        self._groups.clear()
        self._at_rest.clear()
        self._virtual_time = 0.0
        self._waiting = 0
        self._version += 1
