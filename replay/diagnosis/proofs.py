"""Pure proofs over the state of one instant: what keeps this work from going on?"""

from __future__ import annotations

import math

from replay.diagnosis.verdicts import Blame
from replay.state.model import Aggregate, Ceiling, Group, State


def ceiling_verdict(ceiling: Ceiling, aggregate: Aggregate | None, now: float) -> str | None:
    """What keeps one more call of this resource from going out; None if it could go."""
    if ceiling.availability is not None:
        return outage_verdict(ceiling)
    if ceiling.blocked_until is not None and now < ceiling.blocked_until:
        return cooldown_verdict(ceiling)
    full = ceiling.in_flight >= ceiling.limit
    if full and ceiling.limit < ceiling.effective_max:
        if ceiling.wait_reason == "request_plateau":
            return "request_plateau"
        return "request_ramp" if _ramping(ceiling) else "request_domain_limit"
    if ceiling.wait_reason == "request_rate_budget":
        return "request_rate_budget"
    if full or (
        aggregate is not None
        and aggregate.static_cap is not None
        and aggregate.in_flight >= aggregate.static_cap
    ):
        return "request_aggregate_cap"
    return None


def cooldown_verdict(ceiling: Ceiling) -> str:
    """What holds up the calls to a resource that refuses more of them for a while."""
    return f"request_{ceiling.cooldown_reason}"


def outage_verdict(ceiling: Ceiling) -> str:
    """What a resource that answers nobody holds up: one that refuses every call with 429 asks to
    slow down, however long."""
    return "request_cooldown" if ceiling.out_class == "rate_limit" else "request_outage"


def _ramping(ceiling: Ceiling) -> bool:
    """The start-up ramp, and not an earlier rate limit, holds the ceiling down."""
    if ceiling.soft_ceiling is not None or ceiling.last_rate_limit_ordinal is not None:
        return False
    change = ceiling.last_change
    return ceiling.wait_reason == "ramp" or (change is not None and change.cause == "ramp")


def short_resource(state: State, needs: dict[str, int]) -> str | None:
    """The first scheduler resource with less free than one task of these needs takes.

    A resource that belongs to one model is named before one that everything shares.
    """
    short = [
        resource
        for resource, amount in needs.items()
        if resource in state.limits
        and state.limits[resource] - state.leased.get(resource, 0) < amount
    ]
    if not short:
        return None
    return min(short, key=lambda resource: (":" not in resource, resource))


Head = tuple[object, ...]
"""What the blame of a queue's head depends on, beside what is the same for all of them. A run with
very many columns has as many queues, of which most are alike."""


def head_of(state: State, group: str, needs: dict[str, int], request_resource: str | None) -> Head:
    """A head that is like no other, as its group owes something or is not known, has its name."""
    own = state.groups.get(group)
    if own is None or own.debt:
        return (group,)
    held = own.leased_amounts
    return (
        # By identity: groups whose tasks take the same share one mapping, as their tasks do.
        id(needs),
        request_resource,
        _denial(state, group),
        own.weight,
        own.queued > 0,
        tuple(held.items()) if held else None,
    )


def _denial(state: State, group: str) -> str | None:
    """Why the policy does not let this group in, as the last blocked event says."""
    denied_for = None if state.block is None else state.block.groups.get(group)
    return None if denied_for == "no_capacity" else denied_for


class Pressing:
    """Weights of the groups with queued work, by the resource they need: summed up once for all
    groups that are looked at in one instant."""

    def __init__(
        self,
        state: State,
        needing: dict[str, dict[str, None]],
        sums: dict[tuple[str, int], tuple[float, int]],
    ) -> None:
        """Sum up for one instant.

        Args:
            state: As it is then.
            needing: The groups that may compete, by resource.
            sums: Of earlier instants since which no queue became empty or ceased to be: by
                resource and number of groups that may compete, their weights and how many press.
        """
        self._state = state
        self._needing = needing
        self._sums = sums
        self._demand: dict[str, float] = {}
        self.blames: dict[Head, Blame] = {}
        """Blame of the heads that were looked at."""
        self._lacking: dict[int, Blame | None] = {}

    def lacking(self, needs: dict[str, int], leaked: dict[str, int]) -> Blame | None:
        """The hard resource that tasks of these needs lack; None if they would get all."""
        # By identity: groups whose tasks take the same share one mapping, as their tasks do.
        if id(needs) not in self._lacking:
            self._lacking[id(needs)] = lacking(self._state, needs, leaked)
        return self._lacking[id(needs)]

    def demand_weights(self, resource: str, own: Group) -> float:
        """Of `own` and all others with queued demand for the resource."""
        weights = self._demand.get(resource)
        if weights is None:
            weights = self._demand[resource] = sum(
                peer.weight
                for peer in self._state.groups.values()
                if peer.queued > 0 and resource in peer.demand
            )
        return weights if own.queued > 0 and resource in own.demand else weights + own.weight

    def weights(self, resource: str, own: Group) -> float | None:
        """Of `own` and all others that press; None if none does."""
        needing = self._needing.get(resource, {})
        sums = self._sums.get((resource, len(needing)))
        if sums is None:
            groups = self._state.groups
            pressing = [
                peer.weight
                for key in needing
                if (peer := groups.get(key)) is not None and peer.queued > 0
            ]
            sums = self._sums[resource, len(needing)] = (sum(pressing), len(pressing))
        weights, number = sums
        if own.queued <= 0 or own.key not in needing:
            return weights + own.weight if number else None
        return weights if number > 1 else None


