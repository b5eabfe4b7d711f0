"""`FairTaskQueue`: which ready task is next in fair order?

The queue keeps the tasks of each group and the demand for each resource, and remembers why a head
was not eligible, so that a blocked head is evaluated again only when something it waits for has
changed. The order itself is `FairOrder`.
"""

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

_MAX_REMEMBERED_CHANGES = 64
_MAX_IDLE_GROUPS = 1024
"""Groups without tasks whose tag is kept. One that was forgotten may be served once too early."""

EligibilityCheck = Callable[[SchedulableTask, QueueView], Eligibility]


class _Group(OrderedGroup):
    """A group with its tasks in FIFO order. An entry that `_queued` does not hold is stale."""

    __slots__ = ("available_after", "demand", "mark", "queued", "tasks", "yielded")

    def __init__(self, key: TaskGroupKey, index: int, weight: float) -> None:
        super().__init__(key, index, weight)
        self.mark = hash((index,))
        self.tasks: deque[tuple[int, SchedulableTask]] = deque()
        self.queued = 0
        self.demand: dict[SchedulerResourceKey, int] = {}
        self.available_after: float | None = None
        self.yielded = 0
        """Number of times that it has begun to give way."""

    @property
    def head(self) -> SchedulableTask:
        return self.tasks[0][1]

    def gives_way(self, time: int) -> bool:
        """Whether it still gives way for the n-th time, n being `time`."""
        return self.yielded == time and bool(self.tier) and bool(self.tasks)


class _Demand:
    """What the queued tasks need of one resource, and which groups give way over it.

    `yielding` is a heap of (-weight, index, n, group): the group is re-evaluated once the queued
    weight falls below `weight`. `waiting` has (n, group) in turn: each release has one of them
    re-evaluated. Both entries are valid while the group gives way for the n-th time. `version`
    counts the changes of the set of groups with demand; `changed` has the groups of the last ones.
    """

    __slots__ = ("changed", "groups", "total", "version", "waiting", "weight", "yielding")

    def __init__(self) -> None:
        self.groups = 0
        self.total = 0
        self.version = 0
        self.changed: deque[TaskGroupKey] = deque(maxlen=_MAX_REMEMBERED_CHANGES)
        self.weight = 0.0
        self.yielding: list[tuple[float, int, int, _Group]] = []
        self.waiting: deque[tuple[int, _Group]] = deque()


