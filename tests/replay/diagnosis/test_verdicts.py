"""Each verdict from a stream that has exactly this cause: its name, share, interval, evidence."""

from __future__ import annotations

import pytest

from replay.projections.fold import Fold
from tests.replay.diagnosis.stream import (
    ALPHA,
    BETA,
    QUESTION,
    TOLERANCE,
    TOPIC,
    VERDICT,
    Stream,
    facts_of,
    model_column,
)

BETA_STAGE = "model_stage:beta/judge"


def test_slots_that_are_all_in_use_are_work_and_no_stall() -> None:
    stream = Stream()
    stream.register(BETA, 4)
    for second in range(10):
        works = [stream.call(stream.begin(VERDICT, row)) for row in range(4)]
        stream.at(second + 1.0)
        for work in works:
            stream.complete(work)
    result = stream.end()
    assert result.share("run", "working") == pytest.approx(1.0)
    assert result.share("cell", "working") == pytest.approx(1.0)
    assert result.verdicts == []


def test_a_full_resource_is_no_stall_for_those_who_queue_for_it() -> None:
    """Both slots in use for 5 s; two tasks wait for a call, three more for a task slot."""
    stream = Stream(limits={"submission": 64, BETA_STAGE: 4})
    stream.register(BETA, 2)
    queued = [stream.queue(VERDICT, row) for row in range(7)]
    running = [stream.run_task(work) for work in queued[:4]]
    for work in running[:2]:
        stream.call(work)
    for work in running[2:]:
        stream.wait(work, "aggregate_cap")
    stream.at(5.0)
    for work in running[:2]:
        stream.complete(work)
    result = stream.fold()
    assert [row.verdict for row in result.verdicts] == ["producer_gone"]
    assert result.share("run", "working") == pytest.approx(1.0)
    shares = [
        result.share("cell", verdict)
        for verdict in ("working", "request_aggregate_cap", "task_capacity")
    ]
    assert shares == [pytest.approx(2 / 7), pytest.approx(2 / 7), pytest.approx(3 / 7)]


def test_task_capacity_names_the_stage_its_holders_and_its_share() -> None:
    """2 task slots of a stage with 8 calls: 6 of 8 call slots idle for 10 s, and 8 of 10 cells."""
    stream = Stream(limits={"submission": 64, BETA_STAGE: 2})
    stream.register(BETA, 8)
    queued = [stream.queue(VERDICT, row) for row in range(10)]
    holders = [stream.call(stream.run_task(work)) for work in queued[:2]]
    stream.scheduler("admission_blocked", reason="no_capacity", queued_count=8)
    blocked = len(stream.events)
    stream.at(10.0)
    for work in holders:
        stream.complete(work)
    rest = [stream.run_task(work) for work in queued[2:4]]
    result = stream.fold()
    assert result.seconds("run", "task_capacity", resource=BETA.label) == pytest.approx(60.0)
    assert result.share("run", "task_capacity") == pytest.approx(0.75, abs=TOLERANCE)
    assert result.share("cell", "task_capacity", resource=BETA_STAGE) == pytest.approx(0.8)
    verdict = result.only("task_capacity")
    assert (verdict.resource, verdict.tier) == (BETA_STAGE, "C")
    assert (verdict.start, verdict.end) == (100.0, 110.0)
    assert facts_of(verdict)["limit"] == 2
    assert facts_of(verdict)["free"] == 0
    assert facts_of(verdict)["needed"] == 1
    (holder,) = facts_of(verdict)["holders"]
    assert (holder["group"], holder["leases"]) == (VERDICT.group, 2)
    assert holder["oldest_age"] == pytest.approx(0.25)
    assert blocked in verdict.evidence
    assert "2 task slots of beta/judge" in verdict.sentence
    assert "max_parallel_requests" in facts_of(verdict)["advice"]
    assert len(rest) == 2


def test_task_capacity_tells_what_its_holders_wait_for() -> None:
    stream = Stream(limits={"submission": 2})
    stream.register(ALPHA, 4)
    stream.register(BETA, 4)
    first = stream.call(stream.begin(VERDICT, 0))
    stream.answer(first, "rate_limited", blocked_until=stream.now + 3.0, retry_after=3.0)
    stream.wait(first, "cooldown")
    second = stream.wait(stream.begin(VERDICT, 1), "cooldown")
    question = stream.queue(QUESTION, 0)
    stream.at(3.0)
    stream.send(first)
    stream.send(second)
    stream.at(4.0)
    for work in (first, second):
        stream.complete(work)
    stream.run_task(question)
    result = stream.fold()
    verdict = result.only("task_capacity")
    assert verdict.resource == "submission"
    assert facts_of(verdict)["request_resource"] == ALPHA.label
    assert facts_of(verdict)["holders_wait_for"] == {BETA.label: 2}
    assert "2 of the tasks that hold them wait for a call to beta/judge" in verdict.sentence
    longest = {"task_id": "question/0", "column": "question", "row": 0, "age": pytest.approx(0.25)}
    assert facts_of(verdict)["longest_waiter"] == longest


