"""`FairTaskQueue`: which ready task is next in fair order?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import islice

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import QueueSelection
from engine.scheduling.fair_order import FairOrder, OrderedGroup
from engine.scheduling.types import Eligibility, SchedulableTask
from engine.scheduling.views import BlockedFingerprint, QueueView

_CHANGES_REMEMBERED = 64
_IDLE_GROUPS_REMEMBERED = 1024
"""A forgotten group that comes back may be served once before its turn."""

EligibilityCheck = Callable[[SchedulableTask, QueueView], Eligibility]


class _Group(OrderedGroup):
    """A group with its tasks in FIFO order; an entry counts while it is the one of its id."""

    __slots__ = ("available_after", "demand", "mark", "queued", "tasks", "yielded")

    def __init__(self, key: TaskGroupKey, index: int, weight: float) -> None:
        super().__init__(key, index, weight)
        self.mark = hash((index,))
        self.tasks: deque[tuple[int, SchedulableTask]] = deque()
        self.queued = 0
        self.demand: dict[SchedulerResourceKey, int] = {}
        self.available_after: float | None = None
        self.yielded = 0
        """How often it has begun to give way."""

    @property
    def head(self) -> SchedulableTask:
        return self.tasks[0][1]

    def gives_way(self, time: int) -> bool:
        """Still for the n-th time?"""
        return self.yielded == time and bool(self.tier) and bool(self.tasks)


class _Demand:
    """What the queued tasks need of one resource, and which groups stand back from it.

    `yielding` has (-weight, index, n, group): look at the group again once the queued weight falls
    below; `waiting` has (n, group) in turn, one to look at for each release. Both are valid while
    the group gives way for the n-th time. `version` counts the groups that came and went, of which
    `changed` has the last ones.
    """

    __slots__ = ("changed", "groups", "total", "version", "waiting", "weight", "yielding")

    def __init__(self) -> None:
        self.groups = 0
        self.total = 0
        self.version = 0
        self.changed: deque[TaskGroupKey] = deque(maxlen=_CHANGES_REMEMBERED)
        self.weight = 0.0
        self.yielding: list[tuple[float, int, int, _Group]] = []
        self.waiting: deque[tuple[int, _Group]] = deque()


class FairTaskQueue:
    """Confined to the loop's thread. `commit` is the only removal in order.

    A head that is not eligible is dealt with once: it is parked on the resource it lacks; or left
    out until its group releases something; or it gives way to its peers (tier 1 of the order), and
    is looked at again when none of them can run, or when its share has grown.
    """

    def __init__(self) -> None:
        self._order: FairOrder[_Group] = FairOrder()
        self._version = 0
        self._serial = 0
        self._queued: dict[str, tuple[int, SchedulableTask]] = {}
        self._groups: dict[TaskGroupKey, _Group] = {}
        self._group_count = 0
        self._backlogged: dict[_Group, None] = {}
        self._backlog_mark = 0
        """Exclusive or over the backlogged groups: back to what it was when they are the same."""
        self._idle: dict[_Group, None] = {}
        self._refused: dict[_Group, None] = {}
        self._timed: list[tuple[float, int, _Group]] = []
        self._looks = 0
        self._demand: dict[SchedulerResourceKey, _Demand] = {}
        self._view = _Window(self)

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def next_deadline(self) -> float | None:
        """Earliest known time (monotonic seconds) at which a policy lets a head go on."""
        timed = self._timed
        while timed and timed[0][2].available_after != timed[0][0]:
            heappop(timed)
        return timed[0][0] if timed else None

    def view(self) -> QueueView:
        return self._view

    def enqueue(self, items: Iterable[SchedulableTask]) -> list[str]:
        """Ids newly accepted; an id that is queued already is left as it is."""
        accepted = []
        for item in items:
            task_id = item.task_id
            if task_id in self._queued:
                continue
            accepted.append(task_id)
            self._serial += 1
            entry = (self._serial, item)
            self._queued[task_id] = entry
            group = self._groups.get(item.group.key)
            if group is None:
                self._group_count += 1
                group = _Group(item.group.key, self._group_count, item.group.weight)
                self._groups[group.key] = group
            group.tasks.append(entry)
            if len(group.tasks) == 1:
                group.weight = item.group.weight
                self._backlogged[group] = None
                self._backlog_mark ^= group.mark
                self._idle.pop(group, None)
                self._order.enter(group, item.resource_request.needs)
            self._add_demand(group, item)
        if accepted:
            self._version += 1
        return accepted

    def select_next(self, is_eligible: EligibilityCheck) -> QueueSelection | None:
        """The first eligible head in fair order, or None. Takes nothing out, moves no time."""
        view, order = self._view, self._order
        if self._refused:
            for refused in self._refused:
                order.enter(refused, refused.head.resource_request.needs, tier=1)
            self._refused.clear()
        while (group := order.first()) is not None:
            head = group.tasks[0][1]
            verdict = is_eligible(head, view)
            if verdict.eligible:
                return QueueSelection(head, view, self._version)
            self._hold_back(group, verdict)
        return None

    def commit(self, selection: QueueSelection) -> SchedulableTask | None:
        """Take the selected task out; None where the queue has changed since the selection."""
        item = selection.item
        if selection.sequence_version != self._version:
            return None
        group = self._groups[item.group.key]
        self._order.advance(group)
        self._remove_head(group)
        return item

    def discard(self, task_id: str) -> bool:
        """Take a task out of turn; False where it is not queued."""
        entry = self._queued.get(task_id)
        if entry is None:
            return False
        group = self._groups[entry[1].group.key]
        if group.tasks[0] is entry:
            self._remove_head(group)
        else:
            del self._queued[task_id]
            self._version += 1
            self._take_demand(group, entry[1])
        return True

    def unpark(
        self, resources: Iterable[SchedulerResourceKey], group: TaskGroupKey | None = None
    ) -> None:
        """Units of `resources` came free; `group` is whose they were, if anybody's."""
        for resource in resources:
            self._order.unpark(resource)
            demand = self._demand.get(resource)
            while demand is not None and demand.waiting:
                time, waiting = demand.waiting.popleft()
                if waiting.gives_way(time):
                    self._look_again(waiting)
                    break
        owner = None if group is None else self._groups.get(group)
        if owner is not None:
            self._look_again(owner)

    def reconsider(
        self, groups: Iterable[TaskGroupKey], resources: Iterable[SchedulerResourceKey] = ()
    ) -> None:
        """The policy may answer otherwise than before about these groups, and about all that gave
        way over these resources."""
        for key in groups:
            known = self._groups.get(key)
            if known is not None:
                self._look_again(known)
        for resource in resources:
            demand = self._demand.get(resource)
            if demand is None:
                continue
            yielding, demand.yielding = demand.yielding, []
            for _, _, time, group in yielding:
                if group.gives_way(time):
                    self._look_again(group)

    def reconsider_due(self, now: float) -> None:
        """The times that policies gave are reached (monotonic seconds)."""
        while (at := self.next_deadline) is not None and at <= now:
            self._look_again(self._timed[0][2])

    def _hold_back(self, group: _Group, verdict: Eligibility) -> None:
        if verdict.waits_for == "resource":
            self._order.park(group, verdict.resources[0])
        elif verdict.waits_for == "own_release":
            self._order.leave(group)
        elif group.tier:
            # Not even with everybody else blocked: its policy has to change its mind.
            self._order.leave(group)
            self._refused[group] = None
        else:
            self._order.enter(group, group.head.resource_request.needs, tier=1)
            group.yielded += 1
            for resource in verdict.resources:
                demand = self._demand.get(resource)
                if demand is None:
                    continue
                yielding = demand.yielding
                if len(yielding) > 2 * demand.groups + 16:
                    yielding[:] = [entry for entry in yielding if entry[3].gives_way(entry[2])]
                    heapify(yielding)
                heappush(yielding, (-verdict.until_weight, group.index, group.yielded, group))
            if verdict.re_evaluate_on is not None:
                self._wait_in_turn(group, verdict.re_evaluate_on)
        if verdict.available_after is not None:
            self._look_again_at(group, verdict.available_after)

    def _look_again_at(self, group: _Group, at: float) -> None:
        timed = self._timed
        if len(timed) > 2 * len(self._backlogged) + 16:
            timed[:] = {one[2]: one for one in timed if one[2].available_after == one[0]}.values()
            heapify(timed)
        group.available_after = at
        self._looks += 1
        heappush(timed, (at, self._looks, group))

    def _wait_in_turn(self, group: _Group, resource: SchedulerResourceKey) -> None:
        demand = self._demand[resource]
        if len(demand.waiting) > 2 * demand.groups + 16:
            demand.waiting = deque(
                entry for entry in demand.waiting if entry[1].gives_way(entry[0])
            )
        demand.waiting.append((group.yielded, group))

    def _look_again(self, group: _Group) -> None:
        """Back among those that may be looked at, if it stands aside for a policy's sake."""
        if group.tasks and (group.tier or not group.placed):
            self._version += 1
            self._re_enter(group)
        else:
            group.available_after = None

    def _forget_verdict(self, group: _Group) -> None:
        self._refused.pop(group, None)
        group.available_after = None

    def _re_enter(self, group: _Group) -> None:
        self._forget_verdict(group)
        self._order.enter(group, group.head.resource_request.needs)

    def _remove_head(self, group: _Group) -> None:
        tasks, queued = group.tasks, self._queued
        item = tasks.popleft()[1]
        del queued[item.task_id]
        self._version += 1
        while tasks and queued.get(tasks[0][1].task_id) is not tasks[0]:
            tasks.popleft()
        if not tasks:
            self._forget_verdict(group)
            self._order.leave(group)
            del self._backlogged[group]
            self._backlog_mark ^= group.mark
            self._retire(group)
        elif not group.placed or not self._order.has_needs(
            group, tasks[0][1].resource_request.needs
        ):
            self._re_enter(group)
        self._take_demand(group, item)

    def _retire(self, group: _Group) -> None:
        """Remember its place in the order for when it comes back, unless too many are away."""
        self._idle[group] = None
        if len(self._idle) > _IDLE_GROUPS_REMEMBERED:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            del self._groups[oldest.key]
            self._order.forget(oldest)

    def _add_demand(self, group: _Group, item: SchedulableTask) -> None:
        group.queued += 1
        for resource, amount in item.resource_request.amounts.items():
            demand = self._demand.get(resource)
            if demand is None:
                demand = self._demand[resource] = _Demand()
            before = group.demand.get(resource, 0)
            group.demand[resource] = before + amount
            demand.total += amount
            if not before:
                demand.groups += 1
                demand.version += 1
                demand.changed.append(group.key)
                demand.weight += group.weight

    def _take_demand(self, group: _Group, item: SchedulableTask) -> None:
        group.queued -= 1
        for resource, amount in item.resource_request.amounts.items():
            demand = self._demand[resource]
            group.demand[resource] -= amount
            demand.total -= amount
            if group.demand[resource]:
                continue
            demand.groups -= 1
            demand.version += 1
            demand.changed.append(group.key)
            demand.weight = demand.weight - group.weight if demand.groups else 0.0
            yielding = demand.yielding
            while yielding and -yielding[0][0] > demand.weight:
                _, _, time, other = heappop(yielding)
                if other.gives_way(time):
                    self._re_enter(other)


