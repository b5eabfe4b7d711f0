"""What the first paragraph says of the pace where no error and no stall explains it."""

from __future__ import annotations

from typing import get_args

import pytest

from engine.events import RunInfo
from replay.diagnosis.report.answer import compose
from replay.diagnosis.report.pace import find_bound, find_slowest
from replay.diagnosis.report.shares import Share, run_shares
from replay.diagnosis.verdicts import Context, row_of
from replay.diagnosis.verdicts.cooldowns import RequestCooldown
from replay.diagnosis.verdicts.requests import RequestAggregateCap
from replay.diagnosis.verdicts.slots import Activity, TaskCapacity
from replay.state.model import State
from replay.state.rows import BlameRow
from tests.replay.diagnosis.stream import ALPHA, BETA, QUESTION, VERDICT, Stream
from tests.replay.diagnosis.test_failures import saturated

ROOT_SECONDS, NEXT_SECONDS = 2.5, 0.06


def root_then_fast(stream: Stream) -> State:
    """Eight calls to beta at once, all that there is, then one to alpha for each."""
    stream.register(ALPHA, 8)
    stream.register(BETA, 8)
    roots = [stream.call(stream.begin(VERDICT, row)) for row in range(8)]
    stream.at(ROOT_SECONDS)
    for work in roots:
        stream.complete(work)
    for row in range(8):
        work = stream.call(stream.begin(QUESTION, row))
        stream.at(ROOT_SECONDS + NEXT_SECONDS * (row + 1))
        stream.complete(work)
    return stream.end().state


def test_the_slowest_endpoint_is_named_with_what_a_call_takes() -> None:
    stream = Stream()
    slowest = find_slowest(stream.run, root_then_fast(stream))
    assert slowest is not None
    assert (slowest.model, slowest.other) == ("beta/judge", "alpha/gen")
    assert slowest.seconds == pytest.approx(ROOT_SECONDS)
    assert slowest.other_seconds == pytest.approx(NEXT_SECONDS)
    assert "a call takes 2.5 s on average (60 ms at alpha/gen)" in slowest.sentence()


def test_where_no_event_tells_of_calls_tasks_show_the_slowest_endpoint() -> None:
    stream = Stream(producer="data_designer", lacks=("request stream",))
    works = [stream.begin(VERDICT, row) for row in range(8)]
    stream.at(ROOT_SECONDS)
    for work in works:
        stream.finish(work)
    for row in range(8):
        work = stream.begin(QUESTION, row)
        stream.at(ROOT_SECONDS + NEXT_SECONDS * (row + 1))
        stream.finish(work)
    slowest = find_slowest(stream.run, stream.end().state)
    assert slowest is not None
    assert "beta/judge: a task that calls it takes 2.5 s" in slowest.sentence()


def test_endpoints_that_are_alike_have_no_slowest() -> None:
    stream = Stream()
    stream.register(ALPHA, 1)
    stream.register(BETA, 1)
    for row in range(10):
        for column, seconds in ((QUESTION, 0.2), (VERDICT, 0.5)):
            work = stream.call(stream.begin(column, row))
            stream.at(stream.now - 100.0 + seconds)
            stream.complete(work)
    assert find_slowest(stream.run, stream.end().state) is None


def test_the_first_paragraph_has_the_slowest_endpoint_where_columns_wait_for_others() -> None:
    stream = Stream()
    slowest = find_slowest(stream.run, root_then_fast(stream))
    waited = BlameRow(0, "run", "", None, ALPHA.label, "dependency", 6.0)
    worked = BlameRow(0, "run", "", None, BETA.label, "working", 6.0)
    busy = BlameRow(0, "run", "", None, BETA.label, "working", 100.0)
    waiting = compose("", None, slowest, run_shares([waited, worked]), [], 0.0)
    assert waiting.pace.startswith("The slowest endpoint is beta/judge")
    assert compose("", None, slowest, run_shares([waited, busy]), [], 0.0).pace == ""


def test_time_in_which_the_process_did_not_run_says_nothing_of_a_cap() -> None:
    state, rows = saturated({"judge": 3})
    stood = [
        BlameRow(10, "run", "", None, label.label, "process_stopped", 3.0, 20)
        for label in (ALPHA, BETA)
    ]
    run = RunInfo("r", "n")
    bound = find_bound(run, state, [*rows, *stood], [])
    assert bound is not None
    assert bound.saturated == pytest.approx(0.9)
    assert "of the time in which the run's own process ran" in bound.sentence()


@pytest.mark.parametrize("trouble", ["rate_limited", "failed"])
def test_no_larger_cap_is_advised_for_an_endpoint_that_fails(trouble: str) -> None:
    state, rows = saturated({"judge": 3, "grader": 8})
    bound = find_bound(RunInfo("r", "n"), state, rows, [])
    assert bound is not None
    assert bound.advice.startswith("Raise max_parallel_requests")
    setattr(state.ceilings[BETA.label], trouble, 1)
    bound = find_bound(RunInfo("r", "n"), state, rows, [])
    assert bound is not None
    assert bound.advice == ""


@pytest.mark.parametrize("activity", get_args(Activity))
def test_task_slots_of_a_model_are_never_a_reason_to_raise_its_cap(activity: Activity) -> None:
    """Whether its endpoint could take more is told where its calls are looked at."""
    slots = TaskCapacity(limit=6, free=0, needed=1, waiting=9, holders_do={activity: 6})
    advice = slots.advice_here("model_stage:beta/judge-70b")
    assert advice
    assert "aise max_parallel_requests" not in advice


def test_the_first_paragraph_says_what_to_do_about_its_largest_losses() -> None:
    share = Share("request_cooldown", 0.4, BETA.label)
    stall = row_of(
        RequestCooldown(rate_limited=3, held_seconds=4.0), BETA.label, 1, 5, [1], Context()
    )
    said = compose("", None, None, [share, Share("working", 0.6)], [stall], 0.0).lost
    assert "Lower max_parallel_requests of this model" in said
    small = Share("request_cooldown", 0.03, BETA.label)
    said = compose("", None, None, [small, Share("working", 0.97)], [stall], 0.0).lost
    assert "asked to slow down" in said
    assert "Lower max_parallel_requests" not in said


def test_a_full_cap_is_no_reason_to_raise_it_where_no_event_tells_of_calls() -> None:
    full = RequestAggregateCap(needed=1, limit=8, effective_max=8, free=0)
    assert full.advice_here(BETA.label).startswith("Raise max_parallel_requests")
    full.missing = ["request stream"]
    assert "cannot be told" in full.advice_here(BETA.label)
    full.missing, full.slow = [], 5
    assert "slow endpoint" in full.advice_here(BETA.label)
