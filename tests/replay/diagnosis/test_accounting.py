"""What must hold for every well-formed stream: each instant is accounted for, exactly once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.diagnosis.diagnosis import Diagnosis
from replay.diagnosis.verdicts import Context, VerdictRow
from replay.diagnosis.verdicts.flow import RetryBackoff
from replay.state.model import State
from replay.state.reducer import begin, reduce
from replay.state.rows import BlameRow
from tests.replay.diagnosis.stream import (
    ALPHA,
    BETA,
    QUESTION,
    TOPIC,
    VERDICT,
    Result,
    Stream,
    Work,
    facts_of,
)
from tests.replay.stretches import bin_by_bin


class StateCursor:
    """Does at random what an engine may do; `live_seconds` is what cells must add up to."""

    def __init__(self, seed: int, steps: int) -> None:
        self.random = random.Random(seed)
        self.stream = Stream(
            (TOPIC, QUESTION, VERDICT),
            {"submission": 6, "model_stage:alpha/gen": 4, "model_stage:beta/judge": 3},
        )
        self.stages: dict[str, list[Work]] = {
            "ready": [],
            "queued": [],
            "running": [],
            "waiting": [],
            "calling": [],
            "deferred": [],
        }
        self.born: dict[str, float] = {}
        self.live_seconds = 0.0
        self.row = 0
        self.stream.register(ALPHA, 3)
        self.stream.register(BETA, 2)
        for _ in range(steps):
            self.pass_time()
            self.step()

    def pass_time(self) -> None:
        pause = self.random.choice((0.0, 0.0, 0.001, 0.05, 0.3, 1.0, 2.7))
        self.stream.at(self.stream.now - self.stream.run.monotonic_start + pause)

    def step(self) -> None:
        moves = [getattr(self, stage) for stage, works in self.stages.items() if works]
        self.random.choice([self.new, *moves])()

    def take(self, stage: str) -> Work:
        works = self.stages[stage]
        return works.pop(self.random.randrange(len(works)))

    def put(self, stage: str, work: Work) -> None:
        self.stages[stage].append(work)

    def new(self) -> None:
        self.row += 1
        work = self.stream.ready(
            self.random.choice((TOPIC, QUESTION, QUESTION, VERDICT, VERDICT)), self.row
        )
        self.born[work.task_id] = self.stream.now
        self.put("ready", work)

    def ready(self) -> None:
        self.put("queued", self.stream.enqueue(self.take("ready")))

    def queued(self) -> None:
        self.put("running", self.stream.run_task(self.take("queued")))

    def running(self) -> None:
        work = self.take("running")
        what = self.random.random()
        if work.column is not TOPIC and what < 0.7:
            reason = self.random.choice(("none", "domain_limit", "cooldown"))
            self.put("waiting", self.stream.wait(work, reason))
        elif what < 0.8:
            self.stream.defer(work, "ServerError", 1.0)
            self.put("deferred", work)
        else:
            self.stream.finish(work)
            self.live_seconds += self.stream.now - self.born.pop(work.task_id)

    def waiting(self) -> None:
        self.put("calling", self.stream.send(self.take("waiting")))

    def calling(self) -> None:
        work = self.take("calling")
        if self.random.random() < 0.25:
            until = self.stream.now + self.random.choice((0.2, 2.0))
            self.stream.answer(work, "rate_limited", blocked_until=until, limit=(3, 2))
        else:
            self.stream.answer(work)
        self.put("running", work)

    def deferred(self) -> None:
        self.put("queued", self.stream.again(self.take("deferred")))

    def drain(self) -> None:
        """Bring everything to its end."""
        for stage in ("deferred", "ready", "queued", "waiting", "calling"):
            while self.stages[stage]:
                self.pass_time()
                getattr(self, stage)()
        while self.stages["running"]:
            self.pass_time()
            work = self.take("running")
            self.stream.finish(work)
            self.live_seconds += self.stream.now - self.born.pop(work.task_id)


walks = st.builds(StateCursor, st.integers(0, 2**32), st.integers(1, 120))


@settings(max_examples=40, deadline=None)
@given(walks)
def test_cells_add_up_to_their_lives_and_slots_to_their_time(walk: StateCursor) -> None:
    walk.drain()
    start, end = walk.stream.run.monotonic_start, walk.stream.now
    result = walk.stream.end()
    cells = sum(row.seconds for row in result.rows if row.scope == "cell")
    assert cells == pytest.approx(walk.live_seconds, abs=1e-6)
    covered = blamed_shares(result)
    assert all(covered[second] >= 1.0 - 1e-6 for second in range(int(end - start)))


def blamed_shares(result: Result) -> dict[int, float]:
    """By second, the blame of the run in slots; none is blamed for more than its time."""
    by_bin: dict[tuple[int, str], float] = {}
    for row in bin_by_bin(result.rows):
        assert row.seconds >= 0.0
        if row.scope == "run":
            place = (row.bin, row.resource)
            by_bin[place] = by_bin.get(place, 0.0) + row.seconds
    slots = {ALPHA.label: 3.0, BETA.label: 2.0, "": 5.0}
    covered: dict[int, float] = {}
    for (bin_number, resource), seconds in by_bin.items():
        assert seconds <= slots[resource] + 1e-6
        covered[bin_number] = covered.get(bin_number, 0.0) + seconds / slots[resource]
    return covered


@settings(max_examples=40, deadline=None)
@given(walks)
def test_verdicts_lie_in_the_run_and_cite_its_events(walk: StateCursor) -> None:
    stream = walk.stream
    end = stream.now
    for row in stream.end().verdicts:
        assert stream.run.monotonic_start <= row.start <= row.end <= end + 1e-9
        assert all(1 <= ordinal <= len(stream.events) for ordinal in row.evidence)
        # This engine's moves come at random times: what it could let in, it often leaves.
        assert row.verdict == "lost_wakeup" or row.tier not in ("A", "B")
        assert row.sentence.endswith(".")
        assert sum(facts_of(row)["also"].values()) <= 1.0 + 1e-9


Rows = tuple[list[BlameRow], list[VerdictRow]]


def fold(stream: Stream, put_aside: frozenset[int]) -> tuple[Rows, bytes]:
    state: State = begin(stream.run)
    diagnosis = Diagnosis(stream.run)
    rows: list[BlameRow] = []
    verdicts: list[VerdictRow] = []
    for ordinal, event in enumerate(stream.events, 1):
        diagnosis.before(state, event, ordinal)
        reduce(state, event, ordinal, stream.run)
        diagnosis.after(state, event, ordinal)
        if ordinal in put_aside:
            diagnosis = Diagnosis.load(stream.run, diagnosis.dump())
            some, closed = diagnosis.drain()
            rows += some
            verdicts += closed
    dump = diagnosis.dump()
    some, closed = diagnosis.finish(state, state.time)
    return (rows + some, verdicts + closed), dump


@settings(max_examples=25, deadline=None)
@given(walks, st.frozensets(st.integers(1, 400), max_size=6))
def test_put_aside_and_taken_up_again_without_a_difference(
    walk: StateCursor, put_aside: frozenset[int]
) -> None:
    stream = walk.stream
    plain, _ = fold(stream, frozenset())
    resumed, _ = fold(stream, put_aside)
    assert resumed == plain


def test_a_dump_of_another_version_or_none_is_refused() -> None:
    stream = Stream()
    _, dump = fold(stream, frozenset())
    assert Diagnosis.load(stream.run, dump).dump() == dump
    with pytest.raises(ValueError, match="not a diagnosis"):
        Diagnosis.load(stream.run, b"\xc1")


@settings(max_examples=40, deadline=None)
@given(walks, st.integers(0, 400), st.integers(1, 5), st.sampled_from(("scheduler", "request")))
def test_a_gap_is_unknown_and_the_sum_still_whole(
    walk: StateCursor, at: int, number: int, which: str
) -> None:
    """Events cut out of any stream leave no exception and no instant without a blame."""
    stream = walk.stream
    at = min(at, len(stream.events) - 1)
    kept = [
        event
        for place, event in enumerate(stream.events)
        if not (at <= place < at + number and type(event).__name__.lower().startswith(which))
    ]
    stream.events = kept
    end = stream.now
    result = stream.end()
    # Where the registration of a resource is lost, nobody knows how many slots it has.
    seconds = range(int(end - stream.run.monotonic_start))
    assert all(blamed_shares(result).get(second, 0.0) > 0.0 for second in seconds)
    for verdict in result.verdicts:
        assert verdict.start <= verdict.end


def test_no_verdict_over_missing_data() -> None:
    """Events 4 s to 7 s into a cooldown are lost: the verdict ends before, unknown follows."""
    stream = Stream()
    stream.register(BETA, 2)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(1.0)
    stream.answer(work, "rate_limited", blocked_until=111.0)
    stream.wait(work, "cooldown")
    stream.at(4.0)
    stream.scheduler("scheduler_loop_heartbeat", period=10.0, drift=0.0)
    stream.at(5.0)
    stream.sequences["scheduler"] += 7
    stream.at(7.0)
    stream.scheduler("scheduler_loop_heartbeat", period=10.0, drift=0.0)
    stream.at(11.0)
    stream.send(work)
    stream.at(12.0)
    stream.complete(work)
    result = stream.end()
    (gap,) = result.named("unknown")
    assert (gap.start, gap.end) == (104.0, 107.0)
    assert facts_of(gap)["lost_events"] == 7
    assert "7 events of the scheduler stream are missing" in gap.sentence
    assert result.seconds("run", "unknown", resource=BETA.label) == pytest.approx(6.0)
    for row in result.named("request_cooldown"):
        assert row.end <= 104.0 or row.start >= 107.0
    # Until an event tells of the task again, what it does is unknown too: from 4 to 11 s.
    assert result.seconds("cell", "unknown") == pytest.approx(7.0)
    assert result.seconds("cell", "request_cooldown") == pytest.approx(3.0)


def behind_a_gap(queued: int) -> Result:
    """Two slots of alpha are held and a task queues. From 2 to 4 s events are lost; at 4 s the
    ledger says that `queued` tasks queue and one call is out, which ends at 10 s; the end is at 20.
    """
    stream = Stream((QUESTION,))
    stream.register(ALPHA, 2)
    calls = [stream.call(stream.begin(QUESTION, row)) for row in (0, 1)]
    stream.queue(QUESTION, 2)
    stream.at(2.0)
    stream.scheduler("scheduler_loop_heartbeat", period=30.0, drift=0.0)
    stream.at(4.0)
    stream.sequences["scheduler"] += 8
    stream.sequences["request"] += 8
    ledger = {
        "limits": stream.limits,
        "queued_by_group": {QUESTION.group: queued} if queued else {},
        "leased_by_group": {QUESTION.group: 1},
        "running_by_group": {QUESTION.group: 1},
        "requests": {
            ALPHA.label: {"static_cap": 2, "effective_max": 2, "limit": 2, "in_flight": 1}
        },
        "aggregates": {"alpha/gen": {"static_cap": 2, "in_flight": 1}},
    }
    stream.scheduler("scheduler_health_snapshot", reason="periodic", snapshot=ledger)
    stream.request("request_queue_formed", ALPHA)
    stream.at(10.0)
    stream.complete(calls[1])
    stream.at(20.0)
    return stream.end()


def test_a_task_whose_end_may_be_lost_wants_nothing_that_the_ledger_denies() -> None:
    result = behind_a_gap(queued=0)
    assert result.seconds("run", "queue_order") == 0.0
    assert result.seconds("run", "lost_wakeup") == 0.0
    assert result.seconds("run", "dependency", resource=ALPHA.label) == pytest.approx(6.0)
    assert result.seconds("run", "unknown", resource=ALPHA.label) == pytest.approx(4.0)


def test_what_the_ledger_queues_behind_a_gap_has_an_unknown_reason() -> None:
    result = behind_a_gap(queued=1)
    assert result.seconds("run", "queue_order") == 0.0
    assert result.seconds("run", "dependency") == 0.0
    # Both slots for the gap, then one beside the call, then both again.
    assert result.seconds("run", "unknown", resource=ALPHA.label) == pytest.approx(4.0 + 6.0 + 20.0)


def test_nobody_is_called_a_holder_whose_release_may_be_lost() -> None:
    """One of two calls may be out, and one waits. A gap hides that another took its place."""
    stream = Stream((QUESTION,))
    stream.register(ALPHA, 2)
    gone = stream.call(stream.begin(QUESTION, 0))
    stream.answer(gone, "rate_limited", blocked_until=stream.now, limit=(2, 1))
    stream.call(gone)
    stream.at(1.0)
    stream.sequences["scheduler"] += 8
    stream.sequences["request"] += 8
    holds = stream.begin(QUESTION, 1)
    stream.scheduler("scheduler_loop_heartbeat", period=30.0, drift=0.0)
    stream.send(stream.wait(holds))
    waits = stream.wait(stream.begin(QUESTION, 2), "domain_limit")
    ledger = {
        "limits": stream.limits,
        "leased_by_group": {QUESTION.group: 2},
        "running_by_group": {QUESTION.group: 2},
        "requests": {
            ALPHA.label: {
                "static_cap": 2,
                "effective_max": 2,
                "limit": 1,
                "in_flight": 1,
                "waiters": 1,
                "wait_reason": "domain_limit",
            }
        },
        "aggregates": {"alpha/gen": {"static_cap": 2, "in_flight": 1}},
    }
    stream.scheduler("scheduler_health_snapshot", reason="periodic", snapshot=ledger)
    stream.at(9.0)
    stream.complete(holds)
    stream.send(waits)
    stream.at(10.0)
    stream.complete(waits)
    verdict = stream.end().only("request_domain_limit")
    assert [holder["leases"] for holder in facts_of(verdict)["holders"]] == [1]
    assert facts_of(verdict)["longest_waiter"]["row"] == 2


def test_a_recording_gap_that_the_producer_tells_of() -> None:
    stream = Stream()
    stream.register(BETA, 1)
    work = stream.call(stream.begin(VERDICT, 0))
    last = stream.sequences["request"]
    stream.at(3.0)
    stream.sequences["request"] += 10
    stream.scheduler(
        "recording_gap",
        reason="disk_full",
        stream="request",
        first_lost=last + 1,
        last_lost=last + 10,
    )
    stream.at(4.0)
    stream.complete(work)
    result = stream.end()
    assert facts_of(result.only("unknown"))["lost_events"] == 10
    assert result.seconds("run", "unknown") == pytest.approx(3.0)


def test_a_lost_producer_leaves_the_unknown_not_the_running() -> None:
    stream = Stream()
    stream.register(BETA, 1)
    stream.call(stream.begin(VERDICT, 0))
    stream.at(2.0)
    stream.scheduler("scheduler_loop_heartbeat", period=10.0, drift=0.0)
    result = stream.fold(until=5.0)
    assert result.seconds("cell", "working") == pytest.approx(2.0)
    assert result.seconds("cell", "unknown") == pytest.approx(3.0)
    gone = result.only("producer_gone")
    assert gone.tier == "A"
    assert facts_of(gone)["open_tasks"] == 1


def test_a_second_belongs_to_one_bin() -> None:
    stream = Stream()
    stream.register(BETA, 1)
    stream.at(0.5)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(3.25)
    stream.complete(work)
    result = stream.end()
    worked = {r.bin: r.seconds for r in bin_by_bin(result.rows) if r.scope == "cell"}
    assert worked == {
        0: pytest.approx(0.5),
        1: pytest.approx(1.0),
        2: pytest.approx(1.0),
        3: pytest.approx(0.25),
    }


def test_a_leap_of_the_clock_is_nobody_s_time() -> None:
    stream = Stream()
    stream.register(BETA, 1)
    work = stream.call(stream.begin(VERDICT, 0))
    stream.at(1.0)
    stream.scheduler("scheduler_loop_heartbeat", period=10.0, drift=0.0)
    stream.at(1e9)
    stream.scheduler("scheduler_loop_heartbeat", period=10.0, drift=0.0)
    stream.at(1e9 + 1.0)
    stream.complete(work)
    result = stream.end()
    assert sum(row.seconds for row in result.rows if row.scope == "cell") == pytest.approx(2.0)


def test_a_stream_without_requests_takes_the_ceilings_from_snapshots() -> None:
    """A foreign scheduler stream: what the model's running task does follows from its ceiling."""
    stream = Stream((VERDICT,), producer="data_designer", lacks=("request stream",))
    work = stream.begin(VERDICT, 0)

    def snapshot(in_flight: int, waiters: int, until: float | None) -> None:
        facts = {
            "effective_max": 2,
            "current_limit": 2,
            "in_flight_count": in_flight,
            "waiters": waiters,
            "blocked_until_monotonic": until,
        }
        stream.scheduler("scheduler_health_snapshot", request_pressure={BETA.label: facts})

    snapshot(1, 0, None)
    stream.at(2.0)
    snapshot(0, 1, 105.0)
    stream.at(4.0)
    snapshot(0, 1, 105.0)
    stream.at(6.0)
    snapshot(1, 0, None)
    stream.at(7.0)
    stream.finish(work)
    result = stream.end()
    assert result.seconds("cell", "request_cooldown") == pytest.approx(3.0)
    assert result.seconds("run", "request_cooldown", resource=BETA.label) == pytest.approx(6.0)
    verdict = result.only("request_cooldown")
    assert (verdict.start, verdict.end) == (102.0, 105.0)
    assert facts_of(verdict)["missing"] == ["request stream"]
    # From the cooldown's end until the next snapshot the waiting call may have gone out or not.
    assert result.seconds("cell", "unknown") == pytest.approx(1.0)
    assert result.seconds("run", "unknown", resource=BETA.label) == pytest.approx(2.0)
    assert "request_waiters_ahead" not in {row.verdict for row in result.verdicts}


def test_a_retry_whose_error_is_not_told_says_so() -> None:
    detail = RetryBackoff(deferred=2, errors={}, missing=["error types of deferred tasks"])
    sentence = detail.sentence(BETA.label, 1.0, Context())
    assert "2 tasks had failed (this stream does not say how)" in sentence