def lacking(state: State, needs: dict[str, int], leaked: dict[str, int]) -> Blame | None:
    """The resource that is too small for these needs, or has too little free."""
    for resource, amount in needs.items():
        if amount > state.limits.get(resource, amount):
            return ("unsatisfiable", resource)
    short = short_resource(state, needs)
    if short is None:
        return None
    free = state.limits[short] - state.leased.get(short, 0)
    enough = leaked.get(short, 0) and free + leaked[short] >= needs[short]
    return ("leaked_lease" if enough else "task_capacity", short)


def share_resource(
    state: State, group: str, needs: dict[str, int], pressing: Pressing
) -> str | None:
    """The resource of which one more task would take this group above its strict share.

    Only while a peer presses: then the share is the limit divided by weight over the groups with
    work queued for the resource, rounded up, and no policy of shares gives more. Since all shares
    together are the limit, some peer with queued work holds less than its own, and what is free is
    its due.
    """
    own = state.groups.get(group)
    if own is None:
        return None
    for resource, amount in needs.items():
        held = own.leased_amounts.get(resource, 0)
        limit = state.limits.get(resource)
        if limit is None or held == 0:
            continue
        weights = pressing.weights(resource, own)
        if weights and held + amount > _strict_share(limit, amount, own.weight / weights):
            return resource
    return None


def queued_blame(
    state: State,
    group: str,
    needs: dict[str, int],
    request_resource: str,
    pressing: Pressing,
    leaked: dict[str, int],
    now: float,
) -> Blame:
    """Why the head of this group's queue has no lease."""
    lacking = pressing.lacking(needs, leaked)
    if lacking is not None:
        return lacking
    denied = policy_denial(state, group, needs, pressing)
    if denied is not None:
        return denied
    ceiling = state.ceilings.get(request_resource)
    if ceiling is not None and ceiling.availability is not None:
        return (outage_verdict(ceiling), request_resource)
    if ceiling is not None and ceiling.blocked_until is not None and now < ceiling.blocked_until:
        return (cooldown_verdict(ceiling), request_resource)
    return ("queue_order", "")


def policy_denial(
    state: State, group: str, needs: dict[str, int], pressing: Pressing
) -> Blame | None:
    """What the policy holds against a head that the hard resources would let through."""
    denied_for = _denial(state, group)
    own = state.groups.get(group)
    at_share = share_resource(state, group, needs, pressing)
    if own is not None and denied_for == "borrow_debt":
        owing = (resource for resource in needs if own.debt.get(resource))
        return ("borrow_debt", next(owing, None) or at_share or above_share(state, group, needs))
    if at_share is not None:
        return ("group_cap", at_share)
    if denied_for == "group_cap" or denied_for == "policy_denial":
        # All it needs is free, and a limit of the group that no event tells is all that is left.
        return ("group_cap", "")
    return None


def above_share(state: State, group: str, needs: dict[str, int]) -> str:
    """The resource of which the group holds most of the limit; "" where it holds nothing."""
    own = state.groups.get(group)
    if own is None:
        return ""
    held = {
        resource: own.leased_amounts.get(resource, 0) / limit
        for resource in needs
        if (limit := state.limits.get(resource))
    }
    return max(held, key=lambda resource: (held[resource], resource), default="")


def deny_each_other(state: State, needs_of: dict[str, dict[str, int]], pressing: Pressing) -> bool:
    """The hard resources would let at least two heads through, and policy lets none of them."""
    fitting = 0
    for key, needs in needs_of.items():
        own = state.groups.get(key)
        if own is None or own.queued <= 0 or short_resource(state, needs) is not None:
            continue
        if policy_denial(state, key, needs, pressing) is None:
            return False
        fitting += 1
    return fitting > 1


def is_eligible(state: State, group: str, needs: dict[str, int], pressing: Pressing) -> bool:
    """Every policy would let this head in: all fits, it owes nothing and stays within its share.

    The share is the strict one, over all groups with work queued for the resource.
    """
    own = state.groups.get(group)
    if own is None or not needs:
        return False
    for resource, amount in needs.items():
        limit = state.limits.get(resource)
        if limit is None or own.debt.get(resource):
            return False
        held = own.leased_amounts.get(resource, 0)
        if held == 0:
            continue
        weights = pressing.demand_weights(resource, own)
        if held + amount > _strict_share(limit, amount, own.weight / weights):
            return False
    return True


def _strict_share(limit: int, amount: int, part: float) -> int:
    """What a group with this part of all weights may hold of a resource; one task at the least."""
    return max(amount, math.ceil(limit * part - 1e-9))
