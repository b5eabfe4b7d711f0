"""What each event does to the state."""

from __future__ import annotations

import copy

import pytest

from engine.events import (
    ALL_REQUEST_KINDS,
    ALL_SCHEDULER_KINDS,
    Event,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
)
from replay.state.reducer import begin, reduce, to_keyframe
from tests.replay.story import ALPHA, FOREIGN, RUN, Story, fold_all


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
    assert (dict(state.tasks), state.leased, group.leased, group.running) == ({}, {}, 0, 0)
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
    assert (dict(state.tasks), state.groups["g"].queued, state.groups["g"].demand) == ({}, 0, {})


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
    assert (dict(state.tasks), state.leased, state.orphans) == ({}, {}, 1)
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


def test_a_loss_before_the_first_event_ends_no_sooner_than_it_begins() -> None:
    early = SchedulerEvent("queue_empty", RUN.monotonic_start - 1.0, 2)
    (gap,) = fold_all(RUN, [early]).gaps
    assert gap.from_time == gap.to_time == early.captured_at_monotonic


@pytest.mark.parametrize("kind", sorted(ALL_SCHEDULER_KINDS | ALL_REQUEST_KINDS))
def test_every_kind_of_the_table_is_known_to_the_reducer(kind: str) -> None:
    run = RunInfo("run-1", "small")
    state = begin(run)
    event: Event = (
        SchedulerEvent(kind, 1.0, 1) if kind in ALL_SCHEDULER_KINDS else RequestEvent(kind, 1.0, 1)
    )
    reduce(state, event, 1, run)
    assert state.unknown_kinds == {}
