"""Facts of one instant of a stall: who holds what is missing, and which events show it.

Taken only when a stall has lasted long enough to be one, so a walk over groups costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from operator import itemgetter
from typing import Any

import msgspec

from engine.events import RunInfo
from replay.diagnosis.cell_ledger import CellLedger, Key
from replay.diagnosis.holders import activities
from replay.diagnosis.live_index import LiveIndex
from replay.diagnosis.verdicts import (
    AnyVerdict,
    Bare,
    Blame,
    Context,
    Facts,
    Holder,
    Waiter,
    kind_of,
)
from replay.diagnosis.verdicts.broken import LostWakeup
from replay.diagnosis.verdicts.cooldowns import (
    CooldownVerdict,
    RequestCooldown,
    RequestOutage,
    RequestOverload,
)
from replay.diagnosis.verdicts.flow import AwaitsSlowCall, RetryBackoff, UpstreamVerdict
from replay.diagnosis.verdicts.requests import (
    CeilingVerdict,
    ClientBackoff,
    RequestAggregateCap,
    RequestDomainLimit,
)
from replay.diagnosis.verdicts.slots import BorrowDebt, ShareVerdict, SlotVerdict
from replay.state.model import Ceiling, State
from replay.state.task import Task

HOLDERS_SHOWN = 5
TASKS_LOOKED_AT = 2000


def collect(
    state: State,
    run: RunInfo,
    index: LiveIndex,
    cells: CellLedger,
    blame: Blame,
    resource: str,
    now: float,
) -> Facts:
    """What the state of this instant says about a stall, with the ordinals that show it.

    A verdict whose facts nothing here collects stays a `Bare` one.

    `resource` is the request resource that stands still, "" for the run as a whole.
    """
    verdict, about = blame
    kind = kind_of(verdict)
    facts = Facts(Bare(name=verdict), Context(waiting=_waiting(index, resource)))
    if issubclass(kind, SlotVerdict):
        facts.context.longest_waiter = _longest_task(state, index, about, now)
        _task_slots(state, index, cells, kind, about, resource, now, facts)
    elif issubclass(kind, CeilingVerdict):
        _request_slots(state, index, kind, about, now, facts)
        _longest_call(state, index, about, now, facts)
    elif issubclass(kind, CooldownVerdict):
        _cooldown(state, index, kind, about, facts)
        _longest_call(state, index, about, now, facts)
    elif kind is RequestOutage:
        _outage(state, index, about, facts)
    elif kind is RetryBackoff:
        _deferred(state, resource, facts)
    elif kind is ClientBackoff:
        tasks = cells.total(("backing_off", about))
        if tasks:
            facts.detail = ClientBackoff(tasks=tasks, error=index.failed_with.get(about, ""))
    elif kind is AwaitsSlowCall:
        facts.detail = _slow_call(state, index, about, now)
    elif issubclass(kind, UpstreamVerdict):
        facts.detail = _upstream(state, run, index, kind)
    elif not any(field.required for field in msgspec.structs.fields(kind)):
        facts.detail = kind()
    facts.detail.missing = list(run.lacks)
    return facts


def _waiting(index: LiveIndex, resource: str) -> int | None:
    counts = index.demand.get(resource)
    return None if counts is None else counts.queued + counts.ready


def _longest_task(state: State, index: LiveIndex, about: str, now: float) -> Waiter | None:
    """Who has waited longest for a scheduler resource ("": for any), and for how long."""
    queued = [
        (task.enqueued_at, task)
        for task in islice(state.tasks.values(), TASKS_LOOKED_AT)
        if task.phase == "queued"
        and task.enqueued_at is not None
        and (not about or about in task.resources)
        and index.is_known(task.task_id)
    ]
    if not queued:
        return None
    since, task = min(queued, key=itemgetter(0))
    return _in_line(task, now - since)


def _longest_call(state: State, index: LiveIndex, about: str, now: float, facts: Facts) -> None:
    """The same of the calls that wait at a request resource; its wait is a proof."""
    waiting = [
        (attempt.wait_started_at, attempt.first_ordinal, attempt.execution_id or "")
        for attempt in state.attempts.values()
        if attempt.phase == "waiting"
        and attempt.resource == about
        and attempt.wait_started_at is not None
        and index.is_known_call(attempt.attempt_id)
    ]
    if waiting:
        since, ordinal, execution_id = min(waiting)
        task = state.tasks.get(index.executions.get(execution_id, ""))
        if task is not None:
            facts.context.longest_waiter = _in_line(task, now - since)
            facts.evidence.append(ordinal)


def _in_line(task: Task, age: float) -> Waiter:
    return Waiter(task.task_id, task.column, task.row, age)


def _task_slots(
    state: State,
    index: LiveIndex,
    cells: CellLedger,
    kind: type[SlotVerdict],
    about: str,
    resource: str,
    now: float,
    facts: Facts,
) -> None:
    """What there is of a scheduler resource, who holds it, and what the holders do."""
    limit = state.limits.get(about)
    if limit is None:
        return
    context = facts.context
    needed = max(
        (index.needs.get(group, {}).get(about, 0) for group in index.needing.get(about, ())),
        default=1,
    )
    if state.block is not None and state.block.kind != "queue_empty":
        facts.evidence.append(state.block.ordinal)
    holders = []
    waits_for: dict[str, int] = {}
    for group in index.needing.get(about, ()):
        held = [
            lease
            for task_id, lease in index.leases.get(group, {}).items()
            if index.is_known(task_id)
        ]
        if not held:
            continue
        acquired_at, ordinal = held[0]
        holders.append((now - acquired_at, group, len(held), ordinal))
        request = index.request_of.get(group, "")
        ceiling = state.ceilings.get(request)
        if ceiling is not None and ceiling.waiters > 0:
            waits_for[request] = ceiling.waiters
    holders.sort(key=lambda holder: (-holder[0], holder[1]))
    context.holders = [
        Holder(group, leases, age) for age, group, leases, _ in holders[:HOLDERS_SHOWN]
    ]
    facts.evidence.extend(ordinal for _, _, _, ordinal in holders[:2])
    shared: dict[str, Any] = {
        "limit": limit,
        "free": max(0, limit - state.leased.get(about, 0)),
        "needed": needed,
        "waiting": context.waiting or 0,
        "holders_do": activities(index, cells, about),
        "holders_wait_for": waits_for,
    }
    if not issubclass(kind, ShareVerdict):
        facts.detail = kind(**shared)
        return
    share = _share(state, index, kind, about, resource, limit)
    if share is not None:
        facts.detail = kind(**shared, **share)


def _share(
    state: State,
    index: LiveIndex,
    kind: type[ShareVerdict],
    about: str,
    resource: str,
    limit: int,
) -> dict[str, Any] | None:
    """Of the largest group that waits: what it holds of the resource, its share and its debt.

    A share that is borrowed from is divided among those that hold the resource too.
    """
    key = _largest(index.queued_for.get(resource, {})) or _largest(
        {group.key: group.queued for group in state.groups.values() if group.queued > 0}
    )
    own = state.groups.get(key)
    if own is None:
        return None
    peers = [
        group
        for name in index.needing.get(about, ())
        if (group := state.groups.get(name)) is not None
        and (
            group.queued > 0
            or group is own
            or (issubclass(kind, BorrowDebt) and group.leased_amounts.get(about, 0) > 0)
        )
    ]
    return {
        "group": key,
        "held": own.leased_amounts.get(about, 0),
        "share": limit * own.weight / sum(peer.weight for peer in peers or [own]),
        "peers": sorted(peer.key for peer in peers if peer is not own)[:HOLDERS_SHOWN],
        "debt": own.debt.get(about) or None,
    }


def eligible_heads(state: State, index: LiveIndex, pending: Iterable[Key], about: str) -> Facts:
    """Of heads that nothing keeps from going on: who they are and what is free for them."""
    if about:
        ceiling = state.ceilings[about]
        places = max(0, ceiling.limit - ceiling.in_flight)
        detail = LostWakeup(needed=1, limit=ceiling.limit, free=places, waiting=ceiling.waiters)
        return Facts(detail, Context(waiting=ceiling.waiters))
    groups = [group for kind, group in pending if kind == "queued"]
    needs = index.needs.get(groups[0], {}) if groups else {}
    free = {name: state.limits.get(name, 0) - state.leased.get(name, 0) for name in sorted(needs)}
    waiting = sum(state.groups[group].queued for group in groups if group in state.groups)
    shown = sorted(groups)[:HOLDERS_SHOWN]
    detail = LostWakeup(groups=shown, needed=dict(needs), free=free, waiting=waiting)
    return Facts(detail, Context(waiting=waiting))


def _cooldown(
    state: State, index: LiveIndex, kind: type[CooldownVerdict], resource: str, facts: Facts
) -> None:
    ceiling = state.ceilings[resource]
    _prove_ceiling(ceiling, facts)
    facts.context.waiting = ceiling.waiters + (_waiting(index, resource) or 0)
    facts.context.expected_release = ceiling.blocked_until
    refused = ceiling.consecutive_rate_limits
    detail: CooldownVerdict
    if kind is RequestOverload:
        detail = RequestOverload(overloaded=refused, held_seconds=0.0)
    else:
        detail = RequestCooldown(rate_limited=refused, held_seconds=0.0)
    detail.limit, detail.effective_max = ceiling.limit, ceiling.effective_max
    facts.detail = detail


def _outage(state: State, index: LiveIndex, resource: str, facts: Facts) -> None:
    ceiling = state.ceilings[resource]
    if ceiling.out_ordinal is not None:
        facts.evidence.append(ceiling.out_ordinal)
    facts.context.waiting = ceiling.waiters + (_waiting(index, resource) or 0)
    facts.detail = RequestOutage(
        because=ceiling.out_because,
        suspended=ceiling.availability == "suspended",
        limit=ceiling.limit,
        effective_max=ceiling.effective_max,
    )


def _prove_ceiling(ceiling: Ceiling, facts: Facts) -> None:
    if ceiling.last_rate_limit_ordinal is not None:
        facts.evidence.append(ceiling.last_rate_limit_ordinal)
    if ceiling.last_change is not None:
        facts.evidence.append(ceiling.last_change.ordinal)


def _request_slots(
    state: State,
    index: LiveIndex,
    kind: type[CeilingVerdict],
    resource: str,
    now: float,
    facts: Facts,
) -> None:
    ceiling = state.ceilings[resource]
    facts.context.waiting = ceiling.waiters + (_waiting(index, resource) or 0)
    limit, in_flight = ceiling.limit, ceiling.in_flight
    siblings = [resource]
    if issubclass(kind, RequestAggregateCap):
        aggregate = state.aggregates.get(ceiling.provider_model)
        if aggregate is not None and aggregate.static_cap is not None:
            limit, in_flight = aggregate.static_cap, aggregate.in_flight
        siblings = [
            other.resource
            for other in state.ceilings.values()
            if other.provider_model == ceiling.provider_model
        ]
    else:
        _prove_ceiling(ceiling, facts)
    if limit > 0 and ceiling.effective_max > 0:
        facts.detail = kind(
            needed=1,
            limit=limit,
            effective_max=ceiling.effective_max,
            free=max(0, limit - in_flight),
        )
        if isinstance(facts.detail, RequestDomainLimit):
            facts.detail.overloaded = ceiling.cooldown_reason == "overload"
        if isinstance(facts.detail, RequestAggregateCap):
            facts.detail.slow = sum(index.overdue.get(sibling, 0) for sibling in siblings)
    holders: list[tuple[int, str, float | None]] = []
    for sibling in siblings:
        held = [
            lease
            for attempt_id, lease in index.requests.get(sibling, {}).items()
            if index.is_known_call(attempt_id)
        ]
        in_flight = state.ceilings[sibling].in_flight
        if held:
            acquired_at, ordinal = held[0]
            facts.evidence.append(ordinal)
            if sibling == resource:
                holders.extend(_by_column(index, sibling, now))
            else:
                holders.append((in_flight, sibling, now - acquired_at))
        elif in_flight > 0:
            holders.append((in_flight, sibling, None))
    holders.sort(key=lambda holder: (-holder[0], holder[1]))
    facts.context.holders = [
        Holder(label, leases, age) for leases, label, age in holders[:HOLDERS_SHOWN]
    ]


def _by_column(index: LiveIndex, resource: str, now: float) -> list[tuple[int, str, float | None]]:
    """The resource's leases by the column whose calls hold them (by itself where none is told)."""
    counts: dict[str, int] = {}
    oldest: dict[str, float] = {}
    for attempt_id, (acquired_at, _) in index.requests.get(resource, {}).items():
        if not index.is_known_call(attempt_id):
            continue
        label = index.calls[attempt_id].column or resource
        counts[label] = counts.get(label, 0) + 1
        oldest.setdefault(label, acquired_at)
    return [(number, label, now - oldest[label]) for label, number in counts.items()]


