"""What is said of others holds only over time in which the producer's event loop ran."""

from __future__ import annotations

import pytest

from engine.events import ColumnInfo
from replay.diagnosis import settlement
from replay.diagnosis.cell_ledger import CellLedger
from replay.diagnosis.diagnosis import Diagnosis
from replay.diagnosis.reattribution import BlameKey, Interval, cell_seconds
from replay.diagnosis.verdicts.broken import Unknown
from replay.diagnosis.verdicts.loop import EventLoopLag, ProcessStopped
from replay.projections.fold import Fold
from replay.state.reducer import begin, reduce
from tests.replay.diagnosis.stream import BETA, SUBMISSION, VERDICT, Result, Stream

FRAMES = [
    {"module": "mine", "function": "lag", "file": "mine.py", "line": 7, "count": 3, "column": "c"}
]
CUSTOM = ColumnInfo("c", "custom", "cell", (), "local/default/c", "local", "h", 1.0, SUBMISSION)


def watched_beats(stream: Stream, until: float) -> None:
    """Heartbeats of a producer with a watchdog, each second up to run time `until`."""
    second = int(stream.now - stream.run.monotonic_start) + 1
    for at in range(second, int(until) + 1):
        stream.at(float(at))
        stream.scheduler("scheduler_loop_heartbeat", period=1.0, drift=0.0, watch=0.25)


def stood_still(
    stream: Stream, kind: str, reason: str, begin: float, end: float, **facts: object
) -> None:
    start = stream.run.monotonic_start
    interval = {"from": start + begin, "to": start + end}
    stream.scheduler(kind, None, reason, **interval, **facts)


def one_call_over_a_block(answered_at: float | None = 31.0) -> Stream:
    """20 calls of 1 s; the next one goes out at 20.5 s, and nothing comes from 21 s on."""
    stream = Stream()
    stream.register(BETA, 1)
    for second in range(20):
        work = stream.call(stream.begin(VERDICT, second))
        watched_beats(stream, second + 1.0)
        stream.complete(work)
    stream.at(20.5)
    late = stream.call(stream.begin(VERDICT, 20))
    watched_beats(stream, 21.0)
    if answered_at is not None:
        stream.at(answered_at)
        stream.complete(late)  # its answer lay in the socket
    return stream


def after_the_block(stream: Stream) -> Result:
    stream.at(31.3)
    stream.scheduler("scheduler_loop_heartbeat", period=10.3, drift=9.3, watch=0.25)
    return stream.end()


def test_a_call_is_not_slow_because_the_loop_was_blocked() -> None:
    stream = one_call_over_a_block()
    stood_still(stream, "loop_blocked", "waiting", 21.0, 31.0, frames=FRAMES)
    result = after_the_block(stream)
    assert result.named("provider_latency") == []
    assert result.seconds("run", "event_loop_lag") == pytest.approx(10.0)
    assert result.seconds("run", "provider_latency") == pytest.approx(0.0)
    assert result.seconds("run", "working") == pytest.approx(20.5, abs=0.01)
    cells = sum(row.seconds for row in result.rows if row.scope == "cell")
    assert cells == pytest.approx(20.0 + 10.5)
    verdict = result.only("event_loop_lag")
    assert (verdict.start, verdict.end) == pytest.approx((121.0, 131.0))
    assert isinstance(verdict.detail, EventLoopLag)
    assert verdict.detail.column == "c"
    assert "mine.lag of column c (mine.py:7) slept or waited" in verdict.sentence
    assert "column c" in verdict.advice


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({}, "process_stopped"),
        ({"core_wait": 0.3}, "event_loop_lag"),
        ({"loop_cpu_seconds": 0.3}, "event_loop_lag"),
        ({"frames": FRAMES}, "event_loop_lag"),
        ({"frames": [{**FRAMES[0], "library": True}]}, "process_stopped"),
    ],
)
def test_a_loop_that_had_no_core_was_not_held_up_by_what_it_computed(
    facts: dict[str, object], verdict: str
) -> None:
    """A second in which it computed for 0.1 s, and waited for a core for the rest."""
    stream = one_call_over_a_block()
    seen = {"core_wait": 0.9, "loop_cpu_seconds": 0.1, "cpu_seconds": 0.1, "frames": []}
    stood_still(stream, "loop_blocked", "computing", 21.0, 22.0, **{**seen, **facts})
    row = after_the_block(stream).only(verdict)
    assert (row.start, row.end) == pytest.approx((121.0, 122.0))
    assert ("got no processor core" in row.sentence) == (verdict == "process_stopped")


def test_the_same_call_without_a_word_of_the_watchdog_is_slow() -> None:
    result = after_the_block(one_call_over_a_block())
    verdict = result.only("provider_latency")
    assert (verdict.start, verdict.end) == pytest.approx((120.5, 131.0))
    assert result.seconds("run", "provider_latency") == pytest.approx(10.5 - 3.0)
    assert result.named("event_loop_lag") == []


