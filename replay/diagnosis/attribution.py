"""What keeps each meter, each request resource and the whole run from doing more, as of now."""

from __future__ import annotations

from engine.events import RunInfo
from replay.diagnosis import evidence, proofs
from replay.diagnosis.cell_ledger import Key
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.slot_division import divide, whole
from replay.diagnosis.slot_ledger import WHOLE
from replay.diagnosis.stalls import Slow
from replay.diagnosis.verdicts import NO_STALL, UNKNOWN, WORKING, Blame
from replay.diagnosis.wakeups import PENDING, Wakeup, harmless, pending
from replay.state.model import State

GROUPS_COMPARED = 64
"""Among more groups none is looked at for whether all deny each other."""

_FIXED: dict[str, str] = {
    "ready": "queue_order",
    "deferred": "retry_backoff",
    "own": WORKING,
    "provider": WORKING,
    "overdue": "provider_latency",
    "lost": UNKNOWN,
    "leaked": "leaked_lease",
}
"""Meters whose blame never changes."""


def settle(memory: DiagnosisState, run: RunInfo, state: State) -> None:
    """Look again at everything that may have changed, as of `memory.time`."""
    now = memory.time or 0.0
    if memory.doubtful_meters:
        meters, memory.doubtful_meters = memory.doubtful_meters, {}
        pressing = proofs.Pressing(state, memory.index.needing)
        for key in meters:
            if key not in memory.cells.meters:
                memory.pending.pop(key, None)
            else:
                blame = _blame(memory, run, state, key, pressing, now)
                if blame[0] in PENDING or blame[0] == "lost_wakeup":
                    memory.pending[key] = None
                elif memory.pending:
                    memory.pending.pop(key, None)
                changed = memory.cells.blame(key, blame, now)
                if changed and key[0] == "queued":
                    resource = memory.index.request_of.get(key[1], "")
                    memory.doubtful_resources[resource] = None
                    memory.doubtful_resources[WHOLE] = None
    if not memory.doubtful_resources:
        return
    _look_at_horizon(memory, run, state)
    resources, memory.doubtful_resources = memory.doubtful_resources, {}
    changed = WHOLE in resources
    for resource in resources:
        if resource and _divide(memory, run, state, resource, now):
            changed = True
    if changed:
        _divide_whole(memory, run, state, now)


def _divide_whole(memory: DiagnosisState, run: RunInfo, state: State, now: float) -> None:
    blame = whole(state, memory.index, memory.cells, memory.standing)
    if blame is None or memory.standing.demanding:
        memory.capacity.divide(WHOLE, {}, now)
    else:
        slots = sum(ceiling.effective_max for ceiling in state.ceilings.values())
        memory.capacity.divide(WHOLE, {blame[0]: float(slots or 1)}, now)
    wants = memory.index.wants.get("")
    if blame is not None and blame[0] == "dependency" and (wants is None or not wants.running):
        blame = None  # Nothing is upstream: the run has not begun, or is about to end.
    _stand(memory, run, state, WHOLE, blame, now)


def _look_at_horizon(memory: DiagnosisState, run: RunInfo, state: State) -> None:
    wants = memory.index.wants.get("")
    rows = state.row_groups
    horizon = (
        rows.blocked_reason is not None
        and (run.row_groups is None or rows.admitted < run.row_groups)
        and (wants is None or wants.ready + wants.queued == 0)
    )
    if horizon != memory.standing.horizon:
        memory.standing.horizon = horizon
        for resource in memory.standing.demanding:
            memory.doubtful_resources[resource] = None


def _divide(memory: DiagnosisState, run: RunInfo, state: State, resource: str, now: float) -> bool:
    """Divide the slots of a resource anew. True if that may matter to the run as a whole."""
    standing = memory.standing
    division = divide(state, memory.index, memory.cells, standing, resource, now)
    memory.capacity.divide(resource, division.parts, now)
    changed = False
    for flags, holds in (
        (standing.demanding, bool(division.parts)),
        (standing.wanting, division.rest is not None),
        (standing.full, division.full),
    ):
        if holds != (resource in flags):
            changed = True
            if holds:
                flags[resource] = None
            else:
                del flags[resource]
    _stand(memory, run, state, resource, division.rest, now)
    _count_slow(memory, resource, now)
    return changed