def test_group_cap_is_proved_by_shares_not_by_the_reason() -> None:
    """Two equal groups on 4 slots; one holds its 2, the other presses and holds 1."""
    other = model_column("rating", BETA)
    stream = Stream((VERDICT, other), {"submission": 64, BETA_STAGE: 4})
    stream.register(BETA, 4)
    for row in range(2):
        stream.call(stream.begin(VERDICT, row))
    stream.call(stream.begin(other, 0))
    capped = stream.queue(VERDICT, 2)
    pressing = stream.queue(other, 1)
    stream.at(8.0)
    stream.run_task(pressing)
    stream.at(8.1)
    result = stream.fold()
    capped_seconds = result.seconds("cell", "group_cap", column="verdict", resource=BETA_STAGE)
    assert capped_seconds == pytest.approx(8.0)
    assert result.share("run", "group_cap") == pytest.approx(0.25, abs=TOLERANCE)
    verdict = result.only("group_cap")
    assert verdict.resource == BETA_STAGE
    assert facts_of(verdict)["group"] in (VERDICT.group, other.group)
    assert capped.lease == ""


def test_alone_a_group_may_hold_more_than_its_share() -> None:
    stream = Stream((VERDICT,), {"submission": 64, BETA_STAGE: 4})
    stream.register(BETA, 4)
    for row in range(3):
        stream.call(stream.begin(VERDICT, row))
    stream.queue(VERDICT, 3)
    stream.at(1.0)
    stream.scheduler("scheduler_loop_heartbeat", period=1.0, drift=0.0)
    result = stream.fold()
    assert result.seconds("cell", "group_cap") == 0.0
    assert result.seconds("cell", "queue_order") == pytest.approx(1.0)


def test_retry_backoff_while_only_failed_tasks_are_left() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(1.0)
    stream.answer(work, "provider_failure")
    stream.defer(work, "ServerError", 4.0)
    stream.at(5.0)
    stream.call(stream.run_task(stream.again(work)))
    stream.at(6.0)
    stream.complete(work)
    result = stream.end()
    assert result.seconds("cell", "retry_backoff", resource=BETA.label) == pytest.approx(4.0)
    assert result.share("cell", "retry_backoff") == pytest.approx(4 / 6, abs=TOLERANCE)
    # One task waits, and can use one of the two slots.
    assert result.share("run", "retry_backoff") == pytest.approx(4 / 12, abs=TOLERANCE)
    assert result.share("run", "dependency") == pytest.approx((4 + 2) / 12, abs=TOLERANCE)
    verdict = result.only("retry_backoff")
    assert (verdict.start, verdict.end) == (101.0, 105.0)
    assert facts_of(verdict)["errors"] == {"ServerError": 1}
    assert facts_of(verdict)["expected_release"] == pytest.approx(105.0)
    assert "ServerError" in verdict.sentence


def test_dependency_names_the_column_that_others_need() -> None:
    """One question takes 6 s; its verdict can't begin before."""
    stream = Stream()
    stream.register(ALPHA, 4)
    stream.register(BETA, 4)
    question = stream.call(stream.begin(QUESTION, 0))
    stream.at(6.0)
    stream.complete(question)
    verdict_task = stream.call(stream.begin(VERDICT, 0))
    stream.at(6.2)
    stream.complete(verdict_task)
    result = stream.end()
    assert result.share("run", "dependency") == pytest.approx(0.75, abs=TOLERANCE)
    assert result.share("cell", "working") == pytest.approx(1.0)
    verdict = result.only("dependency")
    assert (verdict.start, verdict.end) == (100.0, 106.0)
    assert facts_of(verdict)["in_flight"] == {"question": 1}
    assert facts_of(verdict)["columns_waiting"] == ["verdict"]
    assert "1 task of question was still at work, which verdict needs" in verdict.sentence


def test_row_group_horizon_where_more_row_groups_would_fill_the_gap() -> None:
    stream = Stream(row_groups=4)
    stream.register(ALPHA, 4)
    stream.scheduler("row_group_admitted", row_group=0, rows=10, in_flight=1, target=1)
    question = stream.call(stream.begin(QUESTION, 0))
    stream.scheduler(
        "row_group_admission_blocked",
        reason="target_reached",
        next_row_group=1,
        in_flight=1,
        target=1,
    )
    stream.at(4.0)
    stream.complete(question)
    result = stream.end()
    assert result.share("run", "row_group_horizon") == pytest.approx(0.75, abs=TOLERANCE)
    assert "max_concurrent_row_groups" in facts_of(result.only("row_group_horizon"))["advice"]


