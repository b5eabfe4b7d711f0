"""The fold agrees with the engine's own ledger, goes on after losses, and survives any payload."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import (
    ALL_REQUEST_KINDS,
    ALL_SCHEDULER_KINDS,
    Event,
    RequestEvent,
    RequestResource,
    RunInfo,
    RuntimeCorrelation,
    SchedulerEvent,
)
from replay.fold import Fold
from replay.reducer import begin, from_keyframe, reduce, to_keyframe
from replay.state import State

Play = Callable[..., tuple[RunInfo, list[Event]]]

RUN = RunInfo("run-1", "test", resource_limits={"submission": 2})
FOREIGN = RunInfo(
    "run-1",
    "test",
    producer="data_designer",
    request_sequence_semantics="per_producer",
)
ALPHA = RequestResource("alpha", "gen", "chat")


class Story:
    """Writes events by hand with running sequence numbers."""

    def __init__(self, run: RunInfo = RUN) -> None:
        self.run = run
        self.state = begin(run)
        self.ordinal = 0
        self.now = 10.0
        self.sequences = {"scheduler": 0, "request": 0}

    def fold(self, event: Event) -> State:
        self.ordinal += 1
        reduce(self.state, event, self.ordinal, self.run)
        return self.state

    def task(
        self,
        kind: str,
        task: str | None = "question/0",
        lease: str | None = None,
        execution: str | None = None,
        reason: str | None = None,
        snapshot: dict[str, Any] | None = None,
        **diagnostics: Any,
    ) -> State:
        self.sequences["scheduler"] += 1
        self.now += 0.25
        column = task.partition("/")[0] if task else None
        return self.fold(
            SchedulerEvent(
                kind,
                self.now,
                self.sequences["scheduler"],
                RuntimeCorrelation("run-1", 0, column, "cell", None, None, execution),
                task,
                execution,
                lease,
                None,
                reason,
                snapshot,
                diagnostics,
            )
        )

    def request(
        self,
        kind: str,
        attempt: str | None = "a1",
        lease: str | None = None,
        outcome: str | None = None,
        pressure: dict[str, Any] | None = None,
        **diagnostics: Any,
    ) -> State:
        self.sequences["request"] += 1
        self.now += 0.25
        return self.fold(
            RequestEvent(
                kind,
                self.now,
                self.sequences["request"],
                RuntimeCorrelation("run-1", 0, "question", "cell", None, None, "e1"),
                attempt,
                lease,
                ALPHA,
                None,
                outcome,
                pressure,
                diagnostics,
            )
        )

    def queued(self) -> State:
        self.task("dependency_ready", group="g", row=0, attempt=1)
        return self.task(
            "ready_enqueued", group="g", weight=2.0, resources={"submission": 1}, attempt=1
        )

    def running(self) -> State:
        self.queued()
        self.task("selected")
        self.task("task_lease_acquired", lease="t1", resources={"submission": 1})
        return self.task("worker_spawned", lease="t1", execution="e1")


def fold_all(run: RunInfo, events: list[Event]) -> State:
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
    return state


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
    return {name: (one.in_flight, one.waiters) for name, one in state.ceilings.items()}


def test_a_state_survives_being_stored(play: Play) -> None:
    run, events = play(5)
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
        assert stored == state


def test_the_journey_of_one_task() -> None:
    story = Story()
    state = story.queued()
    group = state.groups["g"]
    assert (group.queued, group.weight, group.demand) == (1, 2.0, {"submission": 1})
    state = story.task("selected")
    assert (group.queued, state.tasks["question/0"].phase) == (1, "selected")
    state = story.task("task_lease_acquired", lease="t1", resources={"submission": 1})
    assert (group.queued, group.leased, group.demand) == (0, 1, {})
    assert state.leased == {"submission": 1}
    story.task("worker_spawned", lease="t1", execution="e1")
    assert group.running == 1
    state = story.task("task_completed", lease="t1", execution="e1")
    assert state.tasks["question/0"].phase == "finished"
    assert state.tasks["question/0"].result == "completed"
    assert state.leased == {"submission": 1}
    state = story.task("task_lease_released", lease="t1", execution="e1", reason="released")
    assert (state.tasks, state.leased, group.leased, group.running) == ({}, {}, 0, 0)
    assert state.progress.completed_by_column == {"question": 1}


def test_a_deferred_task_waits_without_its_lease_and_comes_again() -> None:
    story = Story()
    story.running()
    story.task("retry_deferred", lease="t1", reason="Timeout", attempt=1, retry_at=20.0)
    state = story.task("task_lease_released", lease="t1", reason="released")
    task = state.tasks["question/0"]
    assert (task.phase, task.retry_at, task.lease_id, task.error) == (
        "deferred",
        20.0,
        None,
        "Timeout",
    )
    assert (state.progress.retries, state.progress.errors) == (1, {"Timeout": 1})
    state = story.task("dependency_ready", group="g", row=0, attempt=2)
    assert (state.tasks["question/0"].phase, state.tasks["question/0"].attempt) == ("ready", 2)


def test_a_stale_selection_puts_the_task_back_in_the_queue() -> None:
    story = Story()
    story.queued()
    story.task("selected")
    story.task("task_lease_acquired", lease="t1", resources={"submission": 1})
    story.task("task_lease_released", lease="t1", reason="released")
    state = story.task("stale_selection")
    assert state.tasks["question/0"].phase == "queued"
    assert (state.groups["g"].queued, state.groups["g"].leased, state.leased) == (1, 0, {})


def test_a_denied_selection_stays_queued() -> None:
    story = Story()
    story.queued()
    story.task("selected")
    state = story.task("admission_denied", reason="group_cap", group="g")
    assert (state.tasks["question/0"].phase, state.groups["g"].queued) == ("queued", 1)


def test_cancelling_a_queued_task_takes_it_out() -> None:
    story = Story()
    story.queued()
    state = story.task("cancelled", reason="shutdown")
    assert (state.tasks, state.groups["g"].queued, state.groups["g"].demand) == ({}, 0, {})


def test_a_block_lasts_until_something_else_is_told() -> None:
    story = Story()
    story.queued()
    state = story.task(
        "admission_blocked",
        task=None,
        reason="no_capacity",
        queued_count=1,
        reasons={"no_capacity": 1},
        groups={"g": "no_capacity"},
    )
    assert state.block is not None
    entered = state.block.since
    assert (state.block.queued_count, state.block.groups) == (1, {"g": "no_capacity"})
    state = story.task("admission_blocked", task=None, reasons={"group_cap": 1, "no_capacity": 1})
    assert state.block is not None
    assert (state.block.since, state.block.reason) == (entered, "no_capacity")
    state = story.task("task_lease_acquired", lease="t1", resources={"submission": 1})
    assert state.block is not None
    assert state.block.since == entered
    state = story.task("queue_drained", task=None)
    assert state.block is None
    state = story.task("queue_empty", task=None)
    assert state.block is not None
    state = story.task("queue_drained", task=None)
    assert state.block is not None


def test_debts_are_told_with_the_leases_that_change_them() -> None:
    story = Story()
    story.queued()
    state = story.task("task_lease_acquired", lease="t1", debt={"g": {"submission": 2}})
    assert state.groups["g"].debt == {"submission": 2}
    state = story.task("task_lease_released", lease="t1", debt={"g": {"submission": 0}})
    assert state.groups["g"].debt == {}


def test_a_request_from_wait_to_release() -> None:
    story = Story()
    story.request(
        "request_resource_registered",
        attempt=None,
        static_cap=4,
        effective_max=4,
        limit=1,
        aliases=["x"],
    )
    state = story.request("request_wait_started", reason="cooldown", waiters=0)
    ceiling = state.ceilings[ALPHA.label]
    assert (ceiling.waiters, ceiling.wait_reason) == (1, "cooldown")
    state = story.request("request_wait_reason_changed", attempt=None, to="domain_limit")
    assert ceiling.wait_reason == "domain_limit"
    story.request("request_wait_completed", lease="r1", waited_seconds=0.5)
    state = story.request("request_lease_acquired", lease="r1")
    ceiling = state.ceilings[ALPHA.label]
    assert (ceiling.waiters, ceiling.wait_reason, ceiling.in_flight) == (0, None, 1)
    assert state.aggregates["alpha/gen"].in_flight == 1
    story.request("model_request_started", lease="r1")
    state = story.request("model_request_completed", lease="r1", outcome="rate_limited")
    assert state.attempts["a1"].phase == "returned"
    story.request("request_rate_limited", lease="r1", blocked_until=99.0)
    story.request(
        "request_limit_decreased",
        attempt=None,
        outcome="rate_limited",
        previous=4,
        current=3,
        soft_ceiling=4,
    )
    assert (ceiling.limit, ceiling.soft_ceiling, ceiling.blocked_until) == (3, 4, 99.0)
    assert ceiling.last_change is not None
    assert (ceiling.last_change.previous, ceiling.last_change.cause) == (4, "rate_limited")
    state = story.request("request_lease_released", lease="r1", outcome="rate_limited")
    assert (state.attempts, ceiling.in_flight, ceiling.last_outcome) == ({}, 0, "rate_limited")
    assert (ceiling.consecutive_rate_limits, ceiling.rate_limited) == (1, 1)


@pytest.mark.parametrize(
    "kind", ["request_wait_timeout", "request_wait_cancelled", "request_acquire_denied"]
)
def test_a_wait_without_a_lease_ends_the_attempt(kind: str) -> None:
    story = Story()
    story.request("request_wait_started", reason="cooldown")
    state = story.request(kind, outcome="queue_timeout", waited_seconds=1.0)
    assert (state.attempts, state.ceilings[ALPHA.label].waiters) == ({}, 0)


@pytest.mark.parametrize("release_first", [True, False])
def test_foreign_release_and_completion_come_in_either_order(release_first: bool) -> None:
    story = Story(FOREIGN)
    story.request("request_wait_started")
    story.request("request_lease_acquired", lease="r1")
    story.request("model_request_started", lease="r1")
    order = ["request_lease_released", "model_request_completed"]
    for kind in order if release_first else reversed(order):
        assert "a1" in story.state.attempts
        story.request(kind, lease="r1", outcome="success")
    assert story.state.attempts == {}
    assert story.state.ceilings[ALPHA.label].in_flight == 0
    assert story.state.ceilings[ALPHA.label].completed == 1


def test_foreign_pressure_snapshots_set_the_ceiling() -> None:
    story = Story(FOREIGN)
    pressure = {
        "effective_max": 16,
        "current_limit": 12,
        "in_flight_count": 9,
        "waiters": 3,
        "blocked_until_monotonic": 12.5,
        "rate_limit_ceiling": 16,
        "consecutive_rate_limits": 2,
        "last_outcome": "rate_limited",
    }
    state = story.request("request_wait_started", pressure=pressure)
    ceiling = state.ceilings[ALPHA.label]
    assert (ceiling.effective_max, ceiling.limit, ceiling.in_flight, ceiling.waiters) == (
        16,
        12,
        9,
        3,
    )
    assert (ceiling.blocked_until, ceiling.soft_ceiling) == (12.5, 16)
    assert state.aggregates["alpha/gen"].in_flight == 9


def test_foreign_health_snapshots_stand_in_for_a_missing_request_stream() -> None:
    story = Story(FOREIGN)
    pressure = {ALPHA.label: {"effective_max": 16, "limit": 12, "in_flight": 9, "waiters": 3}}
    state = story.task("scheduler_health_snapshot", task=None, request_pressure=pressure)
    assert state.ceilings[ALPHA.label].limit == 12
    story.request("request_wait_started", pressure={"effective_max": 16, "current_limit": 10})
    state = story.task("scheduler_health_snapshot", task=None, request_pressure=pressure)
    assert state.ceilings[ALPHA.label].limit == 10


def test_a_foreign_row_group_takes_its_queued_tasks_along() -> None:
    for run, left in ((FOREIGN, 0), (RUN, 1)):
        story = Story(run)
        story.queued()
        story.task("row_group_checkpointed", task=None, row_group=1, surviving_rows=0)
        assert story.state.groups["g"].queued == 1
        state = story.task("row_group_checkpointed", task=None, row_group=0, surviving_rows=0)
        assert (state.groups["g"].queued, len(state.tasks)) == (left, left)
        assert state.groups["g"].demand == ({"submission": 1} if left else {})


@pytest.mark.parametrize("completed_first", [True, False])
def test_a_foreign_deferral_is_no_completion(completed_first: bool) -> None:
    story = Story(FOREIGN)
    story.running()
    order = ["task_completed", "retry_deferred"]
    for kind in order if completed_first else reversed(order):
        story.task(kind, lease="t1", execution="e1")
    state = story.task("task_lease_released", lease="t1", reason="released")
    assert state.tasks["question/0"].phase == "deferred"
    assert state.progress.completed_by_column == {}
    assert state.leased == {}


def test_a_gap_is_counted_once_whoever_tells_of_it_first() -> None:
    story = Story()
    story.queued()
    story.sequences["scheduler"] += 4
    state = story.task(
        "recording_gap", task=None, reason="full", stream="scheduler", first_lost=3, last_lost=6
    )
    assert [(g.first_lost, g.last_lost, g.cause) for g in state.gaps] == [(3, 6, "full")]
    assert state.lost_events == 4
    state = story.task(
        "recording_gap", task=None, reason="full", stream="request", first_lost=1, last_lost=2
    )
    story.sequences["request"] = 2
    state = story.request("request_wait_started")
    assert state.lost_events == 6
    assert [g.stream for g in state.gaps] == ["scheduler", "request"]


def test_jumping_numbers_are_no_loss_where_the_producer_promises_none() -> None:
    story = Story(FOREIGN)
    story.request("request_wait_started")
    story.sequences["request"] = 50
    story.request("request_lease_acquired", lease="r1")
    story.sequences["request"] = 10
    state = story.request("model_request_started", lease="r1")
    assert (state.lost_events, state.gaps) == (0, [])


def test_events_without_their_beginning_are_counted_and_used() -> None:
    story = Story()
    state = story.task(
        "worker_spawned", lease="t9", execution="e9", group="g", resources={"submission": 1}
    )
    assert state.tasks["question/0"].phase == "running"
    assert (state.orphans, state.leased) == (1, {"submission": 1})
    state = story.task("task_completed", lease="t9", execution="e9")
    state = story.task("task_lease_released", lease="t9", reason="released")
    assert (state.tasks, state.leased, state.orphans) == ({}, {}, 1)
    state = story.request("model_request_started", lease="r9")
    assert (state.attempts["a1"].phase, state.orphans) == ("in_provider", 2)
    state = story.request("request_lease_released", lease="r9", outcome="success")
    assert state.ceilings[ALPHA.label].in_flight == 0
    state = story.task("task_lease_released", lease="t8", reason="released")
    assert state.orphans == 3


def test_an_unknown_kind_is_counted_and_changes_nothing_else() -> None:
    story = Story()
    before = copy.deepcopy(story.queued())
    after = story.task("tea_served")
    assert after.unknown_kinds == {"tea_served": 1}
    assert to_keyframe(after, True) == to_keyframe(before, True)


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
def hostile_events(draw: st.DrawFn, farthest: float = 1e12) -> Event:
    correlation = draw(
        st.none()
        | st.builds(
            RuntimeCorrelation,
            st.just("r"),
            st.none() | st.integers(-5, 2**70),
            st.none() | st.text(max_size=3),
        )
    )
    time, sequence = draw(st.floats(-farthest, farthest)), draw(st.integers(-5, 40))
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
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
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


def test_a_loss_before_the_first_event_ends_no_sooner_than_it_begins() -> None:
    early = SchedulerEvent("queue_empty", RUN.monotonic_start - 1.0, 2)
    (gap,) = fold_all(RUN, [early]).gaps
    assert gap.from_time == gap.to_time == early.captured_at_monotonic