def _stand(
    memory: DiagnosisState,
    run: RunInfo,
    state: State,
    resource: str,
    blame: Blame | None,
    now: float,
) -> None:
    if blame is not None and blame[0] in PENDING:
        blame = (PENDING[blame[0]], blame[1])
    if blame is not None and blame[0] in NO_STALL:
        blame = None
    watch = memory.stalls.stand(resource, blame, now, memory.ordinal)
    span = watch.span
    if span is None:
        return
    if span.confirmed:
        collect(memory, run, state, resource, now)
    elif not watch.timer:
        watch.timer = True
        memory.set_timer(span.since + watch.pace.threshold, "stall", resource)


def collect(memory: DiagnosisState, run: RunInfo, state: State, resource: str, now: float) -> None:
    span = memory.stalls.watch(resource).span
    if span is not None and span.blame not in span.facts:
        span.facts[span.blame] = evidence.collect(
            state, run, memory.index, span.blame, resource, now
        )


def _count_slow(memory: DiagnosisState, resource: str, now: float) -> None:
    number = memory.index.overdue.get(resource, 0)
    watch = memory.stalls.watch(resource)
    slow = None
    if number > 0 and watch.slow is None:
        for attempt_id in memory.index.requests.get(resource, ()):
            call = memory.index.calls[attempt_id]
            if call.overdue and call.started_at is not None:
                evidence = [call.started_ordinal, memory.ordinal]
                p95 = watch.times.p95
                slow = Slow(now, call.started_at, evidence, call.column, p95, number)
                break
    memory.stalls.slow_calls(resource, number, slow, now)


def _blame(
    memory: DiagnosisState,
    run: RunInfo,
    state: State,
    key: Key,
    pressing: proofs.Pressing,
    now: float,
) -> Blame:
    """What the cells of this meter are under, from `now` on."""
    kind, subject = key
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return (fixed, subject)
    index = memory.index
    if kind == "queued":
        return _queued_blame(memory, run, state, subject, pressing, now)
    ceiling = state.ceilings.get(subject)
    if ceiling is None:
        return (UNKNOWN, subject) if kind == "waiting" else (WORKING, subject)
    aggregate = state.aggregates.get(ceiling.provider_model)
    verdict = proofs.ceiling_verdict(ceiling, aggregate, now)
    if kind == "waiting":
        if verdict is None:
            return _able(memory, run, subject, now)
        full = verdict in ("request_domain_limit", "request_aggregate_cap")
        leaked = full and index.leaks.amounts.get(subject)
        return ("leaked_lease" if leaked else verdict, subject)
    if ceiling.waiters >= max(1, ceiling.in_flight):
        return (verdict or UNKNOWN, subject)
    return (WORKING, subject)


def _queued_blame(
    memory: DiagnosisState,
    run: RunInfo,
    state: State,
    group: str,
    pressing: proofs.Pressing,
    now: float,
) -> Blame:
    index = memory.index
    needs = index.needs.get(group, {})
    request = index.request_of.get(group, "")
    leaked = index.leaks.amounts
    blame = proofs.queued_blame(state, group, needs, request, pressing, leaked, now)
    if blame[0] == "group_cap" or blame[0] == "borrow_debt":
        if len(index.needs) <= GROUPS_COMPARED and proofs.deny_each_other(
            state, index.needs, pressing
        ):
            return ("policy_mutual_denial", blame[1])
    elif blame[0] == "queue_order" and proofs.is_eligible(state, group, needs):
        return _able(memory, run, "", now)
    return blame


def _able(memory: DiagnosisState, run: RunInfo, about: str, now: float) -> Blame:
    """Nothing keeps this head from going on, that can be seen in the stream."""
    if run.producer != "headgate":
        return harmless(about)
    wakeup = memory.wakeups.get(about)
    if wakeup is None:
        wakeup = memory.wakeups[about] = Wakeup(now, [memory.ordinal])
    return ("lost_wakeup", about) if wakeup.lost else pending(about)
