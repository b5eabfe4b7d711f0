"""Each verdict on request admission, from a stream that has exactly this cause."""

from __future__ import annotations

import pytest

from tests.replay.diagnosis.stream import (
    BETA,
    BETA_EMBED,
    TOLERANCE,
    VECTOR,
    VERDICT,
    Stream,
    Work,
    facts_of,
)


def test_cooldown_cites_the_429_and_says_when_it_ends() -> None:
    """10 s; from 2.0 to 5.2 beta cools down while its 4 tasks wait."""
    stream = Stream()
    stream.register(BETA, 4)
    works = [stream.call(stream.begin(VERDICT, row)) for row in range(4)]
    stream.at(2.0)
    stream.answer(works[0], "rate_limited", blocked_until=105.2, retry_after=3.2, limit=(4, 3))
    limited = next(n for n in range(1, 99) if stream.kind_of(n) == "request_rate_limited")
    for work in works[1:]:
        stream.answer(work, "rate_limited", blocked_until=105.2, retry_after=3.2)
    for work in works:
        stream.wait(work, "cooldown")
    stream.at(5.2)
    for work in works[:3]:
        stream.send(work)
    stream.at(6.2)
    stream.complete(works[0])
    stream.send(works[3])
    stream.at(10.0)
    for work in works[1:]:
        stream.complete(work)
    result = stream.end()
    verdict = result.only("request_cooldown")
    assert verdict.resource == BETA.label
    assert verdict.tier == "D"
    assert verdict.start == pytest.approx(102.0)
    assert verdict.end == pytest.approx(105.2)
    assert limited in verdict.evidence
    kinds = {stream.kind_of(ordinal) for ordinal in verdict.evidence}
    assert {"request_limit_decreased", "request_wait_started", "request_lease_acquired"} <= kinds
    assert facts_of(verdict)["expected_release"] == pytest.approx(105.2)
    assert facts_of(verdict)["rate_limited"] == 4
    assert "beta asked to slow down (429" in verdict.sentence
    assert "3.2 s" in verdict.sentence
    assert "startup_ramp_seconds" in facts_of(verdict)["advice"]
    assert result.share("run", "request_cooldown") == pytest.approx(0.32, abs=TOLERANCE)
    assert result.seconds("cell", "request_cooldown", resource=BETA.label) == pytest.approx(12.8)


def storm(stream: Stream, work: Work, times: list[float], recovers: float) -> None:
    """429s on probes at `times`, each with 1 s to wait; a success after the last."""
    for at in times:
        stream.at(at)
        stream.send(work)
        stream.at(at + 0.1)
        stream.answer(work, "rate_limited", blocked_until=stream.now + 0.9, retry_after=0.9)
        stream.wait(work, "cooldown")
    stream.at(recovers)
    stream.send(work)
    stream.at(recovers + 0.5)
    stream.answer(work)


def test_probes_that_meet_another_429_do_not_end_a_storm() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    work = stream.wait(stream.begin(VERDICT, 0))
    storm(stream, work, [0.0, 1.0, 2.0, 3.0], 4.0)
    stream.wait(work)
    storm(stream, work, [20.0, 21.0], 22.0)
    stream.finish(work)
    result = stream.end()
    first, second = result.named("request_cooldown")
    assert first.start == pytest.approx(100.1)
    assert first.end == pytest.approx(104.0)
    assert second.start == pytest.approx(120.1)
    assert second.end == pytest.approx(122.0)
    assert [facts_of(r)["rate_limited"] for r in result.named("request_cooldown")] == [4, 2]


def test_snapshots_tell_when_a_429_came_that_they_show_late() -> None:
    """Cooldowns of 0.8 s begin at 2.0 and 3.0 s; the second is seen half a second later."""
    stream = Stream((VERDICT,), producer="data_designer", lacks=("request stream",))
    work = stream.begin(VERDICT, 0)

    def snapshot(at: float, until: float | None) -> None:
        stream.at(at)
        facts = {"effective_max": 2, "current_limit": 2, "in_flight_count": 0, "waiters": 1}
        facts["blocked_until_monotonic"] = until  # type: ignore[assignment]
        stream.scheduler("scheduler_health_snapshot", request_pressure={BETA.label: facts})

    for at, until in ((1.9, None), (2.0, 102.8), (2.9, None), (3.5, 103.8), (4.0, None)):
        snapshot(at, until)
    stream.at(8.0)
    stream.finish(work)
    verdict = stream.end().only("request_cooldown")
    assert verdict.start == pytest.approx(102.0)
    assert facts_of(verdict)["limited_seconds"] == pytest.approx(1.0)


