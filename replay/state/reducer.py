"""The one reducer: how an event changes the state.

Deterministic and free of side effects but for the state itself; the same for a live run, a recorder
and a replay. It takes whatever a stream brings: an unknown kind, an unusable payload and an event
without its beginning are counted and never raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.state import request_events, scheduler_events
from replay.state.keyframe import from_keyframe, to_keyframe
from replay.state.model import Gap, Group, State
from replay.state.payload import count, text

__all__ = ["begin", "from_keyframe", "reduce", "to_keyframe"]

UNUSABLE = (TypeError, ValueError, KeyError, AttributeError)
GAPS_KEPT = 1000


def begin(run: RunInfo) -> State:
    """The state before the first event of a run."""
    state = State(
        time=run.monotonic_start,
        limits=dict(run.resource_limits),
        last_sequence={"scheduler": 0, "request": 0},
    )
    for column in run.columns:
        if column.group:
            state.groups[column.group] = Group(column.group, column.group_weight)
    return state


def reduce(state: State, event: Event, ordinal: int, run: RunInfo) -> None:
    """Fold one event into the state."""
    kind = event.event_kind
    now = event.captured_at_monotonic
    if type(event) is SchedulerEvent:
        stream, handler = "scheduler", _SCHEDULER.get(kind)
    else:
        stream, handler = "request", _REQUEST.get(kind)
    sequence = event.sequence
    last = state.last_sequence.get(stream)
    if last is None or sequence == last + 1:
        state.last_sequence[stream] = sequence
    elif sequence > last:
        _skipped(state, stream, last, event, run)
        state.last_sequence[stream] = sequence
    state.last_seen_at[stream] = now
    if now > state.time or state.ordinal == 0:
        state.time = now
    state.ordinal = ordinal
    if handler is None:
        state.unknown_kinds[kind] = state.unknown_kinds.get(kind, 0) + 1
        return
    try:
        handler(state, event, ordinal, run)
        if type(event) is RequestEvent and event.pressure_snapshot is not None:
            request_events.take_pressure(state, event)
    except UNUSABLE:
        state.malformed[kind] = state.malformed.get(kind, 0) + 1


def _skipped(state: State, stream: str, last: int, event: Event, run: RunInfo) -> None:
    """The numbers jump: a loss where the producer promises that they do not."""
    semantics = (
        run.scheduler_sequence_semantics
        if stream == "scheduler"
        else run.request_sequence_semantics
    )
    if semantics == "gapless":
        now = event.captured_at_monotonic
        since = state.last_seen_at.get(stream, run.monotonic_start)
        _lose(state, stream, last + 1, event.sequence - 1, since, now, "sequence")


def _recording_gap(state: State, event: SchedulerEvent, ordinal: int, run: RunInfo) -> None:
    """The producer itself says what it shed; the hole in the numbers is the same loss."""
    diagnostics = event.diagnostics
    stream = text(diagnostics.get("stream"))
    first, last = count(diagnostics.get("first_lost")), count(diagnostics.get("last_lost"))
    if stream not in ("scheduler", "request") or first is None or last is None or last < first:
        raise ValueError("no gap")
    now = event.captured_at_monotonic
    since = state.last_seen_at.get(stream, now)
    cause = text(event.reason_or_result) or "shed"
    _lose(state, stream, first, last, since, now, cause)
    if last > state.last_sequence.get(stream, 0):
        state.last_sequence[stream] = last


def _lose(
    state: State, stream: str, first: int, last: int, since: float, now: float, cause: str
) -> None:
    state.out_of_step = True
    for gap in reversed(state.gaps):
        if gap.stream == stream and gap.first_lost <= last and first <= gap.last_lost:
            before = gap.last_lost - gap.first_lost
            gap.first_lost = min(gap.first_lost, first)
            gap.last_lost = max(gap.last_lost, last)
            state.lost_events += gap.last_lost - gap.first_lost - before
            if gap.cause == "sequence":
                gap.cause = cause
            return
    state.lost_events += last - first + 1
    if len(state.gaps) < GAPS_KEPT:
        state.gaps.append(Gap(stream, first, last, min(since, now), now, cause))


_Handlers = dict[str, Callable[[State, Any, int, RunInfo], None]]
_SCHEDULER: _Handlers = {**scheduler_events.HANDLERS, "recording_gap": _recording_gap}
_REQUEST: _Handlers = {**request_events.HANDLERS}
