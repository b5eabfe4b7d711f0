"""The fold agrees with the engine's own ledger, and goes on after losses."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import (
    SchedulerEvent,
)
from replay.state.model import State
from replay.state.reducer import begin, from_keyframe, reduce, to_keyframe
from replay.state.wire import decode_state, encode_state
from tests.replay.random_engine import Play
from tests.replay.story import fold_all


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.none() | st.integers(1, 120))
def test_fold_equals_the_engines_ledger_at_every_keyframe(
    play: Play, seed: int, steps: int | None
) -> None:
    run, events = play(seed, steps=steps)
    state = begin(run)
    keyframes = 0
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
        if event.event_kind == "scheduler_health_snapshot":
            assert isinstance(event, SchedulerEvent)
            assert event.snapshot is not None
            full = "tasks" in event.snapshot
            assert to_keyframe(state, full) == event.snapshot
            keyframes += 1
    assert keyframes >= 1
    assert (state.orphans, state.malformed, state.unknown_kinds) == (0, {}, {})
    assert (state.lost_events, state.gaps) == (0, [])


def test_a_finished_run_leaves_nothing_live(play: Play) -> None:
    run, events = play(3, row_groups=3)
    state = fold_all(run, events)
    assert state.outcome == "success"
    assert not state.tasks
    assert not state.attempts
    assert not state.leased
    assert all(c.in_flight == c.waiters == 0 for c in state.ceilings.values())
    assert state.progress.rows_done + state.progress.rows_dropped == run.records


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_fold_that_begins_at_a_keyframe_goes_on_like_the_whole(play: Play, seed: int) -> None:
    run, events = play(seed)
    whole = begin(run)
    pieces: list[State] = []
    for ordinal, event in enumerate(events, 1):
        reduce(whole, event, ordinal, run)
        for piece in pieces:
            reduce(piece, event, ordinal, run)
            assert to_keyframe(piece, True) == to_keyframe(whole, True)
            assert piece.lost_events == 0
        if isinstance(event, SchedulerEvent) and event.snapshot and "tasks" in event.snapshot:
            pieces.append(from_keyframe(run, event, ordinal))
            assert to_keyframe(pieces[-1], True) == event.snapshot
    assert pieces


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), at=st.integers(5, 60), lost=st.integers(1, 12))
def test_the_next_full_keyframe_puts_a_fold_with_a_gap_right(
    play: Play, seed: int, at: int, lost: int
) -> None:
    run, events = play(seed, row_groups=3)
    kept = list(enumerate(events, 1))
    del kept[at : at + lost]
    state = begin(run)
    corrected = False
    for ordinal, event in kept:
        reduce(state, event, ordinal, run)
        if state.lost_events and isinstance(event, SchedulerEvent) and event.snapshot:
            full = "tasks" in event.snapshot
            corrected = corrected or full
            assert not full or to_keyframe(state, full) == event.snapshot
    assert corrected
    assert state.lost_events == lost
    assert not state.tasks


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), at=st.integers(5, 60), lost=st.integers(1, 30))
def test_behind_a_gap_calls_are_counted_as_if_there_were_none(
    play: Play, seed: int, at: int, lost: int
) -> None:
    """From the next keyframe on, though it is one of counts alone."""
    run, events = play(seed, row_groups=3)
    whole, gapped = begin(run), begin(run)
    counted = False
    for ordinal, event in enumerate(events, 1):
        reduce(whole, event, ordinal, run)
        if at < ordinal <= at + lost:
            continue
        reduce(gapped, event, ordinal, run)
        counted = counted or (
            gapped.lost_events > 0 and isinstance(event, SchedulerEvent) and bool(event.snapshot)
        )
        if counted:
            assert calls_of(gapped) == calls_of(whole)
    assert counted


def calls_of(state: State) -> dict[str, tuple[int, int]]:
    return {name: (ceiling.in_flight, ceiling.waiters) for name, ceiling in state.ceilings.items()}


def test_a_state_survives_being_stored(play: Play) -> None:
    run, events = play(5)
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
        stored = decode_state(encode_state(state))
        assert stored == state
