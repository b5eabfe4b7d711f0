"""Task admission policies: is this group within its share?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import msgspec

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.types import (
    DenialReason,
    QueueView,
    SchedulableTask,
    TaskAdmissionLease,
    TaskAdmissionView,
)


class TaskAdmissionPolicyDecision(msgspec.Struct, frozen=True):
    allowed: bool
    reason: DenialReason | None = None
    resources: tuple[SchedulerResourceKey, ...] = ()
    available_after: float | None = None
    until_weight: float = math.inf
    """The answer stays while the groups queued for `resources` weigh at least this together."""
    diagnostics: Mapping[str, Any] = {}


class PolicyStateDelta(msgspec.Struct, frozen=True):
    """Changes of debt, in units, that the controller books with the lease."""

    debt_changes: Mapping[tuple[TaskGroupKey, SchedulerResourceKey], int] = {}
    diagnostics: Mapping[str, Any] = {}


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
        group = item.group.key
        for resource in item.resource_request.amounts:
            until_weight = _weight_at_share(item, resource, admission_view)
            if queue_view.queued_weight(resource) < until_weight:
                continue
            if not queue_view.peer_demand(group, resource):
                continue
            contenders = queue_view.contenders(group, resource)
            if _is_pressed(contenders, queue_view, admission_view):
                return TaskAdmissionPolicyDecision(
                    False, "group_cap", (resource,), until_weight=until_weight
                )
        return ALLOWED

    def on_acquire(
        self,
        lease: TaskAdmissionLease,
        decision: TaskAdmissionPolicyDecision,
    ) -> PolicyStateDelta:
        return NO_CHANGE

    def on_release(self, lease: TaskAdmissionLease) -> PolicyStateDelta:
        return NO_CHANGE


def _weight_at_share(
    item: SchedulableTask, resource: SchedulerResourceKey, admission_view: TaskAdmissionView
) -> float:
    """Queued weight from which on one more lease would exceed the group's share."""
    held = admission_view.leased_by_group.get(item.group.key, {}).get(resource, 0)
    if not held:
        return math.inf
    # held + amount > ceil(limit x weight / queued weight), with room for rounding in the sum.
    units = held + item.resource_request.amounts[resource] - 1
    return admission_view.limits[resource] * item.group.weight / units * (1 - 1e-9)


def _is_pressed(
    contenders: Iterator[SchedulableTask],
    queue_view: QueueView,
    admission_view: TaskAdmissionView,
) -> bool:
    """Is there one that could run? With many to look at, yes until the queue has looked."""
    looked_at = list(islice(contenders, _CONTENDERS_LOOKED_AT))
    if any(_could_run(peer, queue_view, admission_view) for peer in looked_at):
        return True
    return len(looked_at) == _CONTENDERS_LOOKED_AT


def _could_run(
    peer: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
) -> bool:
    limit = peer.group.admitted_limit
    if limit is not None and admission_view.leases.get(peer.group.key, 0) >= limit:
        return False
    return all(
        admission_view.available[resource] >= amount
        and queue_view.queued_weight(resource) < _weight_at_share(peer, resource, admission_view)
        for resource, amount in peer.resource_request.amounts.items()
    )
