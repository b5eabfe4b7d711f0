"""What policies may read of the queue and of the ledger: live views, not copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.types import Needs, SchedulableTask


class Holders:
    """The groups that hold one resource, and the total weight of those without queued demand.

    The groups that compete for a resource are those with queued demand, whose weight the queue
    keeps, and those that only hold leases. The weight of the latter depends on both queue and
    ledger; summing it would cost O(groups) per decision. So the sum is kept, and updated with the
    groups whose queued demand began or ended since the last call.
    """

    __slots__ = ("_backlog", "_idle", "_idle_weight", "weights")

    def __init__(self) -> None:
        self.weights: dict[TaskGroupKey, float] = {}
        self._idle: dict[TaskGroupKey, float] = {}
        self._idle_weight = 0.0
        self._backlog = -1

    def add(self, group: TaskGroupKey, weight: float, queued: bool) -> None:
        """Add a group with its first units. `queued`: it has queued demand for the resource."""
        self.weights[group] = weight
        if not queued:
            self._idle[group] = weight
            self._idle_weight += weight

    def remove(self, group: TaskGroupKey) -> None:
        """The group gave back its last units."""
        del self.weights[group]
        weight = self._idle.pop(group, None)
        if weight is not None:
            self._idle_weight = self._idle_weight - weight if self._idle else 0.0

    def idle_weight(self, resource: SchedulerResourceKey, queue_view: QueueView) -> float:
        """Sum of the weights of the holders without queued demand for the resource."""
        backlog = queue_view.backlog_version(resource)
        if backlog == self._backlog:
            return self._idle_weight
        changed = queue_view.backlog_changes(resource, self._backlog)
        self._backlog = backlog
        if changed is None:
            changed, self._idle, self._idle_weight = self.weights, {}, 0.0
        for group in changed:
            self._idle_weight -= self._idle.pop(group, 0.0)
            weight = self.weights.get(group)
            if weight is not None and not queue_view.demand(group, resource):
                self._idle[group] = weight
                self._idle_weight += weight
        if not self._idle:
            self._idle_weight = 0.0
        return self._idle_weight

    def copy(self) -> Holders:
        copied = Holders()
        copied.weights = dict(self.weights)
        return copied


class BlockedFingerprint(NamedTuple):
    """Identifies why every head of a queue is blocked.

    `backlog` is equal for equal sets of groups with queued work; `needs` iterates over the
    different amounts that their heads need.
    """

    backlog: int
    needs: Iterator[Needs]


class QueueView(Protocol):
    """The contents of the queue, without any eligibility.

    A live view: use it before the queue changes. Methods that return a mapping or an iterator cost
    O(groups), the others O(1).
    """

    @property
    def queued_total(self) -> int: ...

    def queued_by_group(self) -> Mapping[TaskGroupKey, int]: ...

    def queued_in(self, group: TaskGroupKey) -> int:
        """Number of queued tasks of the group."""

    def demand_by_resource(self) -> Mapping[SchedulerResourceKey, int]:
        """Units that all queued tasks need in total."""

    def demand(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int:
        """Units of the resource that queued tasks of the group need."""

    def peer_demand(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int:
        """Units that the queued tasks of all other groups need."""

    def queued_weight(self, resource: SchedulerResourceKey) -> float:
        """Sum of the weights of the groups with queued demand for the resource."""

    def backlog_version(self, resource: SchedulerResourceKey) -> int:
        """Number of times that a group began or ceased to have queued demand for the resource."""

    def backlog_changes(
        self, resource: SchedulerResourceKey, since: int
    ) -> Iterable[TaskGroupKey] | None:
        """The groups that did so since that version; None if it is too old to be known."""

    def first_candidate(self, group: TaskGroupKey) -> SchedulableTask | None:
        """The head of the group."""

    def first_candidates(self) -> Iterator[SchedulableTask]:
        """The head of every group."""

    def blocked_fingerprint(self) -> BlockedFingerprint | None:
        """The fingerprint once nothing can be selected. None if a head stands aside for any reason
        but missing units. Costs O(different needs)."""

    def contenders(
        self, group: TaskGroupKey, resource: SchedulerResourceKey
    ) -> Iterator[SchedulableTask]:
        """Heads of other groups that need the resource and are not known to be blocked."""


@dataclass(frozen=True, slots=True)
class TaskAdmissionView:
    """The ledger of task admission. Amounts are in units; `leases` and `running` count leases by
    group. Groups without leases have no entry."""

    limits: Mapping[SchedulerResourceKey, int]
    available: Mapping[SchedulerResourceKey, int]
    leased: Mapping[SchedulerResourceKey, int]
    leased_by_group: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]]
    running_by_group: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]]
    debt_by_group: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]]
    leases: Mapping[TaskGroupKey, int]
    running: Mapping[TaskGroupKey, int]
    holders: Mapping[SchedulerResourceKey, Holders] = field(default_factory=dict)
    """The groups of `leased_by_group` by resource."""

    def competing_weight(self, resource: SchedulerResourceKey, queue_view: QueueView) -> float:
        """Total weight of the groups that hold the resource or have queued demand for it."""
        return queue_view.queued_weight(resource) + self.idle_weight(resource, queue_view)

    def idle_weight(self, resource: SchedulerResourceKey, queue_view: QueueView) -> float:
        """Total weight of the groups that hold the resource without queued demand for it."""
        holders = self.holders.get(resource)
        return 0.0 if holders is None else holders.idle_weight(resource, queue_view)
