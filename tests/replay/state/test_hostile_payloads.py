"""The fold, and what is derived from it, survive any payload."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import (
    ALL_REQUEST_KINDS,
    ALL_SCHEDULER_KINDS,
    Event,
    RequestEvent,
    RuntimeCorrelation,
    SchedulerEvent,
)
from replay.projections.fold import Fold
from replay.state.reducer import to_keyframe
from replay.state.wire import decode_state, encode_state
from tests.replay.story import ALPHA, FOREIGN, RUN, fold_all

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.sampled_from(["g", "submission", "question/0", "a1", ALPHA.label]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["g", "submission", "limit", "needed", "holders"]), inner, max_size=3
        )
    ),
    max_leaves=3,
)
KEYS = st.sampled_from(
    """group row attempt weight resources request_resource reason row_group rows target limits
    surviving_rows dropped_rows queued_count reasons groups available_after retry_at drift stream
    first_lost last_lost static_cap effective_max limit aliases current previous to blocked_until
    soft_ceiling outcome prompt_tokens completion_tokens request_pressure tasks attempts requests
    aggregates leased progress queued_by_group in_flight current_limit in_flight_count waiters
    """.split()
)
PAYLOAD = st.dictionaries(KEYS, ANYTHING, max_size=4)
ID = st.none() | st.sampled_from(["question/0", "verdict/1", "x1", ""])


@st.composite
def hostile_events(draw: st.DrawFn, farthest: float = 1e10) -> Event:
    correlation = draw(
        st.none()
        | st.builds(
            RuntimeCorrelation,
            st.just("r"),
            st.none() | st.integers(-5, 2**70),
            st.none() | st.text(max_size=3),
        )
    )
    time, sequence = (
        draw(st.floats(-farthest, farthest, exclude_min=True, exclude_max=True)),
        draw(st.integers(-5, 40)),
    )
    if draw(st.booleans()):
        return SchedulerEvent(
            draw(st.sampled_from(sorted(ALL_SCHEDULER_KINDS))),
            time,
            sequence,
            correlation,
            draw(ID),
            draw(ID),
            draw(ID),
            None,
            draw(st.none() | st.text(max_size=5)),
            draw(st.none() | PAYLOAD),
            draw(PAYLOAD),
        )
    return RequestEvent(
        draw(st.sampled_from(sorted(ALL_REQUEST_KINDS))),
        time,
        sequence,
        correlation,
        draw(ID),
        draw(ID),
        draw(st.none() | st.just(ALPHA)),
        None,
        draw(st.none() | st.text(max_size=5)),
        draw(st.none() | PAYLOAD),
        draw(PAYLOAD),
    )


@settings(max_examples=150, deadline=None)
@given(events=st.lists(hostile_events(), max_size=12), ours=st.booleans())
def test_no_payload_breaks_the_fold(events: list[Event], ours: bool) -> None:
    run = RUN if ours else FOREIGN
    state = fold_all(run, events)
    to_keyframe(state, True)
    replaced = ours and any(e.event_kind == "scheduler_health_snapshot" for e in events)
    for group in state.groups.values():
        assert group.queued >= 0
        assert group.leased >= group.running >= 0
    queued = sum(task.phase in ("queued", "selected") for task in state.tasks.values())
    assert replaced or sum(group.queued for group in state.groups.values()) == queued
    stored = decode_state(encode_state(state))
    assert stored == state


def test_an_event_without_a_task_takes_nothing_from_one_without_a_name() -> None:
    events: list[Event] = [
        SchedulerEvent("selected", 0.0, 1, task_id=""),
        SchedulerEvent("dependency_ready", 0.0, 2),
    ]
    state = fold_all(FOREIGN, events)
    assert state.malformed == {"dependency_ready": 1}
    assert state.tasks[""].phase == "selected"
    assert state.groups[""].queued == 1


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(hostile_events(600.0), max_size=12),
    ours=st.booleans(),
    position=st.integers(0, 12),
)
def test_no_payload_breaks_what_is_derived(events: list[Event], ours: bool, position: int) -> None:
    run = RUN if ours else FOREIGN
    whole, resumed = Fold(run), Fold(run)
    whole.apply(events, 1)
    resumed.apply(events[:position], 1)
    resumed = Fold.load(resumed.dump())
    resumed.apply(events[position:], position + 1)
    assert resumed.state == whole.state
    rows = whole.finish(None, lost=True)
    assert resumed.finish(None, lost=True) == rows
    assert all(row.seconds >= 0 for row in rows.blame)
    assert all(row.start <= row.end for row in rows.verdicts)
    ordinals = [ordinal for row in rows.verdicts for ordinal in row.evidence]
    assert all(1 <= ordinal <= len(events) for ordinal in ordinals)
