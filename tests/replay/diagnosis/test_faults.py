"""Faults that no healthy engine has, injected into streams: each is named, with its share."""

from __future__ import annotations

import msgspec
import pytest

from engine.events import ColumnInfo
from tests.replay.diagnosis.stream import BETA, VERDICT, Result, Stream, facts_of, model_column

BETA_STAGE = "model_stage:beta/judge"
RATING = model_column("rating", BETA)
TOLERANCE = 0.02


def beat(stream: Stream, until: float, every: float = 1.0) -> Stream:
    """Heartbeats up to run time `until`, at whole multiples of `every`."""
    at = stream.now - stream.run.monotonic_start
    number = int(at / every) + 1
    while number * every <= until:
        stream.at(number * every)
        stream.scheduler("scheduler_loop_heartbeat", period=every, drift=0.0)
        number += 1
    return stream.at(until)


def tiers(result: Result) -> set[str]:
    return {row.tier for row in result.verdicts}


def test_a_task_lease_that_outlives_its_task() -> None:
    """1 of 2 task slots is never given back; the other serves a call of 1 s after another."""
    stream = Stream(limits={"submission": 64, BETA_STAGE: 2})
    stream.register(BETA, 2)
    lost = stream.begin(VERDICT, 0)
    acquired = len(stream.events) - 1
    queued = [stream.queue(VERDICT, row) for row in range(1, 42)]
    stream.scheduler("task_completed", lost)
    ended = len(stream.events)
    for second in range(40):
        work = stream.call(stream.run_task(queued[second]))
        stream.at(second + 1.0)
        stream.complete(work)
    result = stream.fold()
    verdict = result.only("leaked_lease")
    assert (verdict.tier, verdict.resource) == ("A", BETA_STAGE)
    assert verdict.start == 100.0
    assert verdict.end == 140.0
    assert {acquired, ended} <= set(verdict.evidence)
    assert facts_of(verdict)["holders"][0]["group"] == VERDICT.group
    assert "not given back" in verdict.sentence
    assert result.share("run", "working") == pytest.approx(0.5, abs=TOLERANCE)
    assert result.share("run", "leaked_lease") == pytest.approx(0.5, abs=TOLERANCE)


def test_a_task_lease_that_is_given_back_late_is_a_leak_until_then() -> None:
    stream = Stream(limits={"submission": 64, BETA_STAGE: 1})
    stream.register(BETA, 1)
    work = stream.begin(VERDICT, 0)
    waiting = stream.queue(VERDICT, 1)
    stream.scheduler("task_completed", work)
    beat(stream, 30.0)
    stream.release(work)
    late = stream.call(stream.run_task(waiting))
    stream.at(60.0)
    stream.complete(late)
    result = stream.end()
    verdict = result.only("leaked_lease")
    assert (verdict.start, verdict.end) == (100.0, 130.0)
    assert result.share("run", "leaked_lease") == pytest.approx(0.5, abs=TOLERANCE)


def test_a_request_lease_that_outlives_its_call() -> None:
    """1 of 2 calls allowed at once is never given back, while another waits for it."""
    stream = Stream()
    stream.register(BETA, 2)
    first = stream.call(stream.begin(VERDICT, 0))
    stream.request("model_request_completed", BETA, first, "success")
    second = stream.call(stream.begin(VERDICT, 1))
    third = stream.wait(stream.begin(VERDICT, 2), "aggregate_cap")
    beat(stream, 50.0)
    stream.complete(second)
    stream.send(third)
    result = stream.fold()
    verdict = result.only("leaked_lease")
    assert verdict.resource == BETA.label
    assert result.share("run", "leaked_lease") == pytest.approx(0.5, abs=TOLERANCE)
    assert result.share("run", "working") == pytest.approx(0.5, abs=TOLERANCE)
    leaked = result.seconds("cell", "leaked_lease", column="verdict")
    assert leaked == pytest.approx(50.0, abs=1.5)


def test_a_call_whose_task_has_ended_leaks_its_lease() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(1.0)
    stream.finish(work)
    stream.call(stream.begin(VERDICT, 1))
    beat(stream, 30.0)
    result = stream.fold()
    verdict = result.only("leaked_lease")
    assert verdict.resource == BETA.label
    assert facts_of(verdict)["leases"] == 1


