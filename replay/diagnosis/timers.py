"""Turning points that no event announces: a timer has run out, and what does that come to?"""

from __future__ import annotations

from engine.events import RunInfo
from replay.diagnosis import index_sync
from replay.diagnosis.attribution import collect, settle
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.invalidation import doubt_cooling, doubt_leaked, expect_slow
from replay.diagnosis.leaks import holds_after_end
from replay.state.model import State


def fire(
    memory: DiagnosisState, run: RunInfo, state: State, kind: str, subject: str, now: float
) -> None:
    if kind == "cooldown":
        doubt_cooling(memory, subject)
        settle(memory, run, state)
        blind = not memory.standing.attempts_seen
        memory.stalls.cooled_down(subject, now, memory.ordinal, blind)
        memory.doubtful_resources[subject] = None
        memory.stalls.storm_check(subject, now)
    elif kind == "storm":
        memory.stalls.storm_check(subject, now)
    elif kind == "episode":
        memory.stalls.episode_check(subject, now)
    elif kind == "stall":
        _check_stall(memory, run, state, subject, now)
    elif kind == "overdue":
        _turn_slow(memory, run, state, subject, now)
    elif kind == "leak":
        _find_leak(memory, run, state, subject)


def _check_stall(
    memory: DiagnosisState, run: RunInfo, state: State, resource: str, now: float
) -> None:
    watch = memory.stalls.watch(resource)
    watch.timer = False
    span = watch.span
    if span is None:
        return
    when = span.since + watch.pace.threshold
    if when > now:
        watch.timer = True
        memory.set_timer(when, "stall", resource)
    else:
        span.confirmed = True
        collect(memory, run, state, resource, now)


def _find_leak(memory: DiagnosisState, run: RunInfo, state: State, subject: str) -> None:
    """A lease was still held after the end of its owner: is it so now?"""
    leaks = memory.index.leaks
    if not holds_after_end(state, subject, memory.index.executions):
        leaks.suspects.pop(subject, None)
        return
    suspect = leaks.confirm(subject)
    if suspect is not None:
        doubt_leaked(memory, suspect)
        if subject in memory.index.placed:
            index_sync.place(memory, state, subject, run, memory.ordinal)


def _turn_slow(
    memory: DiagnosisState, run: RunInfo, state: State, resource: str, now: float
) -> None:
    """Mark the calls of a resource that have become slow, the oldest first."""
    index = memory.index
    watch = memory.stalls.watch(resource)
    watch.slow_timer = False
    allowance = watch.times.allowance
    for attempt_id in index.requests.get(resource, ()):
        call = index.calls[attempt_id]
        if call.phase != "in_provider" or call.overdue or call.lost:
            continue
        if call.started_at is None:
            continue
        if allowance is None or call.started_at + allowance > now:
            break
        index.count_overdue(call, True)
        memory.doubtful_resources[resource] = None
        task_id = index.executions.get(call.execution_id or "")
        if task_id is not None:
            index_sync.place(memory, state, task_id, run, memory.ordinal)
    expect_slow(memory, resource)
