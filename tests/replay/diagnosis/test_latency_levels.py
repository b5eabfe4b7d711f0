"""A provider that gets slower for a while: from when to when, and by how much.

What is usual is not moved by what is slow, also where few calls were seen before; and where no
event tells of calls, tasks show it, unless the producer's own process may have been at fault.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from replay.diagnosis.rolling_stats import CallTimes
from replay.diagnosis.verdicts import VerdictRow
from replay.diagnosis.verdicts.requests import ProviderLatency, SlowTasks
from tests.replay.diagnosis.stream import ALPHA, BETA, QUESTION, VERDICT, Result, Stream, Work
from tests.replay.diagnosis.test_loop_watch import stood_still, watched_beats

USUAL = 0.2


def call_after_call(stream: Stream, first: int, times: Iterator[float]) -> None:
    """One call to beta at a time."""
    for row, seconds in enumerate(times, first):
        work = stream.call(stream.begin(VERDICT, row))
        stream.at(stream.now - stream.run.monotonic_start + seconds)
        stream.complete(work)


def change_of_level(before: int, slow_calls: int, least: float) -> VerdictRow:
    """The verdict of calls that are `least` to 11 times slower, after `before` usual ones: it is
    there from the first slow one to the last."""
    stream = Stream()
    stream.register(BETA, 1)
    noise = random.Random(before)
    usual = [USUAL * noise.uniform(0.8, 2.2) for _ in range(before)]
    slow = [USUAL * noise.uniform(least, 11.0) for _ in range(slow_calls)]
    after = [USUAL * noise.uniform(0.8, 2.2) for _ in range(40)]
    call_after_call(stream, 0, iter([*usual, *slow, *after]))
    verdict = stream.end().only("provider_latency")
    assert verdict.start == pytest.approx(100.0 + sum(usual), abs=0.01)
    assert verdict.end == pytest.approx(100.0 + sum(usual) + sum(slow), abs=0.01)
    return verdict


@pytest.mark.parametrize("before", [10, 19, 60])
def test_a_change_of_level_is_one_verdict_from_its_begin_to_its_end(before: int) -> None:
    """Some of the slow calls are hardly slower than what the first few calls alone would allow."""
    verdict = change_of_level(before, slow_calls=20, least=7.0)
    assert isinstance(verdict.detail, ProviderLatency)
    assert verdict.detail.calls == pytest.approx(20, abs=7)
    times = verdict.detail.median / verdict.detail.usual  # type: ignore[operator]
    assert times == pytest.approx(9.0 / 1.5, rel=0.35)


def test_single_unusual_calls_are_no_level_and_count_as_usual_after_all() -> None:
    times = CallTimes()
    for number in range(200):
        seconds = 0.7 if number % 10 == 9 else USUAL
        assert times.add(seconds, float(number)) == (seconds == USUAL or number < 8)
        assert not times.is_raised
    assert times.p95 == pytest.approx(0.7)
    assert times.allowance == pytest.approx(2.1)


def test_heavy_tails_are_no_level() -> None:
    noise = random.Random(7)
    times = CallTimes()
    for number in range(5_000):
        times.add(noise.lognormvariate(-1.5, 0.8), float(number))
        assert not times.is_raised


def test_calls_that_were_slow_only_because_the_process_stood_still_have_no_verdict() -> None:
    """Standstill after standstill, each told of when it is over: what is left is no slow call."""
    stream = Stream()
    stream.register(BETA, 4)
    call_after_call(stream, 0, iter([USUAL] * 20))
    waiting = [stream.call(stream.begin(VERDICT, row)) for row in range(20, 24)]
    at = 4.1
    for _ in range(8):
        stream.at(at + 1.8)
        stood_still(stream, "loop_blocked", "computing", at, at + 1.8)
        at += 1.85
        stream.at(at)
        stream.scheduler("scheduler_loop_heartbeat", period=1.85, drift=0.85, watch=0.25)
    for work in waiting:
        stream.complete(work)
    watched_beats(stream, 21.0)
    result = stream.end()
    assert result.named("provider_latency") == []
    assert result.seconds("run", "event_loop_lag") > 14.0


@pytest.mark.parametrize("late", [True, False], ids=["late", "prompt"])
def test_short_calls_are_not_slow_for_what_the_loop_may_have_read_late(late: bool) -> None:
    """Beside a loop that is late, but stands still for no time that is told, 40 ms instead of 5
    may be the loop's; beside a prompt one they are the provider's."""
    stream = Stream()
    stream.register(BETA, 1)
    call_after_call(stream, 0, iter([0.005] * 100))
    lateness = 0.3 if late else 0.001
    for beat in range(6):
        stream.scheduler(
            "scheduler_loop_heartbeat", period=1.0, drift=0.0, watch=0.25, late_seconds=lateness
        )
        call_after_call(stream, 100 + beat * 20, iter([0.04] * 20))
    stream.scheduler(
        "scheduler_loop_heartbeat", period=1.0, drift=0.0, watch=0.25, late_seconds=0.001
    )
    call_after_call(stream, 220, iter([0.005] * 40))
    watched_beats(stream, stream.now - 100.0 + 1.0)
    verdicts = stream.end().named("provider_latency")
    if late:
        assert verdicts == []
    else:
        assert [verdict.detail.calls for verdict in verdicts] == [pytest.approx(120, abs=4)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [0.05, 0.18, 0.22, 0.27])
def test_calls_of_a_steady_provider_are_usual_beside_a_loop_that_is_late_and_after_it(
    seconds: float,
) -> None:
    times = CallTimes()
    for number in range(300):
        lateness = 0.2 if 25 <= number < 60 else 0.0
        assert times.add(seconds, number * seconds, lateness)
        assert times.early_level() is None
    assert times.median == pytest.approx(seconds)


def test_a_standstill_after_a_hung_call_takes_nothing_from_it() -> None:
    stream = Stream()
    stream.register(BETA, 2)
    call_after_call(stream, 0, iter([USUAL] * 20))
    watched_beats(stream, 4.0)
    hung = stream.call(stream.begin(VERDICT, 20))
    watched_beats(stream, 14.0)
    stream.complete(hung)
    for second in range(15, 20):
        stream.at(second - 0.05)
        stood_still(stream, "process_paused", "starved", second - 0.95, second - 0.05)
        watched_beats(stream, second)
    call_after_call(stream, 21, iter([USUAL] * 20))
    watched_beats(stream, 26.0)
    verdict = stream.end().only("provider_latency")
    assert (verdict.start, verdict.end) == pytest.approx((104.0, 114.0), abs=0.01)
    assert isinstance(verdict.detail, ProviderLatency)
    assert verdict.detail.oldest_age == pytest.approx(10.0)


@pytest.mark.parametrize("before", [0, 5])
def test_a_run_that_begins_slow_is_told_so_once_calls_are_faster(before: int) -> None:
    verdict = change_of_level(before, slow_calls=15, least=8.0)
    assert isinstance(verdict.detail, ProviderLatency)
    assert verdict.detail.calls == pytest.approx(15, abs=2)
    assert ("times as long as after that" in verdict.sentence) is (before == 0)


def test_calls_of_a_process_that_hardly_ran_say_nothing_of_what_is_usual() -> None:
    """All but a moment of each call was a standstill; then the process runs again."""
    stream = Stream()
    stream.register(BETA, 1)
    for row in range(24):
        work = stream.call(stream.begin(VERDICT, row))
        at = stream.now - 100.0
        stream.at(at + 0.97)
        stood_still(stream, "loop_blocked", "computing", at + 0.01, at + 0.96)
        stream.scheduler("scheduler_loop_heartbeat", period=1.0, drift=0.0, watch=0.25)
        stream.at(at + 1.0)
        stream.complete(work)
    call_after_call(stream, 24, iter([USUAL] * 40))
    watched_beats(stream, stream.now - 100.0 + 1.0)
    assert stream.end().named("provider_latency") == []


def test_calls_that_were_slow_beside_standstills_show_a_level_from_where_it_began() -> None:
    """The first call alone was slow, then a few were not; of the slow ones that follow half are
    interrupted by standstills, which take nothing from what they took at the least."""
    times = CallTimes()
    at, levels = 0.0, []
    for number in range(48):
        slow = number == 0 or 8 <= number < 24
        seconds = 1.45 if slow else 0.5 if number < 8 else USUAL
        if 8 <= number < 24 and number % 2:
            times.skip(1.4, at)
        else:
            times.add(seconds, at)
        at += seconds
        level = times.early_level()
        if level is not None:
            levels.append(level)
    (level,) = levels
    assert level.start == pytest.approx(1.45 + 7 * 0.5)
    assert level.end == pytest.approx(1.45 + 7 * 0.5 + 16 * 1.45, abs=0.1)
    assert level.calls == 16
    assert level.usual == pytest.approx(USUAL)


@pytest.mark.parametrize(("stood", "reported"), [(0.8, 1), (1.8, 0)])
def test_a_level_in_which_the_loop_hardly_ran_is_the_loops(stood: float, reported: int) -> None:
    """Each call of 2 s ends in a standstill of which is told in part once its answer is read."""
    stream = Stream()
    stream.register(BETA, 1)
    for row in range(16):
        work = stream.call(stream.begin(VERDICT, row))
        at = stream.now - 100.0
        stream.at(at + 2.0)
        stream.complete(work)
        stood_still(stream, "process_paused", "starved", at + 2.0 - stood, at + 2.0)
        stream.scheduler("scheduler_loop_heartbeat", period=2.0, drift=0.0, watch=0.25)
    call_after_call(stream, 16, iter([USUAL] * 40))
    watched_beats(stream, stream.now - 100.0 + 1.0)
    assert len(stream.end().named("provider_latency")) == reported


def test_heavy_tails_are_no_early_level() -> None:
    for seed in range(200):
        noise = random.Random(seed)
        times = CallTimes()
        for number in range(120):
            times.add(noise.lognormvariate(-1.5, 0.8), float(number))
            assert times.early_level() is None, seed


# Streams without calls


def tasks_of(stream: Stream, others: bool, stands_still: bool) -> Result:
    """Tasks of verdict take 0.2 s, then four of them 6 s; tasks of question 0.1 s, if `others`."""
    row = 0

    def of_question(until: float) -> None:
        nonlocal row
        while others and stream.now - 100.0 < until - 0.1:
            question = stream.begin(QUESTION, row)
            row += 1
            stream.at(stream.now - 100.0 + 0.1)
            stream.finish(question)
        stream.at(until)

    for number in range(40):
        work: Work = stream.begin(VERDICT, number)
        of_question(0.2 * (number + 1))
        stream.finish(work)
    slow = [stream.begin(VERDICT, number) for number in range(40, 44)]
    if stands_still:
        stream.at(14.0)
    of_question(14.2)
    for work in slow:
        stream.finish(work)
    for number in range(44, 64):
        work = stream.begin(VERDICT, number)
        of_question(14.2 + 0.2 * (number - 43))
        stream.finish(work)
    return stream.end()


def blind() -> Stream:
    stream = Stream(producer="data_designer", lacks=("request stream", "loop heartbeat"))
    stream.register(ALPHA, 8)
    stream.register(BETA, 8)
    return stream


def test_tasks_that_are_slow_while_others_are_not_are_told_where_calls_are_not() -> None:
    result = tasks_of(blind(), others=True, stands_still=False)
    verdict = result.only("slow_tasks")
    assert (verdict.start, verdict.end) == pytest.approx((108.0, 114.2), abs=0.01)
    assert isinstance(verdict.detail, SlowTasks)
    assert (verdict.detail.column, verdict.detail.tasks) == ("verdict", 4)
    assert "4 tasks of verdict took up to 6.2 s" in verdict.sentence
    assert "does not tell which" in verdict.sentence


def test_nothing_is_said_where_the_process_may_have_been_at_fault() -> None:
    assert tasks_of(blind(), others=False, stands_still=False).named("slow_tasks") == []
    assert tasks_of(blind(), others=True, stands_still=True).named("slow_tasks") == []
