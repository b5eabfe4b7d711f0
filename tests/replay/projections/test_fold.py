"""Derived rows: exact bars and integrals, and a fold that can be put aside at any event."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.diagnosis.diagnosis import DIAGNOSIS_VERSION, Diagnosis
from replay.projections.fold import Fold, FoldOutput
from replay.projections.series import Rollup
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.state.rows import AttemptRow, LeaseRow
from replay.state.waits import waits
from tests.replay.diagnosis.simulated import simulate
from tests.replay.diagnosis.test_random_runs import random_workflow
from tests.replay.random_engine import Play
from tests.replay.stretches import bin_by_bin


def joined(*parts: FoldOutput) -> FoldOutput:
    whole = FoldOutput()
    for part in parts:
        for name in whole.__struct_fields__:
            getattr(whole, name).extend(getattr(part, name))
    return whole


def at_once(run: RunInfo, events: list[Event]) -> FoldOutput:
    fold = Fold(run)
    fold.apply(events, 1)
    return joined(fold.drain(), fold.finish("success", False))


def test_a_fold_put_aside_at_any_event_goes_on_without_a_difference(play: Play) -> None:
    run, events = play(11)
    expected = at_once(run, events)
    going_on = Fold(run)
    parts: list[FoldOutput] = []
    for ordinal, event in enumerate(events, 1):
        going_on.apply([event], ordinal)
        going_on = Fold.load(going_on.dump())
        if ordinal % 7 == 0:
            parts.append(going_on.drain())
    assert joined(*parts, going_on.finish("success", False)) == expected


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 400))
def test_a_loaded_fold_equals_the_one_that_was_dumped(play: Play, seed: int, cut: int) -> None:
    run, events = play(seed)
    first = Fold(run)
    first.apply(events[:cut], 1)
    second = Fold.load(first.dump())
    second.apply(events[cut:], len(events[:cut]) + 1)
    assert second.finish("success", False) == at_once(run, events)


def test_a_loaded_fold_knows_the_run_it_began_with(play: Play) -> None:
    run, _ = play(1)
    run = msgspec.structs.replace(run, configuration={"seed": 10**40})
    assert Fold.load(Fold(run).dump()).run == run


def test_load_refuses_a_dump_of_another_layout(play: Play) -> None:
    run, _ = play(3)
    dump = msgspec.msgpack.decode(Fold(run).dump())
    for layout in (1, 2, 3):
        with pytest.raises(ValueError, match="not a fold"):
            Fold.load(msgspec.msgpack.encode({**dump, "layout": layout}))


def test_a_diagnosis_of_other_parts_is_refused(play: Play) -> None:
    run, _ = play(3)
    with pytest.raises(ValueError, match="not a diagnosis"):
        Diagnosis.load(run, msgspec.msgpack.encode({"version": DIAGNOSIS_VERSION, "standing": {}}))


def test_load_refuses_what_is_no_fold() -> None:
    with pytest.raises(ValueError, match="not a fold"):
        Fold.load(b"\x93abc")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_lease_and_attempt_has_its_one_row(play: Play, seed: int) -> None:
    run, events = play(seed)
    output = at_once(run, events)
    acquired = [e.task_lease_id for e in events if e.event_kind == "task_lease_acquired"]  # type: ignore[union-attr]
    assert sorted(row.lease_id for row in output.leases) == sorted(str(item) for item in acquired)
    by_ordinal = dict(enumerate(events, 1))
    for row in output.leases:
        start, end = by_ordinal[row.acquired_ordinal], by_ordinal[row.released_ordinal or 0]
        assert isinstance(start, SchedulerEvent)
        assert isinstance(end, SchedulerEvent)
        assert (start.event_kind, start.task_lease_id) == ("task_lease_acquired", row.lease_id)
        assert (end.event_kind, end.task_lease_id) == ("task_lease_released", row.lease_id)
        assert row.released_at == end.captured_at_monotonic
        assert row.result in ("completed", "deferred", "dropped")
    begun = [e for e in events if e.event_kind == "request_wait_started"]
    assert len(output.attempts) == len(begun)
    for attempt in output.attempts:
        end = by_ordinal[attempt.last_ordinal or 0]
        assert isinstance(end, RequestEvent)
        assert (end.event_kind, end.request_attempt_id) == (
            "request_lease_released",
            attempt.attempt_id,
        )
        moments = (
            attempt.wait_started_at,
            attempt.acquired_at,
            attempt.started_at,
            attempt.completed_at,
            attempt.released_at,
        )
        known = [at for at in moments if at is not None]
        assert len(known) == 5
        assert known == sorted(known)


def test_what_a_dead_producer_left_open_gets_rows_with_open_ends(play: Play) -> None:
    run, events = play(4)
    cut = next(i for i, e in enumerate(events) if e.event_kind == "model_request_started") + 1
    fold = Fold(run)
    fold.apply(events[:cut], 1)
    held = {task.lease_id for task in fold.state.tasks.values() if task.lease_id}
    output = fold.finish(None, lost=True)
    assert {row.lease_id for row in output.leases if row.released_at is None} == held
    assert held
    open_attempts = [row for row in output.attempts if row.released_at is None]
    assert [row.outcome for row in open_attempts] == [None] * len(open_attempts)
    assert fold.state.outcome is None


SERIES: dict[str, Callable[[State], dict[str, float]]] = {
    "queue_depth": lambda state: {g.key: g.queued for g in state.groups.values()},
    "leased": lambda state: {**state.leased},
    "limit": lambda state: {c.resource: c.limit for c in state.ceilings.values()},
    "in_flight": lambda state: {c.resource: c.in_flight for c in state.ceilings.values()},
    "waiters": lambda state: {c.resource: c.waiters for c in state.ceilings.values()},
    "blocked": lambda state: {state.block.reason or state.block.kind: 1.0} if state.block else {},
    "cooling": lambda state: {},
}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_series_are_the_exact_integrals_of_the_state(play: Play, seed: int) -> None:
    assert_exact_series(*play(seed))


@pytest.mark.parametrize("seed", range(12))
def test_series_of_a_run_of_the_engine_are_exact(seed: int) -> None:
    assert_exact_series(*simulate(random_workflow(seed)))


def test_a_drained_queue_is_blocked_no_more() -> None:
    kinds = {0.1: "admission_blocked", 0.4: "queue_drained", 0.9: "scheduler_loop_heartbeat"}
    events: list[Event] = [
        SchedulerEvent(kind, at, number, reason_or_result="no_capacity")
        for number, (at, kind) in enumerate(kinds.items(), 1)
    ]
    run = RunInfo("r", "drained")
    assert_exact_series(run, events)
    (blocked,) = (row for row in at_once(run, events).rollup if row.series == "blocked")
    assert blocked.mean == pytest.approx(0.3)


def assert_exact_series(run: RunInfo, events: list[Event]) -> None:
    rows = at_once(run, events).rollup
    expected: dict[tuple[int, str, str], float] = {}
    state = begin(run)
    start = run.monotonic_start
    for ordinal, event in enumerate(events, 1):
        at, until = state.time, max(state.time, event.captured_at_monotonic)
        cooling = {c.resource: c.blocked_until for c in state.ceilings.values() if c.blocked_until}
        while ordinal > 1 and at < until:
            number = int(at - start)
            stop = min(until, start + number + 1)
            for series, values in SERIES.items():
                for key, value in values(state).items():
                    place = (number, series, key)
                    expected[place] = expected.get(place, 0.0) + value * (stop - at)
            for key, end in cooling.items():
                place = (number, "cooling", key)
                seconds = max(0.0, min(stop, end) - at)
                expected[place] = expected.get(place, 0.0) + seconds
            at = stop
        reduce(state, event, ordinal, run)
    actual = {
        (row.bin, row.series, row.key): row.mean for row in bin_by_bin(rows) if row.series in SERIES
    }
    for place in expected.keys() | actual.keys():
        assert actual.get(place, 0.0) == pytest.approx(expected.get(place, 0.0), abs=1e-9)


def test_counts_add_up(play: Play) -> None:
    run, events = play(21, row_groups=3)
    rows = at_once(run, events).rollup

    def total(series: str, key: str | None = None) -> float:
        return sum(
            row.mean * row.bins for row in rows if row.series == series and key in (None, row.key)
        )

    kinds = [event.event_kind for event in events]
    assert total("events", "") == len(events)
    assert total("rate_limited") == kinds.count("request_rate_limited")
    assert total("tasks_done") == kinds.count("task_completed")
    state = begin(run)
    for ordinal, event in enumerate(events, 1):
        reduce(state, event, ordinal, run)
    assert total("rows_done", "") == state.progress.rows_done > 0
    assert total("completed") == sum(c.completed for c in state.ceilings.values())
    tokens = state.progress.prompt_tokens + state.progress.completion_tokens
    assert total("tokens", "") == tokens > 0


def test_each_bin_has_a_series_at_most_once_and_silence_is_not_written() -> None:
    run = RunInfo("r", "quiet", monotonic_start=0.0)
    rollup = Rollup(run)
    state = begin(run)
    times = [0.5, 3.5, 3.6, 50_000.0]
    for ordinal, time in enumerate(times, 1):
        event = SchedulerEvent(
            "dependency_ready" if ordinal == 1 else "ready_enqueued",
            time,
            ordinal,
            task_id="a/0",
            diagnostics={"group": "g", "resources": {"x": 1}},
        )
        rollup.before(state, event, ordinal)
        reduce(state, event, ordinal, run)
        rollup.after(state, event, ordinal)
    rollup.finish(state)
    rows = rollup.drain()
    depth = [row for row in rows if row.series == "queue_depth"]
    assert [(row.bin, row.last, row.peak) for row in depth] == [(3, 1, 1), (50_000, 1, 1)]
    assert depth[0].mean == pytest.approx(0.1)
    assert len({(row.bin, row.series, row.key) for row in rows}) == len(rows)


def test_waits_of_one_lease() -> None:
    lease = LeaseRow(
        lease_id="t1",
        task_id="q/0",
        column="q",
        group="g",
        row_group=0,
        row=0,
        attempt=1,
        execution_id="e1",
        ready_at=0.0,
        enqueued_at=1.0,
        selected_at=3.0,
        acquired_at=3.5,
        spawned_at=4.0,
        released_at=None,
        result=None,
        error=None,
        acquired_ordinal=1,
        released_ordinal=None,
    )
    first = AttemptRow("a1", "r", "e1", "q", "r1", 5.0, 7.0, 7.5, 9.0, 9.5, "success", 2, 3)
    second = AttemptRow("a2", "r", "e1", "q", None, 9.0, None, None, None, None, None, 4, None)
    waited = waits(lease, [first, second], now=12.0)
    assert (waited.ready_queue_wait, waited.task_admission_wait) == (2.0, 0.5)
    assert waited.ready_to_lease_gap == 2.5
    assert (waited.request_wait, waited.provider_time) == (2.0 + 3.0, 1.5)
    assert waited.own_time == (12.0 - 4.0) - (12.0 - 5.0)
    unknown = waits(lease, [], now=12.0)
    assert unknown.own_time == 8.0
