"""Task admission policies: is this group within its share?

`plans/task-admission.md` compares the policies and says why strict fair is the default.
"""

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
    """What a policy says of one task; a denial names the resources it is about."""

    allowed: bool
    reason: DenialReason | None = None
    resources: tuple[SchedulerResourceKey, ...] = ()
    available_after: float | None = None
    until_weight: float = math.inf
    """The denial holds while the groups queued for `resources` weigh at least this in total."""
    re_evaluate_on: SchedulerResourceKey | None = None
    """The denial may end once units of this resource come free."""
    debt_changes: Mapping[tuple[TaskGroupKey, SchedulerResourceKey], int] = {}
    """Changes in units that `on_acquire` books if this decision becomes a lease."""
    diagnostics: Mapping[str, Any] = {}


class PolicyStateDelta(msgspec.Struct, frozen=True, gc=False):
    """Changes of debt, in units, that the controller books with the lease."""

    debt_changes: Mapping[tuple[TaskGroupKey, SchedulerResourceKey], int] = {}
    diagnostics: Mapping[str, Any] = {}
    shares_may_grow: bool = False
    """Whether the others get a larger share of a resource that the group no longer holds."""


class TaskAdmissionPolicy(Protocol):
    """Decides beyond the hard resource ledger, which it never changes.

    `evaluate` has no effect and may be called any number of times. A denied head is evaluated again
    once no other head is eligible; a policy must not deny every head while one would fit.
    """

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision: ...

    def on_acquire(
        self, lease: TaskAdmissionLease, decision: TaskAdmissionPolicyDecision
    ) -> PolicyStateDelta: ...

    def on_release(self, lease: TaskAdmissionLease) -> PolicyStateDelta: ...


Rivals = Callable[[SchedulableTask], bool]
"""Returns whether the head of another group counts as a peer to give way to."""


def any_peer(peer: SchedulableTask) -> bool:
    """Counts every group that competes for a resource."""
    return True


class FairSharePolicy(TaskAdmissionPolicy, Protocol):
    """A policy that gives way only to peers that it allows whatever other groups do, so that no two
    groups can deny each other."""

    def evaluate_among(
        self,
        item: SchedulableTask,
        queue_view: QueueView,
        admission_view: TaskAdmissionView,
        rivals: Rivals,
    ) -> TaskAdmissionPolicyDecision:
        """As `evaluate`, but give way only to heads for which `rivals` is true."""


_MAX_CONTENDERS = 16
"""Contenders that one evaluation examines, so that its cost does not grow with the groups."""
_ROUNDING_ERROR = 1e-9
"""Relative tolerance for the sum of the queued weights."""

ALLOWED = TaskAdmissionPolicyDecision(True)
NO_CHANGE = PolicyStateDelta()


class StrictFairTaskAdmissionPolicy:
    """Caps a group at its share of each resource while another group needs the units.

    The share is limit x weight / total weight of the groups with queued demand for the resource,
    rounded up, and at least one task. The cap holds only while a peer with queued demand for the
    same resource could run now, that is, fits the free units and is within its own shares. A group
    without such a peer may use everything: a share never leaves a usable slot idle.
    """

    def evaluate(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> TaskAdmissionPolicyDecision:
        return self.evaluate_among(item, queue_view, admission_view, any_peer)

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
    """Smallest queued weight at which one more lease would exceed a group's share of a resource.

    Args:
        weight: Weight of the group.
        amount: Units of the lease.
        held: Units that the group holds already, at least 1.
        limit: Units that there are.
    """
    # held + amount > ceil(limit x weight / queued weight), solved for the queued weight.
    return limit * weight / (held + amount - 1) * (1 - _ROUNDING_ERROR)


def any_contender(
    item: SchedulableTask,
    resource: SchedulerResourceKey,
    queue_view: QueueView,
    could_run: Callable[[SchedulableTask], bool],
) -> bool:
    """Whether a head of another group that needs `resource` could run now.

    With more than `_MAX_CONTENDERS` the answer is True. That is safe: the head only gives way, and
    is evaluated again once the queue has found that no peer can run.
    """
    contenders = queue_view.contenders(item.group.key, resource)
    examined = list(islice(contenders, _MAX_CONTENDERS))
    return any(map(could_run, examined)) or len(examined) == _MAX_CONTENDERS


def fits(item: SchedulableTask, admission_view: TaskAdmissionView) -> bool:
    """Whether all units that the task needs are free and its group is below its own limit."""
    limit = item.group.admitted_limit
    if limit is not None and admission_view.leases.get(item.group.key, 0) >= limit:
        return False
    available = admission_view.available
    return all(
        available[resource] >= amount for resource, amount in item.resource_request.amounts.items()
    )