def test_a_cooldown_that_nobody_waits_for_is_no_stall() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(1.0)
    stream.answer(work, "rate_limited", blocked_until=stream.now + 5, retry_after=5.0)
    stream.finish(work, "non_retryable_dropped", "gave_up")
    stream.at(9.0)
    result = stream.end()
    assert result.named("request_cooldown") == []


def test_domain_limit_below_the_maximum() -> None:
    """Limit 1 of 4 and calls of 8 s: 3 of 4 slots idle for the limit's sake."""
    stream = Stream()
    stream.register(BETA, 4)
    first = stream.call(stream.begin(VERDICT, 0))
    stream.answer(first, "rate_limited", blocked_until=stream.now, limit=(4, 1))
    cut = next(n for n in range(1, 99) if stream.kind_of(n) == "request_limit_decreased")
    stream.call(first)
    waiting = stream.wait(stream.begin(VERDICT, 1), "domain_limit")
    stream.at(8.0)
    stream.complete(first)
    stream.send(waiting)
    stream.at(10.0)
    stream.complete(waiting)
    result = stream.end()
    assert result.seconds("run", "request_domain_limit") == pytest.approx(24.0)
    assert result.seconds("cell", "request_domain_limit") == pytest.approx(8.0)
    assert result.share("run", "request_domain_limit") == pytest.approx(0.6, abs=TOLERANCE)
    verdict = result.only("request_domain_limit")
    assert (verdict.start, verdict.end) == (100.0, 108.0)
    assert cut in verdict.evidence
    assert facts_of(verdict)["limit"] == 1
    assert facts_of(verdict)["effective_max"] == 4
    assert facts_of(verdict)["waiting"] == 1
    longest = {"task_id": "verdict/1", "column": "verdict", "row": 1, "age": pytest.approx(0.25)}
    assert facts_of(verdict)["longest_waiter"] == longest
    assert "request_wait_started" in [stream.kind_of(item) for item in verdict.evidence]


@pytest.mark.parametrize("name", ["request_plateau", "request_rate_budget"])
def test_what_binds_besides_refusals_has_a_verdict_of_its_own(name: str) -> None:
    """Limit 1 of 4 while more would bring nothing; or a budget, with 3 of 4 places free."""
    stream = Stream()
    stream.register(BETA, 4)
    first = stream.call(stream.begin(VERDICT, 0))
    if name == "request_plateau":
        stream.answer(first, "rate_limited", blocked_until=stream.now, limit=(4, 1))
        stream.call(first)
    waiting = stream.wait(stream.begin(VERDICT, 1), name)
    stream.at(8.0)
    stream.complete(first)
    stream.send(waiting)
    stream.at(10.0)
    stream.complete(waiting)
    result = stream.end()
    assert result.seconds("cell", name) == pytest.approx(8.0)
    verdict = result.only(name)
    assert (verdict.start, verdict.end) == (100.0, 108.0)
    assert facts_of(verdict)["free"] == (0 if name == "request_plateau" else 3)
    assert "provider" in facts_of(verdict)["advice"]


def test_the_wait_that_proves_a_stall_is_of_a_call_that_still_waits() -> None:
    """One call of 4 may be out. Calls wait from 0 s on, another each 0.2 s; one goes out as often,
    until from 2 to 12 s none does."""
    stream = Stream((VERDICT,))
    stream.register(BETA, 4)
    out = stream.call(stream.begin(VERDICT, 0))
    stream.answer(out, "rate_limited", blocked_until=stream.now, limit=(4, 1))
    stream.call(out)
    line = [stream.wait(stream.begin(VERDICT, 1), "domain_limit")]
    for fifth in range(1, 11):
        stream.at(fifth / 5)
        line.append(stream.wait(stream.begin(VERDICT, fifth + 1), "domain_limit"))
        stream.complete(out)
        out = stream.send(line.pop(0))
    stream.at(12.0)
    stream.complete(out)
    stream.send(line.pop(0))
    verdict = stream.fold().only("request_domain_limit")
    assert (verdict.start, verdict.end) == (102.0, 112.0)
    assert facts_of(verdict)["longest_waiter"]["row"] == 11
    (wait,) = [item for item in verdict.evidence if stream.kind_of(item) == "request_wait_started"]
    assert stream.events[wait - 1].captured_at_monotonic == 102.0