def test_a_task_queue_that_nobody_wakes() -> None:
    """For 20 of 40 s both call slots are used; then tasks wait, all is free, nothing starts."""
    stream = Stream(limits={"submission": 4, BETA_STAGE: 2})
    stream.register(BETA, 2)
    works = [stream.call(stream.begin(VERDICT, row)) for row in range(2)]
    beat(stream, 20.0)
    for row in range(2, 5):
        stream.queue(VERDICT, row)
    for work in works:
        stream.complete(work)
    beat(stream, 40.0)
    result = stream.fold()
    verdict = result.only("lost_wakeup")
    assert verdict.tier == "A"
    assert (verdict.start, verdict.end) == (120.0, 140.0)
    assert facts_of(verdict)["waiting"] == 3
    assert facts_of(verdict)["free"] == {"submission": 4, BETA_STAGE: 2}
    assert result.share("run", "lost_wakeup") == pytest.approx(0.5, abs=TOLERANCE)
    assert result.share("run", "working") == pytest.approx(0.5, abs=TOLERANCE)
    assert result.seconds("cell", "lost_wakeup") == pytest.approx(60.0)
    kinds = {stream.kind_of(ordinal) for ordinal in verdict.evidence}
    assert "scheduler_loop_heartbeat" in kinds


def test_a_lease_that_comes_in_the_end_ends_the_lost_wakeup() -> None:
    stream = Stream()
    stream.register(BETA, 1)
    work = stream.queue(VERDICT, 0)
    beat(stream, 10.0)
    stream.call(stream.run_task(work))
    beat(stream, 20.0)
    stream.complete(work)
    result = stream.end()
    verdict = result.only("lost_wakeup")
    assert (verdict.start, verdict.end) == (100.0, 110.0)
    assert result.share("run", "lost_wakeup") == pytest.approx(0.5, abs=TOLERANCE)


def test_a_loop_that_says_nothing_in_between_is_not_proved_to_have_missed_anything() -> None:
    """One silence, no heartbeat known: perhaps the loop was only late."""
    stream = Stream()
    stream.register(BETA, 1)
    work = stream.queue(VERDICT, 0)
    stream.at(10.0)
    stream.call(stream.run_task(work))
    stream.at(20.0)
    stream.complete(work)
    result = stream.end()
    assert result.named("lost_wakeup") == []
    assert result.share("run", "queue_order") == pytest.approx(0.5, abs=TOLERANCE)


def test_a_foreign_stream_proves_no_lost_wakeup() -> None:
    """Its policy is not known."""
    stream = Stream(producer="data_designer")
    stream.register(BETA, 1)
    stream.queue(VERDICT, 0)
    beat(stream, 10.0)
    assert stream.fold().named("lost_wakeup") == []


def test_a_waiting_call_that_nobody_wakes() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    stream.wait(stream.begin(VERDICT, 0), "domain_limit")
    beat(stream, 20.0)
    result = stream.fold()
    verdict = result.only("lost_wakeup")
    assert verdict.resource == BETA.label
    assert result.share("run", "lost_wakeup") == pytest.approx(1.0, abs=TOLERANCE)
    assert result.share("cell", "lost_wakeup") == pytest.approx(1.0, abs=TOLERANCE)