def _deferred(state: State, resource: str, facts: Facts) -> None:
    errors: dict[str, int] = {}
    earliest: float | None = None
    deferred = 0
    for task in islice(state.tasks.values(), TASKS_LOOKED_AT):
        if task.phase != "deferred" or (resource and task.request_resource != resource):
            continue
        deferred += 1
        if task.error is not None:
            errors[task.error] = errors.get(task.error, 0) + 1
        if task.retry_at is not None and (earliest is None or task.retry_at < earliest):
            earliest = task.retry_at
    if deferred:
        facts.detail = RetryBackoff(deferred=deferred, errors=errors)
    facts.context.expected_release = earliest


def _upstream(
    state: State, run: RunInfo, index: LiveIndex, kind: type[UpstreamVerdict]
) -> UpstreamVerdict:
    running = dict(sorted(index.running_by_column.items(), key=lambda item: (-item[1], item[0])))
    waiting: set[str] = set()
    frontier = set(running)
    while frontier:
        frontier = {
            column.name
            for column in run.columns
            if column.name not in waiting and frontier.intersection(column.depends_on)
        }
        waiting |= frontier
    rows = state.row_groups
    known = rows.target is not None
    return kind(
        in_flight=running,
        critical_path=_longest_path(run, running),
        columns_waiting=[column.name for column in run.columns if column.name in waiting],
        row_groups_in_flight=len(rows.in_flight) if known else None,
        row_group_target=rows.target,
        row_groups_left=None if run.row_groups is None else max(0, run.row_groups - rows.admitted),
    )


