"""`TaskAdmissionController`: may this ready task become a running worker?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from engine.clock import Clock
from engine.events.kinds import DENIAL_ORDER, DenialReason
from engine.identity import SchedulerResourceKey, TaskGroupKey
from engine.scheduling.decisions import (
    ReleaseReason,
    ReleaseResult,
    TaskAdmissionBlockSummary,
    TaskAdmissionDecision,
    TaskAdmissionDenied,
    TaskAdmissionLease,
)
from engine.scheduling.ledger import TaskLedger
from engine.scheduling.policy import PolicyStateDelta, TaskAdmissionPolicy
from engine.scheduling.types import ELIGIBLE, Eligibility, SchedulableTask
from engine.scheduling.views import QueueView, TaskAdmissionView

RELEASED = ReleaseResult(True, "released")
_LEASE_PREFIX = "t"
_HOLDERS_TOLD = 8


class BlockedHeads(NamedTuple):
    """Denials by group, the least amount that heads need of what is short, which groups hold that,
    and when a denial ends by itself."""

    denials: dict[TaskGroupKey, DenialReason]
    short: dict[SchedulerResourceKey, int]
    holders: dict[SchedulerResourceKey, frozenset[TaskGroupKey]]
    available_after: float | None

    def denied_alike(self, other: BlockedHeads) -> bool:
        """The same heads for the same reasons, whoever holds what is short."""
        return (
            self.denials == other.denials
            and self.available_after == other.available_after
            and self.short.keys() == other.short.keys()
        )


class TaskAdmissionController:
    """The ledger of scheduler resources. In flight never exceeds a limit.

    `generation` tells leases of an earlier controller from this one's. Every resource that a task
    asks for must have a limit. Confined to the loop's thread.
    """

    def __init__(
        self,
        limits: Mapping[SchedulerResourceKey, int],
        policy: TaskAdmissionPolicy,
        clock: Clock,
        generation: int = 1,
    ) -> None:
        for key, limit in limits.items():
            if limit < 1:
                raise ValueError(f"limit of {key.label} must be at least 1, not {limit}")
        self.release_diagnostics: dict[ReleaseReason, int] = {}
        """Refused releases by reason."""
        self.debt_changed: Mapping[TaskGroupKey, Mapping[SchedulerResourceKey, int]] = {}
        """What is owed now where the last acquisition or release changed it, in units."""
        self._ledger = TaskLedger(limits)
        self._policy = policy
        self._clock = clock
        self._generation = generation
        self._shut_down = False
        self._issued = 0
        self._leases: dict[str, TaskAdmissionLease] = {}
        self._spawned: set[str] = set()
        self._paid_off: dict[TaskGroupKey, None] = {}
        self._left: dict[SchedulerResourceKey, None] = {}

    @property
    def limits(self) -> Mapping[SchedulerResourceKey, int]:
        return self._ledger.limits

    @property
    def active_leases(self) -> int:
        return len(self._leases)

    @property
    def leased(self) -> Mapping[SchedulerResourceKey, int]:
        """Of each resource now; a live view."""
        return self._ledger.window.leased

    def shutdown(self) -> None:
        """Deny everything from now on; leases held stay until they are released."""
        self._shut_down = True

    def is_eligible(self, item: SchedulableTask, view: QueueView) -> Eligibility:
        obstacle = self._obstacle(item)
        if obstacle is not None:
            return obstacle
        decision = self._policy.evaluate(item, view, self._ledger.window)
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
        obstacle = self._obstacle(item)
        if obstacle is not None:
            reason = obstacle.reason or "policy_denial"
            return TaskAdmissionDenied(item, reason, None, self.view())
        decision = self._policy.evaluate(item, view, self._ledger.window)
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
        self._ledger.take(lease, view)
        if delta.debt_changes or self.debt_changed:
            self._book_debt(delta)
        return lease

    def note_spawned(self, lease: TaskAdmissionLease) -> None:
        """A worker runs under this lease from now until its release."""
        if lease.lease_id in self._spawned or self._leases.get(lease.lease_id) is not lease:
            return
        self._spawned.add(lease.lease_id)
        self._ledger.start_running(lease)

    def release(self, lease: TaskAdmissionLease) -> ReleaseResult:
        """Gives back exactly once; any other call is refused with its reason, and never raises."""
        lease_id = lease.lease_id
        if (
            self._leases.get(lease_id) is not lease
            or lease.controller_generation != self._generation
        ):
            refusal = self._refusal(lease)
            self.release_diagnostics[refusal] = self.release_diagnostics.get(refusal, 0) + 1
            return ReleaseResult(False, refusal, {"lease_id": lease_id})
        if lease_id in self._spawned:
            self._spawned.discard(lease_id)
            self._ledger.stop_running(lease)
        del self._leases[lease_id]
        self._ledger.give_back(lease)
        delta = self._policy.on_release(lease)
        if delta.debt_changes or self.debt_changed:
            self._book_debt(delta)
        if delta.shares_may_grow:
            group = lease.item.group.key
            for resource in lease.resources.amounts:
                if not self._ledger.holds(group, resource):
                    self._left[resource] = None
        return RELEASED

    def take_turned(
        self,
    ) -> tuple[Collection[TaskGroupKey], Collection[SchedulerResourceKey]] | None:
        """Why the policy may answer otherwise than before the last call: groups that paid off
        their debt, and resources that have a holder less. None where there is nothing."""
        if not self._paid_off and not self._left:
            return None
        turned = self._paid_off, self._left
        self._paid_off, self._left = {}, {}
        return turned

    def view(self) -> TaskAdmissionView:
        """A copy of the ledger, consistent at this instant. Zero entries are left out by group."""
        return self._ledger.view()

    def explain_blocked(
        self, view: QueueView, heads: BlockedHeads | None = None
    ) -> TaskAdmissionBlockSummary:
        """Why no head may run; `heads` where they are known already. Costs O(groups and leases):
        ask when it is to be told."""
        heads = heads or self.blocked_heads(view)
        counts = Counter(heads.denials.values())
        ordered = sorted(counts, key=lambda one: (-counts[one], DENIAL_ORDER.index(one)))
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
        """Equal to an earlier one where the same heads are denied for the same reasons as then.
        Costs O(different needs); None where only `blocked_heads` can tell."""
        found = view.blocked_fingerprint()
        if found is None:
            return None
        available = self._ledger.available
        short = frozenset(
            resource
            for needs in found.needs
            for resource, amount in needs
            if available[resource] < amount
        )
        return found.backlog, short

    def blocked_heads(self, view: QueueView) -> BlockedHeads:
        """Which heads are denied, and why. Costs O(groups)."""
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
        known = self._ledger.window.holders
        holders = {resource: frozenset(known[resource].weights) for resource in short}
        return BlockedHeads(denials, short, holders, available_after)

    def _obstacle(self, item: SchedulableTask) -> Eligibility | None:
        """What no policy can lift."""
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
        """Who holds how much of it: the groups with most leases, and how many more there are."""
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
                for count, since, group in held[:_HOLDERS_TOLD]
            ],
        }
        if len(held) > _HOLDERS_TOLD:
            shortage["more_holders"] = len(held) - _HOLDERS_TOLD
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