def test_a_loop_that_is_held_up() -> None:
    """A heartbeat every second; from 10 s to 40 s nothing comes at all."""
    stream = Stream()
    stream.register(BETA, 2)
    works = [stream.call(stream.begin(VERDICT, row)) for row in range(2)]
    beat(stream, 10.0)
    stream.at(40.0)
    stream.scheduler("scheduler_loop_heartbeat", period=1.0, drift=29.0)
    late = len(stream.events)
    beat(stream, 60.0)
    for work in works:
        stream.complete(work)
    result = stream.end()
    verdict = result.only("event_loop_lag")
    assert verdict.tier == "A"
    assert verdict.start == pytest.approx(111.0)
    assert verdict.end == pytest.approx(140.0)
    assert late in verdict.evidence
    assert result.share("run", "event_loop_lag") == pytest.approx(29 / 60, abs=TOLERANCE)
    assert result.share("cell", "event_loop_lag") == pytest.approx(29 / 60, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "producer", "says", "says_not"),
    [
        ("custom", "headgate", "Make custom columns (judged) asynchronous", "no custom"),
        ("llm_text", "headgate", "this run has no custom columns", "make"),
        ("cell_by_cell", "data_designer", "If a column runs code of yours", "custom"),
    ],
)
def test_what_to_do_about_a_loop_that_is_held_up_fits_the_run(
    kind: str, producer: str, says: str, says_not: str
) -> None:
    column = msgspec.structs.replace(VERDICT, name="judged", kind=kind)
    stream = Stream(columns=(column,), producer=producer)
    stream.register(BETA, 2)
    beat(stream, 5.0)
    stream.at(30.0)
    stream.scheduler("scheduler_loop_heartbeat", period=1.0, drift=24.0)
    beat(stream, 40.0)
    advice = stream.end().only("event_loop_lag").advice
    assert says in advice
    assert says_not not in advice


def test_a_task_that_needs_more_than_there_is() -> None:
    wide = ColumnInfo(
        "wide", "llm_text", "cell", (), "model/beta/judge/chat/wide", "model", "h", 1.0,
        {"submission": 1, BETA_STAGE: 3}, BETA.label,
    )  # fmt: skip
    stream = Stream((wide,), {"submission": 8, BETA_STAGE: 2})
    stream.register(BETA, 2)
    stream.queue(wide, 0)
    beat(stream, 20.0)
    result = stream.fold()
    verdict = result.only("unsatisfiable")
    assert (verdict.tier, verdict.resource) == ("B", BETA_STAGE)
    assert (facts_of(verdict)["needed"], facts_of(verdict)["limit"]) == (3, 2)
    assert "can never start" in verdict.sentence
    assert result.share("run", "unsatisfiable") == pytest.approx(1.0, abs=TOLERANCE)


def denied(stream: Stream, **groups: str) -> None:
    names = {VERDICT.name: VERDICT.group, RATING.name: RATING.group}
    stream.scheduler(
        "group_capped",
        reason=next(iter(groups.values())),
        queued_count=len(groups),
        groups={names[column]: denial for column, denial in groups.items()},
    )


def test_groups_that_deny_each_other() -> None:
    """2 of 4 slots are free, the heads of both groups would fit, and policy lets neither."""
    stream = Stream((VERDICT, RATING), {"submission": 64, BETA_STAGE: 4})
    stream.register(BETA, 4)
    works = [stream.call(stream.begin(column, 0)) for column in (VERDICT, RATING)]
    for column in (VERDICT, RATING):
        stream.queue(column, 1)
    denied(stream, verdict="policy_denial", rating="policy_denial")
    beat(stream, 20.0)
    for work in works:
        stream.complete(work)
    result = stream.fold()
    verdict = result.only("policy_mutual_denial")
    assert verdict.tier == "B"
    assert result.share("run", "policy_mutual_denial") == pytest.approx(0.5, abs=TOLERANCE)
    assert tiers(result) == {"A", "B"}  # it breaks off, so its producer is gone


def test_a_group_that_may_borrow_no_more() -> None:
    """It holds 2 of 4 slots, its ceiling of debt keeps it from the rest, and nobody is there."""
    stream = Stream((VERDICT, RATING), {"submission": 64, BETA_STAGE: 4})
    stream.register(BETA, 4)
    owed = {VERDICT.group: {BETA_STAGE: 2}}
    first, second = stream.queue(VERDICT, 0), stream.queue(VERDICT, 1)
    works = [stream.call(stream.run_task(first)), stream.call(stream.run_task(second, debt=owed))]
    stream.queue(VERDICT, 2)
    denied(stream, verdict="borrow_debt")
    beat(stream, 20.0)
    for work in works:
        stream.complete(work)
    result = stream.fold()
    verdict = result.only("borrow_debt")
    assert (verdict.tier, verdict.resource) == ("C", BETA_STAGE)
    assert facts_of(verdict)["debt"] == 2
    assert facts_of(verdict)["held"] == 2
    assert "owes 2 slots" in verdict.sentence
    assert result.share("run", "borrow_debt") == pytest.approx(0.5, abs=TOLERANCE)