def test_aggregate_cap_names_the_domain_that_holds_it() -> None:
    """4 calls of embeddings fill the model's cap for 6 s; a chat call waits."""
    stream = Stream((VERDICT, VECTOR))
    stream.register(BETA, 4)
    stream.register(BETA_EMBED, 4)
    embeds = [stream.call(stream.begin(VECTOR, row)) for row in range(4)]
    chat = stream.wait(stream.begin(VERDICT, 0), "aggregate_cap")
    stream.at(6.0)
    for work in embeds:
        stream.complete(work)
    stream.send(chat)
    stream.at(6.1)
    stream.complete(chat)
    result = stream.end()
    assert result.seconds("cell", "request_aggregate_cap") == pytest.approx(6.0)
    assert result.share("run", "request_aggregate_cap") == pytest.approx(0.5, abs=TOLERANCE)
    verdict = result.only("request_aggregate_cap")
    assert verdict.resource == BETA.label
    (holder,) = facts_of(verdict)["holders"]
    assert (holder["group"], holder["leases"]) == (BETA_EMBED.label, 4)
    assert facts_of(verdict)["limit"] == 4
    assert "embedding" in verdict.sentence
    assert "max_parallel_requests" in facts_of(verdict)["advice"]


def test_provider_latency_from_the_exact_turning_point() -> None:
    """20 calls of 1 s, then one that takes 10 s: slow from its 3rd second on, as a whole."""
    stream = Stream()
    stream.register(BETA, 1)
    for second in range(20):
        work = stream.call(stream.begin(VERDICT, second))
        stream.at(second + 1.0)
        stream.complete(work)
    slow = stream.call(stream.begin(VERDICT, 20))
    started = len(stream.events)
    stream.at(30.0)
    stream.complete(slow)
    result = stream.end()
    assert result.seconds("run", "provider_latency", resource=BETA.label) == pytest.approx(7.0)
    assert result.seconds("cell", "provider_latency", resource=BETA.label) == pytest.approx(7.0)
    verdict = result.only("provider_latency")
    assert verdict.start == pytest.approx(120.0)
    assert verdict.end == pytest.approx(130.0)
    assert verdict.tier == "E"
    assert started in verdict.evidence
    assert "took 10.0 s" in verdict.sentence
    assert "1.0 s" in verdict.sentence


def test_a_hung_call_is_slow_as_soon_as_there_are_samples_enough() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    hung = stream.call(stream.begin(VERDICT, 99))
    for second in range(20):
        work = stream.call(stream.begin(VERDICT, second))
        stream.at(second + 1.0)
        stream.complete(work)
    stream.at(25.0)
    stream.complete(hung)
    result = stream.end()
    verdict = result.only("provider_latency")
    assert verdict.start == pytest.approx(100.0)
    assert verdict.end == pytest.approx(125.0)


def test_a_call_behind_others() -> None:
    """1 of 2 slots is used; whose turn it was, nothing tells for 10 s, and then it is let out."""
    stream = Stream()
    stream.register(BETA, 2)
    first = stream.call(stream.begin(VERDICT, 0))
    second = stream.wait(stream.begin(VERDICT, 1), "waiters_ahead")
    stream.at(10.0)
    stream.send(second)
    stream.at(20.0)
    for work in (first, second):
        stream.complete(work)
    result = stream.end()
    assert result.share("run", "request_waiters_ahead") == pytest.approx(0.25, abs=TOLERANCE)
    assert result.share("cell", "request_waiters_ahead") == pytest.approx(0.25, abs=TOLERANCE)
    assert result.named("lost_wakeup") == []


def test_a_start_up_ramp_below_the_maximum() -> None:
    """For 8 of 10 s the ramp lets out 1 call of 4, then all."""
    stream = Stream()
    stream.register(BETA, 4, limit=1)
    works = [stream.begin(VERDICT, row) for row in range(4)]
    stream.call(works[0])
    for work in works[1:]:
        stream.wait(work, "ramp")
    stream.at(8.0)
    stream.request("request_limit_increased", BETA, None, "ramp", previous=1, current=4)
    for work in works[1:]:
        stream.send(work)
    stream.at(10.0)
    for work in works:
        stream.complete(work)
    result = stream.end()
    assert result.share("run", "request_ramp") == pytest.approx(0.6, abs=TOLERANCE)
    assert result.share("cell", "request_ramp") == pytest.approx(0.6, abs=TOLERANCE)
    assert result.share("run", "request_domain_limit") == 0.0
    verdict = result.only("request_ramp")
    assert (verdict.tier, verdict.resource) == ("D", BETA.label)
    assert (verdict.start, verdict.end) == (100.0, 108.0)
    assert "startup_ramp_seconds" in facts_of(verdict)["advice"]