def test_a_pause_of_the_process_counts_where_it_lies_in_a_block() -> None:
    stream = one_call_over_a_block()
    stood_still(stream, "loop_blocked", "waiting", 21.0, 31.0)
    stood_still(stream, "process_paused", "stopped", 23.0, 27.0)
    result = after_the_block(stream)
    assert result.seconds("run", "process_stopped") == pytest.approx(4.0)
    assert result.seconds("run", "event_loop_lag") == pytest.approx(6.0)
    verdict = result.only("process_stopped")
    assert isinstance(verdict.detail, ProcessStopped)
    assert "stood still for 4.0 s" in verdict.sentence
    assert "SIGSTOP" in verdict.advice
    assert result.named("provider_latency") == []


def test_a_later_word_replaces_an_earlier_one_and_a_live_reader_sees_each() -> None:
    stream = one_call_over_a_block(answered_at=None)
    stream.at(22.0)
    stood_still(stream, "loop_blocked", "waiting", 21.0, 22.0, ongoing=True)
    state, diagnosis = begin(stream.run), Diagnosis(stream.run)
    for ordinal, event in enumerate(stream.events, 1):
        diagnosis.before(state, event, ordinal)
        reduce(state, event, ordinal, stream.run)
        diagnosis.after(state, event, ordinal)
    (seen,) = [row for row in diagnosis.open_verdicts(state.time) if row.tier == "A"]
    assert (seen.verdict, seen.start, seen.end) == ("event_loop_lag", 121.0, 122.0)
    stream.at(31.0)
    stood_still(stream, "loop_blocked", "computing", 21.0, 31.0)
    result = after_the_block(stream)
    assert result.seconds("run", "event_loop_lag") == pytest.approx(10.0, abs=0.1)
    assert isinstance(result.only("event_loop_lag").detail, EventLoopLag)


def test_short_standstills_are_one_verdict() -> None:
    """Four of 0.2 s, half a second apart: none is long enough by itself."""
    stream = Stream((CUSTOM, VERDICT))
    stream.register(BETA, 1)
    work = stream.call(stream.begin(VERDICT, 0))
    for number in range(4):
        begin_at = 1.0 + 0.5 * number
        stream.at(begin_at + 0.2)
        stood_still(stream, "loop_blocked", "waiting", begin_at, begin_at + 0.2)
    watched_beats(stream, 6.0)
    stream.complete(work)
    result = stream.end()
    verdict = result.only("event_loop_lag")
    assert (verdict.start, verdict.end) == pytest.approx((101.0, 102.7))
    assert "held up for 800 ms, 4 times" in verdict.sentence
    assert result.seconds("run", "event_loop_lag") == pytest.approx(0.8)


def test_a_silence_beside_code_of_the_run_is_unknown_without_heartbeats() -> None:
    """A foreign stream: the loop may have been held up by the code, and nothing could tell."""
    stream = Stream((CUSTOM, VERDICT), producer="data_designer", lacks=("loop heartbeat",))
    stream.register(BETA, 1)
    called = stream.call(stream.begin(VERDICT, 0))
    stream.at(1.0)
    code = stream.begin(CUSTOM, 1)
    stream.at(3.0)
    stream.finish(code)
    stream.at(4.0)
    stream.complete(called)
    result = stream.end()
    assert result.seconds("run", "unknown", resource=BETA.label) == pytest.approx(2.0)
    verdict = result.only("unknown")
    assert (verdict.start, verdict.end) == pytest.approx((101.0, 103.0))
    assert isinstance(verdict.detail, Unknown)
    assert verdict.detail.columns == ["c"]
    assert "does not tell whether its event loop ran" in verdict.sentence
    assert result.seconds("run", "working", resource=BETA.label) == pytest.approx(2.0)


def test_what_is_provisional_costs_one_walk_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It stays the same as if it had been computed anew, through renames and settlements."""
    walks: list[Interval] = []

    def count(ledger: CellLedger, interval: Interval) -> dict[BlameKey, float]:
        walks.append(interval)
        return cell_seconds(ledger, interval)

    monkeypatch.setattr(settlement, "cell_seconds", count)
    stream = Stream()
    stream.register(BETA, 2)
    for row in range(60):
        work = stream.call(stream.begin(VERDICT, row))
        at = stream.now - stream.run.monotonic_start
        stream.at(at + 0.37)
        stood_still(stream, "loop_blocked", "computing", at + 0.05, at + 0.31)
        stream.complete(work)
        if row % 7 == 6:
            stream.scheduler("scheduler_loop_heartbeat", period=1.0, drift=0.0, watch=0.25)
    fold, provisional = Fold(stream.run), 0
    for ordinal, event in enumerate(stream.events, 1):
        fold.apply([event], ordinal)
        fold.drain()
        rows = fold.open_blame()
        before = len(walks)
        assert fold.open_blame() == rows
        assert len(walks) == before
        fold._diagnosis._settlement._known.clear()
        assert fold.open_blame() == rows
        provisional += len(walks) > before
    assert provisional > 20
