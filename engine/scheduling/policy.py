"""Task admission policies: is this group within its share?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Protocol

import msgspec

from engine.events.kinds import DenialReason
from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import TaskAdmissionLease
from engine.scheduling.types import SchedulableTask
from engine.scheduling.views import QueueView, TaskAdmissionView


class TaskAdmissionPolicyDecision(msgspec.Struct, frozen=True, gc=False):
    allowed: bool
    reason: DenialReason | None = None
    resources: tuple[SchedulerResourceKey, ...] = ()
    available_after: float | None = None
    until_weight: float = math.inf
    """The answer stays while the groups queued for `resources` weigh at least this together."""
    re_evaluate_on: SchedulerResourceKey | None = None
    """The answer may be another one once units of this come free."""
    debt_changes: Mapping[tuple[TaskGroupKey, SchedulerResourceKey], int] = {}
    """What `on_acquire` is to book where this decision becomes a lease."""
    diagnostics: Mapping[str, Any] = {}


class PolicyStateDelta(msgspec.Struct, frozen=True, gc=False):
    """Changes of debt, in units, that the controller books with the lease."""

    debt_changes: Mapping[tuple[TaskGroupKey, SchedulerResourceKey], int] = {}
    diagnostics: Mapping[str, Any] = {}
    shares_may_grow: bool = False
    """A group that ceases to hold a resource leaves the others a larger share of it."""


class TaskAdmissionPolicy(Protocol):
    """Decides beyond the hard resource ledger, which it never changes.

    `evaluate` is pure and may be called any number of times. A head that it denies is asked about
    again once no other head is eligible, so it must not deny everyone while a slot is free.
    """

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision: ...

    def on_acquire(
        self, lease: TaskAdmissionLease, decision: TaskAdmissionPolicyDecision
    ) -> PolicyStateDelta: ...

    def on_release(self, lease: TaskAdmissionLease) -> PolicyStateDelta: ...


Rivals = Callable[[SchedulableTask], bool]
"""Which heads of other groups count as peers that want room?"""


def everybody(peer: SchedulableTask) -> bool:
    return True


class FairSharePolicy(TaskAdmissionPolicy, Protocol):
    """A policy that gives way only to peers which it allows whatever anybody else does, so that no
    two groups can deny each other."""

    def evaluate_among(
        self,
        item: SchedulableTask,
        queue_view: QueueView,
        admission_view: TaskAdmissionView,
        rivals: Rivals,
    ) -> TaskAdmissionPolicyDecision:
        """As `evaluate`, where only `rivals` are worth giving way to."""


_CONTENDERS_LOOKED_AT = 16

ALLOWED = TaskAdmissionPolicyDecision(True)
NO_CHANGE = PolicyStateDelta()


class StrictFairTaskAdmissionPolicy:
    """Caps a group at its share of each resource while another group needs the room.

    Share: limit x weight / weight of all groups with queued demand for the resource, rounded up, at
    least one task. The cap holds only while a peer with queued demand for the same resource could
    run now: it fits the free units and is within its own shares. So a group alone may use
    everything, and no slot stays free for a rule.
    """

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision:
        return self.evaluate_among(item, queue_view, admission_view, everybody)

    def evaluate_among(
        self,
        item: SchedulableTask,
        queue_view: QueueView,
        admission_view: TaskAdmissionView,
        rivals: Rivals,
    ) -> TaskAdmissionPolicyDecision:
        group = item.group.key
        held = admission_view.leased_by_group.get(group)
        if held is None:
            return ALLOWED
        for resource, amount in item.resource_request.needs:
            units = held.get(resource)
            if not units:
                continue
            limit = admission_view.limits[resource]
            until_weight = _weight_at_share(item.group.weight, amount, units, limit)
            if queue_view.queued_weight(resource) < until_weight:
                continue
            if not queue_view.peer_demand(group, resource):
                continue
            if any_contender(
                item,
                resource,
                queue_view,
                lambda peer: (
                    fits(peer, admission_view)
                    and rivals(peer)
                    and self._is_within_shares(peer, queue_view, admission_view)
                ),
            ):
                return TaskAdmissionPolicyDecision(
                    False, "group_cap", (resource,), until_weight=until_weight
                )
        return ALLOWED

    def _is_within_shares(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> bool:
        held = admission_view.leased_by_group.get(item.group.key)
        if held is None:
            return True
        weight, limits = item.group.weight, admission_view.limits
        return all(
            queue_view.queued_weight(resource)
            < _weight_at_share(weight, amount, held[resource], limits[resource])
            for resource, amount in item.resource_request.needs
            if resource in held
        )

    def on_acquire(
        self,
        lease: TaskAdmissionLease,
        decision: TaskAdmissionPolicyDecision,
    ) -> PolicyStateDelta:
        return NO_CHANGE

    def on_release(self, lease: TaskAdmissionLease) -> PolicyStateDelta:
        return NO_CHANGE


def _weight_at_share(weight: float, amount: int, held: int, limit: int) -> float:
    """Queued weight from which on one more lease would exceed the share of a group of that weight
    that holds some units of a resource already."""
    # held + amount > ceil(limit x weight / queued weight), with room for rounding in the sum.
    return limit * weight / (held + amount - 1) * (1 - 1e-9)


def any_contender(
    item: SchedulableTask,
    resource: SchedulerResourceKey,
    queue_view: QueueView,
    could_run: Callable[[SchedulableTask], bool],
) -> bool:
    """Is there one that could run? With many to look at, yes until the queue has looked."""
    contenders = queue_view.contenders(item.group.key, resource)
    looked_at = list(islice(contenders, _CONTENDERS_LOOKED_AT))
    return any(map(could_run, looked_at)) or len(looked_at) == _CONTENDERS_LOOKED_AT


def fits(item: SchedulableTask, admission_view: TaskAdmissionView) -> bool:
    """Are all units that it needs free, and is its group below its own limit?"""
    limit = item.group.admitted_limit
    if limit is not None and admission_view.leases.get(item.group.key, 0) >= limit:
        return False
    available = admission_view.available
    return all(
        available[resource] >= amount for resource, amount in item.resource_request.amounts.items()
    )