def test_downstream_completion_while_finished_rows_are_written() -> None:
    """All cells are done at 4 s; their row group is written until 10 s."""
    stream = Stream(row_groups=1)
    stream.register(BETA, 2)
    stream.scheduler("row_group_admitted", row_group=0, rows=2, in_flight=1, target=1)
    works = [stream.call(stream.begin(VERDICT, row)) for row in range(2)]
    stream.at(4.0)
    for work in works:
        stream.complete(work)
    stream.scheduler("row_group_checkpoint_started", row_group=0)
    stream.at(10.0)
    stream.scheduler("row_group_checkpointed", row_group=0, rows=2)
    result = stream.end()
    assert result.share("run", "downstream_completion") == pytest.approx(0.6, abs=TOLERANCE)
    assert result.share("run", "working") == pytest.approx(0.4, abs=TOLERANCE)
    assert result.share("cell", "working") == pytest.approx(1.0)
    verdict = result.only("downstream_completion")
    assert (verdict.tier, verdict.start, verdict.end) == ("F", 104.0, 110.0)


def test_a_local_column_alone_is_work() -> None:
    stream = Stream((TOPIC,))
    topic = stream.begin(TOPIC, 0)
    stream.at(5.0)
    stream.finish(topic)
    result = stream.end()
    assert result.share("run", "working") == pytest.approx(1.0)
    assert result.verdicts == []


def test_a_storm_on_one_of_two_providers_shows_as_its_share() -> None:
    """alpha keeps its 2 slots full for 10 s; beta's 2 slots cool down for 5 of them."""
    stream = Stream()
    stream.register(ALPHA, 2)
    stream.register(BETA, 2)
    questions = [stream.call(stream.begin(QUESTION, row)) for row in range(2)]
    verdicts = [stream.call(stream.begin(VERDICT, row)) for row in range(2)]
    stream.at(2.0)
    for work in verdicts:
        stream.answer(work, "rate_limited", blocked_until=107.0, retry_after=5.0)
        stream.wait(work, "cooldown")
    stream.at(7.0)
    for work in verdicts:
        stream.send(work)
    stream.at(10.0)
    for work in (*questions, *verdicts):
        stream.complete(work)
    result = stream.end()
    assert result.share("run", "request_cooldown", resource=BETA.label) == pytest.approx(0.25)
    assert result.share("run", "working", resource=ALPHA.label) == pytest.approx(0.5)
    assert result.share("cell", "request_cooldown") == pytest.approx(0.25)


def test_stalls_that_follow_each_other_are_one_verdict() -> None:
    """Limit 1 of 4 and calls of 2 s, with a median gap too short to make that usual."""
    stream = Stream()
    stream.register(BETA, 4)
    for row in range(30):
        stream.at(row * 0.01)
        stream.complete(stream.call(stream.begin(VERDICT, row)))
    works = [stream.begin(VERDICT, 40 + n) for n in range(4)]
    stream.call(works[0])
    stream.answer(works[0], "rate_limited", blocked_until=stream.now, limit=(4, 1))
    for work in works:
        stream.wait(work, "domain_limit")
    start = stream.now - stream.run.monotonic_start
    stream.at(start + 1.5)  # The 429 is over; its storm does not swallow what follows.
    for number, work in enumerate(works):
        stream.send(work)
        stream.at(start + 1.5 + 2.0 * (number + 1))
        stream.complete(work)
    result = stream.end()
    verdict = result.only("request_domain_limit")
    assert verdict.end - verdict.start == pytest.approx(6.0)
    assert facts_of(verdict)["stalled_seconds"] == pytest.approx(6.0)
    assert "all were in use for 6.0 s" in verdict.sentence


def test_a_stall_that_goes_on_is_told_before_it_ends() -> None:
    """What a live console shows: the same verdict, as far as it has come."""
    stream = Stream()
    stream.register(BETA, 4)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(2.0)
    stream.answer(work, "rate_limited", blocked_until=120.0, retry_after=18.0)
    stream.wait(work, "cooldown")
    for second in range(3, 9):
        stream.at(float(second))
        stream.scheduler("scheduler_loop_heartbeat", period=1.0, drift=0.0)
    fold = Fold(stream.run)
    fold.apply(stream.events, 1)
    before = fold.dump()
    (verdict,) = fold.open_verdicts()
    assert (verdict.verdict, verdict.resource) == ("request_cooldown", BETA.label)
    assert (verdict.start, verdict.end) == (102.0, 108.0)
    assert fold.dump() == before
