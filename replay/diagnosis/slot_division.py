"""How the slots of a resource are divided at one instant, and why the unused ones are unused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from replay.diagnosis.cell_ledger import CellLedger, queued_key
from replay.diagnosis.holders import upstream_blame
from replay.diagnosis.live_index import DemandCounts, LiveIndex
from replay.diagnosis.proofs import ceiling_verdict
from replay.diagnosis.verdicts import RANK, UNKNOWN, WORKING, Blame
from replay.state.model import Ceiling, State

NO_DEMAND = DemandCounts()
RETRIES = frozenset({"retry_backoff", "client_backoff"})
_QUEUE_ORDER: Blame = ("queue_order", "")
_OF_THE_PROVIDER = ("request_cooldown", "request_overload", "request_outage")


class Division(NamedTuple):
    """The slots of one resource at an instant, by verdict."""

    parts: dict[str, float]
    """Slots by verdict; empty where the resource has no demand."""
    rest: Blame | None
    """Why demand of this resource goes unserved beside unused slots; None if none does."""
    full: bool
    """All slots of its effective maximum are in use."""


class Demand(msgspec.Struct):
    """What the divisions of all request resources add up to."""

    demanding: dict[str, None] = {}
    """Resources whose slots are divided at all."""
    wanting: dict[str, None] = {}
    """Resources with demand that goes unserved beside unused slots."""
    full: dict[str, None] = {}
    """Resources whose slots are all in use."""
    horizon: bool = False
    """Row-group admission is blocked, row groups are left, and frontier and queue are empty."""


def divide(
    state: State,
    index: LiveIndex,
    cells: CellLedger,
    demand: Demand,
    resource: str,
    now: float,
) -> Division:
    """How the slots of `resource` are used at `now`, and what the unused ones wait for."""
    ceiling = state.ceilings.get(resource)
    if ceiling is None or state.outcome is not None or not index.started:
        return Division({}, None, False)
    slots = ceiling.effective_max or ceiling.static_cap or ceiling.limit
    counts = index.demand.get(resource, NO_DEMAND)
    busy = min(_busy(index, ceiling, counts, now), slots)
    ready = ceiling.waiters > 0 or counts.queued > 0 or counts.ready > 0
    unsure = not ready and _may_queue(state, index.unknown_for.get(resource, ()))
    hidden = counts.running > 0 and not index.attempts_seen
    hidden = hidden or cells.total(("backing_off", resource)) > 0
    if not ready and not unsure and counts.deferred == 0:
        slots = min(slots, _slots_left(state, ceiling, slots))
    if slots <= 0 or not (ready or unsure or counts.deferred > 0 or busy > 0 or hidden):
        return Division({}, None, False)
    unsure_of = 0 if index.attempts_seen else min(cells.total(("unsure", resource)), busy)
    late = min(index.overdue.get(resource, 0), busy)
    leaked = min(index.leaks.amounts.get(resource, 0), busy - late)
    parts = {
        WORKING: float(max(0, busy - late - leaked - unsure_of)),
        UNKNOWN: float(unsure_of),
        "provider_latency": float(late),
        "leaked_lease": float(leaked),
    }
    rest: Blame | None = None
    if busy < slots:
        rest = (
            (UNKNOWN, resource)
            if unsure
            else _rest(state, index, cells, demand, resource, ready, counts, now)
        )
        idle = slots - busy
        retrying = _retrying(cells, resource, rest, counts)
        for verdict, tasks in retrying:
            taken = min(idle, tasks)
            parts[verdict] = parts.get(verdict, 0.0) + float(taken)
            idle -= taken
        if rest is None or (not ready and rest[0] in RETRIES):
            verdict = _idle(index, cells, demand)[0]
        else:
            verdict = rest[0]
        parts[verdict] = parts.get(verdict, 0.0) + float(idle)
    return Division({v: n for v, n in parts.items() if n > 0.0}, rest, busy >= slots)


def _busy(index: LiveIndex, ceiling: Ceiling, counts: DemandCounts, now: float) -> int:
    """Slots in use. Where no event tells of calls, tasks at work show it better than snapshots.

    In a cooldown tasks are at work and none of their calls is out.
    """
    cooling = ceiling.availability is not None or (
        ceiling.blocked_until is not None and now < ceiling.blocked_until
    )
    if index.attempts_seen or cooling:
        return max(ceiling.in_flight, 0)
    return min(max(0, counts.running - ceiling.waiters), ceiling.limit)


def _retrying(
    cells: CellLedger, resource: str, rest: Blame | None, counts: DemandCounts
) -> list[tuple[str, int]]:
    """Tasks that wait to try again, by where they wait: each of them can use one idle slot.

    Only where nothing else keeps the slots idle.
    """
    if rest is not None and rest[0] not in RETRIES:
        return []
    waits = [
        ("client_backoff", cells.total(("backing_off", resource))),
        ("retry_backoff", counts.deferred),
    ]
    return [(verdict, tasks) for verdict, tasks in waits if tasks]


def _may_queue(state: State, groups: Iterable[str]) -> bool:
    """By the ledger there are queued tasks in one of these groups, of which no event tells."""
    return any(state.groups[group].queued > 0 for group in groups if group in state.groups)


def _slots_left(state: State, ceiling: Ceiling, slots: int) -> int:
    """What calls of its siblings leave this resource of the cap that they share."""
    aggregate = state.aggregates.get(ceiling.provider_model)
    if aggregate is None or aggregate.static_cap is None:
        return slots
    return max(aggregate.static_cap - aggregate.in_flight, 0) + max(ceiling.in_flight, 0)


def _rest(
    state: State,
    index: LiveIndex,
    cells: CellLedger,
    demand: Demand,
    resource: str,
    ready: bool,
    counts: DemandCounts,
    now: float,
) -> Blame | None:
    ceiling = state.ceilings[resource]
    if not ready and counts.deferred == 0:
        return ("client_backoff", resource) if cells.total(("backing_off", resource)) else None
    verdict = ceiling_verdict(ceiling, state.aggregates.get(ceiling.provider_model), now)
    if verdict is not None and (ready or verdict in _OF_THE_PROVIDER):
        return (verdict, resource)
    if ceiling.waiters > 0 and not index.attempts_seen:
        return (UNKNOWN, resource)  # it may have gone out since the snapshot that shows it
    if ceiling.waiters > 0:
        return cells.blame_of(("waiting", resource)) or ("request_waiters_ahead", resource)
    if counts.queued > 0:
        return queued_blame_of(cells, index.queued_for.get(resource, {}))
    if counts.ready > 0:
        return _QUEUE_ORDER
    return ("retry_backoff", resource)


def _saturated(state: State, demand: Demand) -> bool:
    """No request resource could take one more call, whatever came out of the queue."""
    return bool(demand.full) and all(
        resource in demand.full or _slots_left(state, ceiling, 1) == 0
        for resource, ceiling in state.ceilings.items()
    )


def queued_blame_of(cells: CellLedger, groups: dict[str, int]) -> Blame:
    """What keeps most queued tasks of these groups; a short resource before a share."""
    heads: dict[Blame, int] = {}
    for group, queued in groups.items():
        blame = cells.blame_of(queued_key(group))
        if blame is not None:
            heads[blame] = heads.get(blame, 0) + queued
    return max(
        heads, key=lambda blame: (RANK.get(blame[0], 0), heads[blame], blame), default=_QUEUE_ORDER
    )


def _idle(index: LiveIndex, cells: CellLedger, demand: Demand) -> Blame:
    """Why there is nothing to do."""
    counts = index.demand.get("", NO_DEMAND)
    late = upstream_blame(index, cells, counts.running)
    if late is not None:
        return late
    return ("row_group_horizon" if demand.horizon else "dependency", "")


def whole(state: State, index: LiveIndex, cells: CellLedger, demand: Demand) -> Blame | None:
    """Why the run as a whole does no more than it does; None where some resource tells."""
    if state.outcome is not None or demand.wanting or not index.started:
        return None
    counts = index.demand.get("", NO_DEMAND)
    if counts.queued > 0:
        if _saturated(state, demand):
            return (WORKING, "")
        groups: dict[str, int] = {}
        for resource, queued in index.queued_for.items():
            if resource not in demand.demanding:
                groups.update(queued)
        # All others are for resources that want nothing: their slots are full.
        return queued_blame_of(cells, groups) if groups else (WORKING, "")
    if counts.ready > 0:
        return _QUEUE_ORDER
    if any(_may_queue(state, groups) for groups in index.unknown_for.values()):
        return (UNKNOWN, "")
    if counts.running > 0:
        if len(demand.full) >= len(demand.demanding) and (demand.full or not state.ceilings):
            return (WORKING, "")
        return _idle(index, cells, demand)
    if counts.deferred > 0:
        return ("retry_backoff", "")
    if index.checkpointing or (state.row_groups.in_flight and state.row_groups.admitted):
        return ("downstream_completion", "")
    return _idle(index, cells, demand)