class _Window:
    """The `QueueView` of a queue: reads its ledgers, holds nothing itself."""

    __slots__ = ("_queue",)

    def __init__(self, queue: FairTaskQueue) -> None:
        self._queue = queue

    @property
    def queued_total(self) -> int:
        return len(self._queue._queued)

    def queued_by_group(self) -> Mapping[TaskGroupKey, int]:
        return {group.key: self.queued_in(group.key) for group in self._queue._backlogged}

    def queued_in(self, group: TaskGroupKey) -> int:
        known = self._queue._groups.get(group)
        return 0 if known is None else known.queued

    def demand_by_resource(self) -> Mapping[SchedulerResourceKey, int]:
        return {key: demand.total for key, demand in self._queue._demand.items() if demand.total}

    def demand(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int:
        known = self._queue._groups.get(group)
        return 0 if known is None else known.demand.get(resource, 0)

    def peer_demand(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int:
        demand = self._queue._demand.get(resource)
        return 0 if demand is None else demand.total - self.demand(group, resource)

    def queued_weight(self, resource: SchedulerResourceKey) -> float:
        demand = self._queue._demand.get(resource)
        return 0.0 if demand is None else demand.weight

    def backlog_version(self, resource: SchedulerResourceKey) -> int:
        demand = self._queue._demand.get(resource)
        return 0 if demand is None else demand.version

    def backlog_changes(
        self, resource: SchedulerResourceKey, since: int
    ) -> Iterable[TaskGroupKey] | None:
        demand = self._queue._demand.get(resource)
        if demand is None or since < 0 or demand.version - since > len(demand.changed):
            return None
        changed = demand.changed
        return islice(changed, len(changed) - (demand.version - since), None)

    def first_candidate(self, group: TaskGroupKey) -> SchedulableTask | None:
        known = self._queue._groups.get(group)
        return known.head if known is not None and known.tasks else None

    def first_candidates(self) -> Iterator[SchedulableTask]:
        return (group.head for group in self._queue._backlogged)

    def blocked_fingerprint(self) -> BlockedFingerprint | None:
        queue = self._queue
        if queue._order.placed < len(queue._backlogged):
            return None
        return BlockedFingerprint(queue._backlog_mark, queue._order.needs_placed())

    def contenders(
        self, group: TaskGroupKey, resource: SchedulerResourceKey
    ) -> Iterator[SchedulableTask]:
        for peer in self._queue._order.candidates(resource):
            if peer.key != group:
                yield peer.head
