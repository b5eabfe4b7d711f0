"""`TaskAdmissionController`: may this ready task become a running worker?

The hard ledger is asked first, then the policy. The policy decides about shares and never changes
the ledger, so that no fault of a policy can exceed a limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from engine.clock import Clock
from engine.events.kinds import DENIAL_ORDER, DenialReason
from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import (
    ReleaseReason,
    TaskAdmissionBlockSummary,
    TaskAdmissionDecision,
    TaskAdmissionDenied,
    TaskAdmissionLease,
    TaskReleaseResult,
)
from engine.scheduling.ledger import TaskLedger
from engine.scheduling.policy import PolicyStateDelta, TaskAdmissionPolicy
from engine.scheduling.types import ELIGIBLE, Eligibility, SchedulableTask
from engine.scheduling.views import QueueView, TaskAdmissionView

RELEASED = TaskReleaseResult(True, "released")
_LEASE_PREFIX = "t"
_MAX_REPORTED_HOLDERS = 8
"""Holders of a short resource that an explanation names; the others are counted."""


class BlockedHeads(NamedTuple):
    """The heads that are denied, and why."""

    denials: dict[TaskGroupKey, DenialReason]
    short: dict[SchedulerResourceKey, int]
    """The smallest amount that a denied head needs of each resource that is short."""
    holders: dict[SchedulerResourceKey, frozenset[TaskGroupKey]]
    """The groups that hold those resources."""
    available_after: float | None
    """Earliest time (monotonic seconds) at which a denial ends by itself."""

    def denied_alike(self, other: BlockedHeads) -> bool:
        """Whether the same heads are denied for the same reasons, whoever holds what is short."""
        return (
            self.denials == other.denials
            and self.available_after == other.available_after
            and self.short.keys() == other.short.keys()
        )


class TaskAdmissionController:
    """Issues and releases task leases. Leased units never exceed a limit.

    Confined to the thread of the event loop.

    Args:
        limits: Units of each scheduler resource. A task may only need resources that have a limit.
        policy: Decides beyond the limits.
        generation: Distinguishes the leases of this controller from those of an earlier one.
        issued: Leases that the run has issued before, whose ids are taken.

    Raises:
        ValueError: A limit is below 1.
    """

    def __init__(
        self,
        limits: Mapping[SchedulerResourceKey, int],
        policy: TaskAdmissionPolicy,
        clock: Clock,
        generation: int = 1,
        issued: int = 0,
    ) -> None:
        for key, limit in limits.items():
            if limit < 1:
                raise ValueError(f"limit of {key.label} must be at least 1, not {limit}")
        self.release_diagnostics: dict[ReleaseReason, int] = {}
        """Refused releases by reason."""
        self.debt_changed: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]] = {}
        """Debts that the last acquisition or release changed, with their new amounts in units."""
        self._ledger = TaskLedger(limits)
        self._policy = policy
        self._clock = clock
        self._generation = generation
        self._shut_down = False
        self._issued = issued
        self._leases: dict[str, TaskAdmissionLease] = {}
        self._spawned: set[str] = set()
        self._paid_off: dict[TaskGroupKey, None] = {}
        self._fewer_holders: dict[SchedulerResourceKey, None] = {}

    @property
    def limits(self) -> Mapping[SchedulerResourceKey, int]:
        return self._ledger.limits

    @property
    def active_leases(self) -> int:
        return len(self._leases)

    @property
    def leased(self) -> Mapping[SchedulerResourceKey, int]:
        """Leased units of each resource; a live view."""
        return self._ledger.live_view.leased

    def shutdown(self) -> None:
        """Deny everything from now on; live leases stay until they are released."""
        self._shut_down = True

    def is_eligible(self, item: SchedulableTask, view: QueueView) -> Eligibility:
        """Whether `try_acquire` would issue a lease now, and if not, what it waits for."""
        obstacle = self._obstacle(item)
        if obstacle is not None:
            return obstacle
        decision = self._policy.evaluate(item, view, self._ledger.live_view)
        if decision.allowed:
            return ELIGIBLE
        return Eligibility(
            False,
            decision.reason or "policy_denial",
            decision.resources,
            "peers",
            decision.available_after,
            decision.until_weight,
            decision.re_evaluate_on,
            decision.diagnostics,
        )

    def try_acquire(self, item: SchedulableTask, view: QueueView) -> TaskAdmissionDecision:
        """Issue a lease, or say why not."""
        obstacle = self._obstacle(item)
        if obstacle is not None:
            reason = obstacle.reason or "policy_denial"
            return TaskAdmissionDenied(item, reason, None, self.view())
        decision = self._policy.evaluate(item, view, self._ledger.live_view)
        if not decision.allowed:
            return TaskAdmissionDenied(
                item,
                decision.reason or "policy_denial",
                decision.available_after,
                self.view(),
                decision.diagnostics,
            )
        self._issued += 1
        lease = TaskAdmissionLease(
            f"{_LEASE_PREFIX}{self._issued}",
            item,
            item.resource_request,
            self._clock.monotonic(),
            self._generation,
        )
        delta = self._policy.on_acquire(lease, decision)
        self._leases[lease.lease_id] = lease
        self._ledger.add(lease, view)
        if delta.debt_changes or self.debt_changed:
            self._book_debt(delta)
        return lease

    def note_spawned(self, lease: TaskAdmissionLease) -> None:
        """A worker runs under this lease from now until its release."""
        if lease.lease_id in self._spawned or self._leases.get(lease.lease_id) is not lease:
            return
        self._spawned.add(lease.lease_id)
        self._ledger.start_running(lease)

    def release(self, lease: TaskAdmissionLease) -> TaskReleaseResult:
        """Release a lease exactly once. Any other call is refused with a reason; none raises."""
        lease_id = lease.lease_id
        if (
            self._leases.get(lease_id) is not lease
            or lease.controller_generation != self._generation
        ):
            refusal = self._refusal(lease)
            self.release_diagnostics[refusal] = self.release_diagnostics.get(refusal, 0) + 1
            return TaskReleaseResult(False, refusal, {"lease_id": lease_id})
        if lease_id in self._spawned:
            self._spawned.discard(lease_id)
            self._ledger.stop_running(lease)
        del self._leases[lease_id]
        self._ledger.remove(lease)
        delta = self._policy.on_release(lease)
        if delta.debt_changes or self.debt_changed:
            self._book_debt(delta)
        if delta.shares_may_grow:
            group = lease.item.group.key
            for resource in lease.resources.amounts:
                if not self._ledger.holds(group, resource):
                    self._fewer_holders[resource] = None
        return RELEASED

    def take_policy_changes(
        self,
    ) -> tuple[Collection[TaskGroupKey], Collection[SchedulerResourceKey]] | None:
        """Return and forget why the policy may decide otherwise than at the last call.

        Returns:
            The groups that paid off a debt, and the resources that lost a holder; None for neither.
        """
        if not self._paid_off and not self._fewer_holders:
            return None
        changes = self._paid_off, self._fewer_holders
        self._paid_off, self._fewer_holders = {}, {}
        return changes

    def view(self) -> TaskAdmissionView:
        """A copy of the ledger at this instant. Groups have no entries of 0."""
        return self._ledger.view()

    def explain_blocked(
        self, view: QueueView, heads: BlockedHeads | None = None
    ) -> TaskAdmissionBlockSummary:
        """Explain why no head may run. Costs O(groups + leases), so call it for a report only.

        Args:
            view: The queue.
            heads: Result of `blocked_heads` where it is known already.
        """
        heads = heads or self.blocked_heads(view)
        counts = Counter(heads.denials.values())
        ordered = sorted(counts, key=lambda reason: (-counts[reason], DENIAL_ORDER.index(reason)))
        return TaskAdmissionBlockSummary(
            view.queued_total,
            {reason: counts[reason] for reason in ordered},
            heads.available_after,
            {
                "groups": {group.label: denial for group, denial in heads.denials.items()},
                "resources": {
                    resource.label: self._shortage(resource, needed)
                    for resource, needed in heads.short.items()
                },
            },
        )

    def blocked_fingerprint(self, view: QueueView) -> object | None:
        """A value that equals an earlier one if the same heads are denied for the same reasons.

        Costs O(different needs). None if only `blocked_heads` can show that.
        """
        fingerprint = view.blocked_fingerprint()
        if fingerprint is None:
            return None
        available = self._ledger.available
        short = frozenset(
            resource
            for needs in fingerprint.needs
            for resource, amount in needs
            if available[resource] < amount
        )
        return fingerprint.backlog, short

    def blocked_heads(self, view: QueueView) -> BlockedHeads:
        """The heads that are denied, and why. Costs O(groups)."""
        available = self._ledger.available
        denials: dict[TaskGroupKey, DenialReason] = {}
        short: dict[SchedulerResourceKey, int] = {}
        available_after: float | None = None
        for head in view.first_candidates():
            verdict = self.is_eligible(head, view)
            if verdict.eligible:
                continue
            reason = denials[head.group.key] = verdict.reason or "policy_denial"
            after = verdict.available_after
            if after is not None and (available_after is None or after < available_after):
                available_after = after
            for resource, amount in head.resource_request.needs:
                if available[resource] < amount or (
                    reason != "no_capacity" and resource in verdict.resources
                ):
                    short[resource] = min(amount, short.get(resource, amount))
        known = self._ledger.live_view.holders
        holders = {resource: frozenset(known[resource].weights) for resource in short}
        return BlockedHeads(denials, short, holders, available_after)

    def _obstacle(self, item: SchedulableTask) -> Eligibility | None:
        """What denies the task whatever the policy says; None for nothing."""
        if self._shut_down:
            return Eligibility(False, "shutdown", waits_for="own_release")
        available = self._ledger.available
        for resource, amount in item.resource_request.amounts.items():
            if available[resource] < amount:
                return Eligibility(False, "no_capacity", (resource,), "resource")
        group = item.group
        limit = group.admitted_limit
        if limit is not None and self._ledger.leases.get(group.key, 0) >= limit:
            return Eligibility(
                False, "group_cap", tuple(item.resource_request.amounts), "own_release"
            )
        return None

    def _shortage(self, resource: SchedulerResourceKey, needed: int) -> dict[str, Any]:
        """Limit, free units and holders of a resource: the groups with the most leases by name, the
        others as a number."""
        now = self._clock.monotonic()
        by_group: dict[TaskGroupKey, list[TaskAdmissionLease]] = {}
        for lease in self._leases.values():
            if resource in lease.resources.amounts:
                by_group.setdefault(lease.item.group.key, []).append(lease)
        held = [
            (-len(leases), leases[0].acquired_at, group.label) for group, leases in by_group.items()
        ]
        held.sort()
        shortage: dict[str, Any] = {
            "needed": needed,
            "limit": self.limits[resource],
            "free": self._ledger.available[resource],
            "holders": [
                {"group": group, "leases": -count, "oldest_age": round(now - since, 3)}
                for count, since, group in held[:_MAX_REPORTED_HOLDERS]
            ],
        }
        if len(held) > _MAX_REPORTED_HOLDERS:
            shortage["more_holders"] = len(held) - _MAX_REPORTED_HOLDERS
        return shortage

    def _refusal(self, lease: TaskAdmissionLease) -> ReleaseReason:
        """Why a lease that is not live can't be released."""
        if lease.controller_generation != self._generation:
            return "wrong_controller_generation"
        if lease.lease_id in self._leases:
            return "stale_lease"
        number = lease.lease_id.removeprefix(_LEASE_PREFIX)
        if number.isdecimal() and 0 < int(number) <= self._issued:
            return "duplicate"
        return "unknown_lease"

    def _book_debt(self, delta: PolicyStateDelta) -> None:
        changed = self.debt_changed = self._ledger.change_debt(delta.debt_changes)
        for group, debts in changed.items():
            if not all(debts.values()):
                self._paid_off[group] = None