def _slow_call(state: State, index: LiveIndex, resource: str, now: float) -> AnyVerdict:
    slow = [call for call in index.calls.values() if call.overdue and call.resource == resource]
    if not slow:
        return Bare(name="awaits_slow_call")
    oldest = min(now if call.started_at is None else call.started_at for call in slow)
    columns = sorted({call.column for call in slow if call.column})
    return AwaitsSlowCall(
        slow_resource=resource, calls=len(slow), columns=columns, oldest_age=now - oldest
    )


def _longest_path(run: RunInfo, running: dict[str, int]) -> list[str]:
    """The longest chain of columns that begins with one at work, each needing the one before."""
    best: dict[str, list[str]] = {}
    for _ in run.columns:  # Columns may come in any order; a chain is no longer than all of them.
        changed = False
        for column in run.columns:
            before = [best[name] for name in column.depends_on if name in best]
            path = max(before, key=len, default=[]) if before else []
            if not path and column.name not in running:
                continue
            if len(path) + 1 > len(best.get(column.name, ())) and column.name not in path:
                best[column.name] = [*path, column.name]
                changed = True
        if not changed:
            break
    return max(best.values(), key=len, default=[])


def _largest(groups: dict[str, int]) -> str:
    return max(groups, key=lambda group: (groups[group], group), default="")
