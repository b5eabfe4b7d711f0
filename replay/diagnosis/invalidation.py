"""What must be looked at again, and when, after something changed."""

from __future__ import annotations

from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.leaks import Suspect
from replay.diagnosis.slot_division import queued_key
from replay.state.model import State


def group_changed(memory: DiagnosisState, state: State, key: str) -> None:
    """Doubt what the queue of this group, and of those it competes with, waits for."""
    group = state.groups.get(key)
    needs = memory.index.needs.get(key, {})
    memory.doubtful_meters[queued_key(key)] = None
    presence = (group is not None and group.queued > 0, group is not None and group.leased > 0)
    shifted = memory.presence.get(key) != presence
    memory.presence[key] = presence
    for resource in needs:
        free = state.limits.get(resource, 0) - state.leased.get(resource, 0)
        level = min(free, memory.index.most.get(resource, 1))
        if shifted or memory.levels.get(resource) != level:
            memory.levels[resource] = level
            memory.doubt_queued(resource)


def resource_changed(memory: DiagnosisState, state: State, resource: str) -> None:
    """Doubt the resource and those it shares its static cap with."""
    ceiling = state.ceilings.get(resource)
    if ceiling is None:
        return
    siblings = memory.siblings.setdefault(ceiling.provider_model, {})
    siblings[resource] = None
    for sibling in siblings:
        memory.doubtful_resources[sibling] = None
        memory.doubtful_meters[("waiting", sibling)] = None
    follow_cooldown(memory, state, resource, memory.time or 0.0)


def follow_cooldown(memory: DiagnosisState, state: State, resource: str, now: float) -> None:
    watch = memory.stalls.watch(resource)
    until = state.ceilings[resource].blocked_until
    before, watch.looked_at = watch.looked_at, now
    if until == watch.cooling_until:
        return
    watch.cooling_until = until
    doubt_cooling(memory, resource)
    if until is not None and until > now:
        memory.set_timer(until, "cooldown", resource)
        if not memory.standing.attempts_seen:
            before = now if before is None else before
            memory.stalls.cooldown_seen(resource, now, memory.ordinal, until, before)


def doubt_cooling(memory: DiagnosisState, resource: str) -> None:
    """A cooldown began, moved or ended: doubt all that waits for this request resource."""
    memory.doubtful_resources[resource] = None
    memory.doubtful_meters[("waiting", resource)] = None
    memory.doubtful_meters[("assumed", resource)] = None
    for group in memory.index.queued_for.get(resource, ()):
        memory.doubtful_meters[queued_key(group)] = None


def doubt_leaked(memory: DiagnosisState, suspect: Suspect) -> None:
    for resource in suspect.resources:
        memory.doubt_queued(resource)
        memory.doubtful_resources[resource] = None
        memory.doubtful_meters[("waiting", resource)] = None
    memory.doubtful_resources[""] = None


def expect_slow(memory: DiagnosisState, resource: str) -> None:
    """Have the oldest calls of this resource looked at when the next one becomes slow."""
    watch = memory.stalls.watch(resource)
    allowance = watch.times.allowance
    if allowance is None or watch.slow_timer:
        return
    index = memory.index
    for attempt_id in index.requests.get(resource, ()):
        call = index.calls[attempt_id]
        if call.phase != "in_provider" or call.overdue or call.lost:
            continue
        if call.started_at is not None:
            watch.slow_timer = True
            memory.set_timer(call.started_at + allowance, "overdue", resource)
            return