@pytest.mark.parametrize("answered", [True, False])
def test_a_cooldown_without_end_asks_for_the_quota(answered: bool) -> None:
    stream = Stream()
    stream.register(BETA, 1)
    works = [stream.call(stream.begin(VERDICT, 0))]
    stream.queue(VERDICT, 1)
    for second in range(0, 60, 2):
        stream.at(second + 0.1)
        stream.answer(
            works[-1], "rate_limited", blocked_until=stream.now + 1.9, blocked_seconds=1.9
        )
        stream.wait(works[-1], "cooldown")
        stream.at(second + 2.0)
        stream.send(works[-1])
    stream.at(60.5)
    if answered:
        stream.complete(works[-1])
    row = stream.fold(until=62.0).only("request_cooldown")
    assert ("quota and billing at beta" in row.advice) is not answered
    assert "Lower max_parallel_requests" in row.advice


@pytest.mark.parametrize("refusals", [{"overload": 3}, {"overload": 1, "rate_limit": 2}])
def test_a_provider_that_is_overloaded_asked_for_no_lower_rate(refusals: dict[str, int]) -> None:
    """Beta's calls wait for 4 s; only answers with 429 are counted as such."""
    stream = Stream()
    stream.register(BETA, 4)
    works = [stream.call(stream.begin(VERDICT, row)) for row in range(3)]
    stream.at(2.0)
    classes = [name for name, times in refusals.items() for _ in range(times)]
    for work, name in zip(works, classes, strict=True):
        facts = {"status": 529 if name == "overload" else 429, "class": name}
        stream.answer(work, "rate_limited", blocked_until=106.0, **facts)
        stream.wait(work, "cooldown")
    stream.at(6.0)
    for work in works:
        stream.send(work)
    stream.at(8.0)
    for work in works:
        stream.complete(work)
    result = stream.end()
    name = "request_overload" if set(refusals) == {"overload"} else "request_cooldown"
    verdict = result.only(name)
    assert (verdict.start, verdict.end) == pytest.approx((102.0, 106.0))
    assert result.seconds("cell", name) == pytest.approx(12.0)
    if name == "request_overload":
        assert verdict.sentence == (
            "Provider beta answered 3 times that it is overloaded: calls to beta/judge were held"
            " back for 4.0 s."
        )
        assert not result.named("request_cooldown")
        assert "429" not in f"{verdict.sentence} {verdict.advice} {verdict.detail.phrase}"
    else:
        assert "asked to slow down (429, 2 times)" in verdict.sentence


@pytest.mark.parametrize("out", [6.0, 1.0], ids=["most of the time", "a part of the time"])
def test_refusals_that_become_an_outage_are_told_as_what_they_were_longer(out: float) -> None:
    """Beta refuses for 2 s, and is out for `out` then."""
    stream = Stream()
    stream.register(BETA, 4)
    works = [stream.call(stream.begin(VERDICT, row)) for row in range(3)]
    stream.at(2.0)
    for work in works:
        facts = {"status": 529, "class": "overload"}
        stream.answer(work, "rate_limited", blocked_until=104.0, **facts)
        stream.wait(work, "cooldown")
    stream.at(4.0)
    message = "the provider is overloaded (529)"
    stream.request("request_outage", BETA, outcome="opened", message=message, since=104.0)
    stream.at(4.0 + out)
    stream.request("request_outage", BETA, outcome="closed", duration_seconds=out)
    for work in works:
        stream.send(work)
    stream.at(6.0 + out)
    for work in works:
        stream.complete(work)
    result = stream.end()
    verdict = result.only("request_outage" if out > 2.0 else "request_overload")
    assert (verdict.start, verdict.end) == pytest.approx((102.0, 104.0 + out))
    if out > 2.0:
        assert verdict.sentence == (
            "Provider beta was out for 6.0 s: it is overloaded (529); calls to beta/judge waited"
            " meanwhile."
        )
        assert "request_outage" in {stream.kind_of(ordinal) for ordinal in verdict.evidence}
    else:
        assert "answered 3 times that it is overloaded" in verdict.sentence
