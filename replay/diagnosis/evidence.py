"""Facts of one instant of a stall: who holds what is missing, and which events show it.

Taken only when a stall has lasted long enough to be one, so a walk over groups costs nothing.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter

from engine.events import RunInfo
from replay.diagnosis.live_index import LiveIndex
from replay.diagnosis.verdicts import Blame, Context, Facts, Holder, Waiter, kind_of
from replay.diagnosis.verdicts.broken import LostWakeup
from replay.diagnosis.verdicts.flow import RetryBackoff, UpstreamVerdict
from replay.diagnosis.verdicts.requests import (
    RequestAggregateCap,
    RequestCooldown,
    RequestVerdict,
)
from replay.diagnosis.verdicts.slots import BorrowDebt, ShareVerdict, SlotVerdict
from replay.state.model import State
from replay.state.task import Task

HOLDERS_SHOWN = 5
TASKS_LOOKED_AT = 2000


def collect(
    state: State,
    run: RunInfo,
    index: LiveIndex,
    blame: Blame,
    resource: str,
    now: float,
) -> Facts:
    """What the state of this instant says about a stall, with the ordinals that show it.

    `resource` is the request resource that stands still, "" for the run as a whole.
    """
    verdict, about = blame
    detail, context = kind_of(verdict)(missing=list(run.lacks)), Context()
    facts = Facts(detail, context)
    if isinstance(detail, SlotVerdict):
        _task_slots(state, index, about, now, detail, facts)
        if isinstance(detail, ShareVerdict):
            _share_facts(state, index, about, resource, detail)
        context.longest_waiter = _longest_task(state, index, about, now)
    elif isinstance(detail, RequestVerdict):
        _request_slots(state, index, about, now, detail, facts)
        _longest_call(state, index, about, now, facts)
    elif isinstance(detail, RetryBackoff):
        _deferred(state, resource, detail, context)
    elif isinstance(detail, UpstreamVerdict):
        _upstream(state, run, index, detail)
    if context.waiting is None:
        counts = index.demand.get(resource)
        if counts is not None:
            context.waiting = counts.queued + counts.ready
    return facts


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
        (one.wait_started_at, one.first_ordinal, one.execution_id or "")
        for one in state.attempts.values()
        if one.phase == "waiting"
        and one.resource == about
        and one.wait_started_at is not None
        and index.is_known_call(one.attempt_id)
    ]
    if waiting:
        since, ordinal, execution_id = min(waiting)
        task = state.tasks.get(index.executions.get(execution_id, ""))
        if task is not None:
            facts.context.longest_waiter = _in_line(task, now - since)
            facts.evidence.append(ordinal)


def _in_line(task: Task, age: float) -> Waiter:
    return Waiter(task.task_id, task.column, task.row, age)


def _share_facts(
    state: State, index: LiveIndex, about: str, resource: str, detail: ShareVerdict
) -> None:
    """The largest group that waits: what it holds of the resource, its share and its debt.

    A share that is borrowed from is divided among those that hold the resource too.
    """
    key = _largest(index.queued_for.get(resource, {})) or _largest(
        {one.key: one.queued for one in state.groups.values() if one.queued > 0}
    )
    detail.group = key
    group = state.groups.get(key)
    limit = state.limits.get(about)
    if group is None or limit is None:
        return
    peers = [
        one
        for name in index.needing.get(about, ())
        if (one := state.groups.get(name)) is not None
        and (
            one.queued > 0
            or one is group
            or (isinstance(detail, BorrowDebt) and one.leased_amounts.get(about, 0) > 0)
        )
    ]
    detail.held = group.leased_amounts.get(about, 0)
    detail.share = limit * group.weight / sum(peer.weight for peer in peers or [group])
    detail.peers = sorted(peer.key for peer in peers if peer is not group)[:HOLDERS_SHOWN]
    detail.debt = group.debt.get(about) or None


def able(state: State, index: LiveIndex, pending: dict[tuple[str, str], None], about: str) -> Facts:
    """Of heads that nothing keeps from going on: who they are and what is free for them."""
    if about:
        ceiling = state.ceilings[about]
        places = max(0, ceiling.limit - ceiling.in_flight)
        detail = LostWakeup(needed=1, limit=ceiling.limit, free=places)
        return Facts(detail, Context(waiting=ceiling.waiters))
    groups = [group for kind, group in pending if kind == "queued"]
    needs = index.needs.get(groups[0], {}) if groups else {}
    free = {name: state.limits.get(name, 0) - state.leased.get(name, 0) for name in sorted(needs)}
    waiting = sum(state.groups[group].queued for group in groups if group in state.groups)
    detail = LostWakeup(groups=sorted(groups)[:HOLDERS_SHOWN], needed=dict(needs), free=free)
    return Facts(detail, Context(waiting=waiting))


def _task_slots(
    state: State,
    index: LiveIndex,
    about: str,
    now: float,
    detail: SlotVerdict,
    facts: Facts,
) -> None:
    limit = state.limits.get(about, 0)
    detail.limit = limit
    detail.free = max(0, limit - state.leased.get(about, 0))
    detail.needed = max(
        (index.needs.get(group, {}).get(about, 0) for group in index.needing.get(about, ())),
        default=1,
    )
    if state.block is not None and state.block.kind != "queue_empty":
        facts.evidence.append(state.block.ordinal)
    holders = []
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
            detail.holders_wait_for[request] = ceiling.waiters
    holders.sort(key=lambda holder: (-holder[0], holder[1]))
    facts.context.holders = [
        Holder(group, leases, age) for age, group, leases, _ in holders[:HOLDERS_SHOWN]
    ]
    facts.evidence.extend(ordinal for _, _, _, ordinal in holders[:2])


def _request_slots(
    state: State,
    index: LiveIndex,
    resource: str,
    now: float,
    detail: RequestVerdict,
    facts: Facts,
) -> None:
    evidence = facts.evidence
    ceiling = state.ceilings[resource]
    counts = index.demand.get(resource)
    queued = counts.queued + counts.ready if counts is not None else 0
    facts.context.waiting = ceiling.waiters + queued
    detail.needed = 1
    detail.limit = ceiling.limit
    detail.effective_max = ceiling.effective_max
    detail.free = max(0, ceiling.limit - ceiling.in_flight)
    whole_model = isinstance(detail, RequestAggregateCap)
    if not whole_model:
        if ceiling.last_rate_limit_ordinal is not None:
            evidence.append(ceiling.last_rate_limit_ordinal)
        if ceiling.last_change is not None:
            evidence.append(ceiling.last_change.ordinal)
    if isinstance(detail, RequestCooldown):
        detail.free = 0
        facts.context.expected_release = ceiling.blocked_until
        return
    siblings = [resource]
    if whole_model:
        aggregate = state.aggregates.get(ceiling.provider_model)
        if aggregate is not None and aggregate.static_cap is not None:
            detail.limit = aggregate.static_cap
            detail.free = max(0, aggregate.static_cap - aggregate.in_flight)
        siblings = [
            one.resource
            for one in state.ceilings.values()
            if one.provider_model == ceiling.provider_model
        ]
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
            evidence.append(ordinal)
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


def _deferred(state: State, resource: str, detail: RetryBackoff, context: Context) -> None:
    errors: dict[str, int] = {}
    earliest: float | None = None
    number = 0
    for seen, task in enumerate(state.tasks.values()):
        if seen >= TASKS_LOOKED_AT:
            break
        if task.phase != "deferred" or (resource and task.request_resource != resource):
            continue
        number += 1
        if task.error is not None:
            errors[task.error] = errors.get(task.error, 0) + 1
        if task.retry_at is not None and (earliest is None or task.retry_at < earliest):
            earliest = task.retry_at
    detail.deferred = number
    detail.errors = errors
    context.expected_release = earliest


def _upstream(state: State, run: RunInfo, index: LiveIndex, detail: UpstreamVerdict) -> None:
    running = dict(sorted(index.running_by_column.items(), key=lambda item: (-item[1], item[0])))
    detail.in_flight = running
    detail.critical_path = _longest_path(run, running)
    waiting: set[str] = set()
    frontier = set(running)
    while frontier:
        frontier = {
            column.name
            for column in run.columns
            if column.name not in waiting and frontier.intersection(column.depends_on)
        }
        waiting |= frontier
    detail.columns_waiting = [c.name for c in run.columns if c.name in waiting]
    if state.row_groups.target is not None:
        detail.row_groups_in_flight = len(state.row_groups.in_flight)
        detail.row_group_target = state.row_groups.target


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
