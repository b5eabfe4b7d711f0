"""Pure proofs over the state of one instant: what keeps this work from going on?"""

from __future__ import annotations

import math

from replay.diagnosis.verdicts import Blame
from replay.state import Aggregate, Ceiling, State


def ceiling_verdict(ceiling: Ceiling, aggregate: Aggregate | None, now: float) -> str | None:
    """What keeps one more call of this resource from going out; None if it could go."""
    if ceiling.blocked_until is not None and now < ceiling.blocked_until:
        return "request_cooldown"
    full = ceiling.in_flight >= ceiling.limit
    if full and ceiling.limit < ceiling.effective_max:
        return "request_ramp" if _ramping(ceiling) else "request_domain_limit"
    if full or (
        aggregate is not None
        and aggregate.static_cap is not None
        and aggregate.in_flight >= aggregate.static_cap
    ):
        return "request_aggregate_cap"
    return None


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


def share_resource(
    state: State, group: str, needs: dict[str, int], needing: dict[str, dict[str, None]]
) -> str | None:
    """The resource of which one more task would take this group above its strict share.

    Only while a peer presses: then the share is the limit divided by weight over the groups with
    work queued for the resource, rounded up, and no policy of shares gives more. Since all shares
    together are the limit, some peer with queued work holds less than its own, and what is free is
    its due. `needing` gives the groups that may compete, by resource.
    """
    own = state.groups.get(group)
    if own is None:
        return None
    for resource, amount in needs.items():
        held = own.leased_amounts.get(resource, 0)
        limit = state.limits.get(resource)
        if limit is None or held == 0:
            continue
        weights = own.weight
        pressed = False
        for peer_key in needing.get(resource, ()):
            peer = state.groups.get(peer_key)
            if peer is not None and peer.queued > 0 and peer_key != group:
                weights += peer.weight
                pressed = True
        share = max(amount, math.ceil(limit * own.weight / weights - 1e-9))
        if pressed and held + amount > share:
            return resource
    return None


def queued_blame(
    state: State,
    group: str,
    needs: dict[str, int],
    request_resource: str,
    needing: dict[str, dict[str, None]],
    now: float,
) -> Blame:
    """Why the head of this group's queue has no lease."""
    short = short_resource(state, needs)
    if short is not None:
        return ("task_capacity", short)
    at_share = share_resource(state, group, needs, needing)
    if at_share is not None:
        return ("group_cap", at_share)
    ceiling = state.ceilings.get(request_resource)
    if ceiling is not None and ceiling.blocked_until is not None and now < ceiling.blocked_until:
        return ("request_cooldown", request_resource)
    block = state.block
    if block is not None and block.groups.get(group) == "group_cap":
        # All it needs is free, and a limit of the group that no event tells is all that is left.
        return ("group_cap", "")
    return ("queue_order", "")
