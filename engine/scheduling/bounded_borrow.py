"""`BoundedBorrowTaskAdmissionPolicy`: which group uses more than its share, and must repay it?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import TaskAdmissionLease
from engine.scheduling.policy import (
    ALLOWED,
    NO_CHANGE,
    PolicyStateDelta,
    Rivals,
    TaskAdmissionPolicyDecision,
    any_contender,
    any_peer,
    fits,
)
from engine.scheduling.types import SchedulableTask
from engine.scheduling.views import QueueView, TaskAdmissionView

_MAX_DEBTORS = 16
"""Indebted groups that one evaluation examines, so that its cost does not grow with the groups."""
_ROUNDING_ERROR = 1e-9
"""Tolerance for the sum of the competing weights."""


@dataclass(frozen=True)
class BoundedBorrowTaskAdmissionPolicyConfig:
    """Parameters of bounded borrow.

    Attributes:
        strict_share_rounding: How a share is rounded to whole units.
        default_borrow_ceiling: Units that a group may owe of a resource; None for no ceiling. A
            ceiling holds also while no other group is queued: it reserves units for groups to come.
        borrow_ceilings: Ceilings by group and resource that replace the default.
        repay_when_withheld: Whether units that a peer takes while an indebted group could have used
            them reduce that debt.
    """

    strict_share_rounding: Literal["ceil", "floor"] = "ceil"
    default_borrow_ceiling: int | None = None
    borrow_ceilings: Mapping[tuple[TaskGroupKey, SchedulerResourceKey], int] = field(
        default_factory=dict
    )
    repay_when_withheld: bool = True

    def __post_init__(self) -> None:
        if self.strict_share_rounding not in ("ceil", "floor"):
            raise ValueError(f"rounding must be ceil or floor, not {self.strict_share_rounding!r}")
        for ceiling in (self.default_borrow_ceiling, *self.borrow_ceilings.values()):
            if ceiling is not None and ceiling < 0:
                raise ValueError(f"a borrow ceiling must be 0 or more, not {ceiling}")


_DEFAULT_CONFIG = BoundedBorrowTaskAdmissionPolicyConfig()


class BoundedBorrowTaskAdmissionPolicy:
    """Lends units above the strict share while no eligible peer can use them, and records the debt.

    The strict share is limit x weight / total weight of the groups that hold the resource or have
    demand queued for it, rounded, and at least one unit. A group that holds nothing of a resource
    is never denied. A group that owes units, or would exceed its share, gets none while a peer that
    owes nothing and is within its shares fits the free units. Such a peer is allowed whatever other
    groups do, so no two groups can deny each other.
    """

    def __init__(self, config: BoundedBorrowTaskAdmissionPolicyConfig = _DEFAULT_CONFIG) -> None:
        self._config = config
        self._round = math.ceil if config.strict_share_rounding == "ceil" else math.floor

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
        held_units = admission_view.leased_by_group.get(group, {})
        debts = admission_view.debt_by_group.get(group, {})
        changes: dict[tuple[TaskGroupKey, SchedulerResourceKey], int] = {}
        for resource, amount in item.resource_request.amounts.items():
            held, debt = held_units.get(resource, 0), debts.get(resource, 0)
            above = held + amount - self._share(item, resource, queue_view, admission_view)
            if above <= 0 and not debt:
                continue
            borrowed = min(amount, max(0, above))
            if held:
                wanted = queue_view.peer_demand(group, resource) > 0
                if wanted and any_contender(
                    item,
                    resource,
                    queue_view,
                    lambda peer: (
                        fits(peer, admission_view)
                        and rivals(peer)
                        and self._is_unencumbered(peer, queue_view, admission_view)
                    ),
                ):
                    return self._give_way(item, resource, debt, queue_view, admission_view)
                ceiling = self._ceiling(group, resource)
                if borrowed and ceiling is not None and debt + borrowed > ceiling:
                    return TaskAdmissionPolicyDecision(
                        False,
                        "borrow_debt",
                        (resource,),
                        diagnostics={"debt": debt, "ceiling": ceiling},
                    )
            if borrowed:
                changes[group, resource] = borrowed
        if admission_view.debt_by_group and self._config.repay_when_withheld:
            self._repay(item, queue_view, admission_view, changes)
        return TaskAdmissionPolicyDecision(True, debt_changes=changes) if changes else ALLOWED

    def _is_unencumbered(
        self, item: SchedulableTask, queue_view: QueueView, admission_view: TaskAdmissionView
    ) -> bool:
        """Whether it owes nothing and stays within its shares, so that it gives way to no group."""
        group = item.group.key
        held_units = admission_view.leased_by_group.get(group)
        if not held_units:
            return True
        debts = admission_view.debt_by_group.get(group, {})
        for resource, amount in item.resource_request.amounts.items():
            held = held_units.get(resource, 0)
            if not held:
                continue
            share = self._share(item, resource, queue_view, admission_view)
            if debts.get(resource) or held + amount > share:
                return False
        return True

    def on_acquire(
        self, lease: TaskAdmissionLease, decision: TaskAdmissionPolicyDecision
    ) -> PolicyStateDelta:
        return PolicyStateDelta(decision.debt_changes) if decision.debt_changes else NO_CHANGE

    def on_release(self, lease: TaskAdmissionLease) -> PolicyStateDelta:
        """Every lease of a group that ends repays the units that it held."""
        group = lease.item.group.key
        return PolicyStateDelta(
            {(group, resource): -amount for resource, amount in lease.resources.amounts.items()},
            shares_may_grow=True,
        )

    def _give_way(
        self,
        item: SchedulableTask,
        resource: SchedulerResourceKey,
        debt: int,
        queue_view: QueueView,
        admission_view: TaskAdmissionView,
    ) -> TaskAdmissionPolicyDecision:
        if debt:
            return TaskAdmissionPolicyDecision(
                False, "borrow_debt", (resource,), diagnostics={"debt": debt}
            )
        amount = item.resource_request.amounts[resource]
        units = admission_view.leased_by_group[item.group.key][resource] + amount
        if self._config.strict_share_rounding == "ceil":
            units -= 1
        until = admission_view.limits[resource] * item.group.weight / units
        until -= admission_view.idle_weight(resource, queue_view)
        return TaskAdmissionPolicyDecision(
            False, "group_cap", (resource,), until_weight=until * (1 - _ROUNDING_ERROR)
        )

    def _share(
        self,
        item: SchedulableTask,
        resource: SchedulerResourceKey,
        queue_view: QueueView,
        admission_view: TaskAdmissionView,
    ) -> int:
        weight = item.group.weight
        competing = max(weight, admission_view.competing_weight(resource, queue_view))
        exact = admission_view.limits[resource] * weight / competing
        error = (
            _ROUNDING_ERROR if self._config.strict_share_rounding == "floor" else -_ROUNDING_ERROR
        )
        return max(1, self._round(exact + error))

    def _ceiling(self, group: TaskGroupKey, resource: SchedulerResourceKey) -> int | None:
        config = self._config
        return config.borrow_ceilings.get((group, resource), config.default_borrow_ceiling)

    def _repay(
        self,
        item: SchedulableTask,
        queue_view: QueueView,
        admission_view: TaskAdmissionView,
        changes: dict[tuple[TaskGroupKey, SchedulerResourceKey], int],
    ) -> None:
        """Add repayments to `changes`: each unit that the lease takes repays one unit of the oldest
        debt of a group that could run but for its debt. Borrowed units repay nothing."""
        group = item.group.key
        debtors = list(islice(admission_view.debt_by_group.items(), _MAX_DEBTORS))
        for resource, amount in item.resource_request.amounts.items():
            if (group, resource) in changes:
                continue
            for debtor, debts in debtors:
                debt = debts.get(resource, 0)
                head = queue_view.first_candidate(debtor) if debt and debtor != group else None
                if (
                    head is not None
                    and resource in head.resource_request.amounts
                    and fits(head, admission_view)
                ):
                    changes[debtor, resource] = -min(amount, debt)
                    break