class FairTaskQueue:
    """Confined to the thread of the event loop. `commit` is the only removal in order.

    A head that is not eligible is evaluated once and then stands aside: it is parked on the
    resource that it lacks; or it leaves the order until its group releases a lease; or it gives way
    to its peers (tier 1 of the order), and is re-evaluated when none of them can run or when its
    share has grown. Evaluating every head in every pass would cost O(groups) per dispatch.
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
        """XOR of the marks of the backlogged groups: equal when the same groups are backlogged."""
        self._idle: dict[_Group, None] = {}
        self._refused: dict[_Group, None] = {}
        self._deadlines: list[tuple[float, int, _Group]] = []
        self._deadline_serial = 0
        self._demand: dict[SchedulerResourceKey, _Demand] = {}
        self._view = _LiveView(self)

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def next_deadline(self) -> float | None:
        """Earliest time (monotonic seconds) at which a policy may admit a head; None for none."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].available_after != deadlines[0][0]:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def view(self) -> QueueView:
        return self._view

    def enqueue(self, items: Iterable[SchedulableTask]) -> list[str]:
        """Queue the items; returns the ids that were accepted. A queued id is left as it is."""
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
        """The first eligible head in fair order; None for none. Removes nothing, and leaves virtual
        time as it is."""
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
        """Remove the selected task; None if the queue has changed since the selection."""
        item = selection.item
        if selection.sequence_version != self._version:
            return None
        group = self._groups[item.group.key]
        self._order.advance(group)
        self._remove_head(group)
        return item

    def discard(self, task_id: str) -> bool:
        """Remove a task out of turn; False if it is not queued."""
        entry = self._queued.get(task_id)
        if entry is None:
            return False
        group = self._groups[entry[1].group.key]
        if group.tasks[0] is entry:
            self._remove_head(group)
        else:
            del self._queued[task_id]
            self._version += 1
            self._remove_demand(group, entry[1])
        return True

    def unpark(
        self, resources: Iterable[SchedulerResourceKey], group: TaskGroupKey | None = None
    ) -> None:
        """Units came free: wake the heads that wait for them.

        Args:
            resources: The resources of the released lease.
            group: The group that held it; None for none.
        """
        for resource in resources:
            self._order.unpark(resource)
            demand = self._demand.get(resource)
            while demand is not None and demand.waiting:
                time, waiting = demand.waiting.popleft()
                if waiting.gives_way(time):
                    self._re_evaluate(waiting)
                    break
        owner = None if group is None else self._groups.get(group)
        if owner is not None:
            self._re_evaluate(owner)

    def reconsider(
        self, groups: Iterable[TaskGroupKey], resources: Iterable[SchedulerResourceKey] = ()
    ) -> None:
        """Re-evaluate heads about which the policy may decide otherwise than before.

        Args:
            groups: Groups whose own heads are concerned.
            resources: Every group that gives way over one of these is concerned.
        """
        for key in groups:
            group_queue = self._groups.get(key)
            if group_queue is not None:
                self._re_evaluate(group_queue)
        for resource in resources:
            demand = self._demand.get(resource)
            if demand is None:
                continue
            yielding, demand.yielding = demand.yielding, []
            for _, _, time, group in yielding:
                if group.gives_way(time):
                    self._re_evaluate(group)

    def reconsider_due(self, now: float) -> None:
        """Re-evaluate the heads whose time has come; `now` is in monotonic seconds."""
        while (at := self.next_deadline) is not None and at <= now:
            self._re_evaluate(self._deadlines[0][2])

    def _hold_back(self, group: _Group, verdict: Eligibility) -> None:
        if verdict.waits_for == "resource":
            self._order.park(group, verdict.resources[0])
        elif verdict.waits_for == "own_release":
            self._order.leave(group)
        elif group.tier:
            # Denied although no peer can run: only another decision of its policy admits it.
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
            self._re_evaluate_at(group, verdict.available_after)

    def _re_evaluate_at(self, group: _Group, at: float) -> None:
        deadlines = self._deadlines
        if len(deadlines) > 2 * len(self._backlogged) + 16:
            deadlines[:] = {
                entry[2]: entry for entry in deadlines if entry[2].available_after == entry[0]
            }.values()
            heapify(deadlines)
        group.available_after = at
        self._deadline_serial += 1
        heappush(deadlines, (at, self._deadline_serial, group))

    def _wait_in_turn(self, group: _Group, resource: SchedulerResourceKey) -> None:
        demand = self._demand[resource]
        if len(demand.waiting) > 2 * demand.groups + 16:
            demand.waiting = deque(
                entry for entry in demand.waiting if entry[1].gives_way(entry[0])
            )
        demand.waiting.append((group.yielded, group))

    def _re_evaluate(self, group: _Group) -> None:
        """Put a group back into the order if it stands aside because of its policy."""
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
        self._remove_demand(group, item)

    def _retire(self, group: _Group) -> None:
        """Keep the tag of a group without tasks, up to `_MAX_IDLE_GROUPS` of them."""
        self._idle[group] = None
        if len(self._idle) > _MAX_IDLE_GROUPS:
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

    def _remove_demand(self, group: _Group, item: SchedulableTask) -> None:
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


class _LiveView:
    """The `QueueView` of a queue; it has no state of its own."""

    __slots__ = ("_queue",)

    def __init__(self, queue: FairTaskQueue) -> None:
        self._queue = queue

    @property
    def queued_total(self) -> int:
        return len(self._queue._queued)

    def queued_by_group(self) -> Mapping[TaskGroupKey, int]:
        return {group.key: self.queued_in(group.key) for group in self._queue._backlogged}

    def queued_in(self, group: TaskGroupKey) -> int:
        group_queue = self._queue._groups.get(group)
        return 0 if group_queue is None else group_queue.queued

    def demand_by_resource(self) -> Mapping[SchedulerResourceKey, int]:
        return {key: demand.total for key, demand in self._queue._demand.items() if demand.total}

    def demand(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int:
        group_queue = self._queue._groups.get(group)
        return 0 if group_queue is None else group_queue.demand.get(resource, 0)

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
        group_queue = self._queue._groups.get(group)
        return group_queue.head if group_queue is not None and group_queue.tasks else None

    def first_candidates(self) -> Iterator[SchedulableTask]:
        return (group.head for group in self._queue._backlogged)

    def blocked_fingerprint(self) -> BlockedFingerprint | None:
        queue = self._queue
        if queue._order.placed < len(queue._backlogged):
            return None
        return BlockedFingerprint(queue._backlog_mark, queue._order.needs_in_order())

    def contenders(
        self, group: TaskGroupKey, resource: SchedulerResourceKey
    ) -> Iterator[SchedulableTask]:
        for peer in self._queue._order.candidates(resource):
            if peer.key != group:
                yield peer.head
