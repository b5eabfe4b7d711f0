"""The life of a task: every stretch of it, and what kept each wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from engine.events import RunInfo
from replay.diagnosis.report.schema import HistorySpan, TaskHistory
from replay.diagnosis.report.task_history import build_history
from replay.projections.fold import Fold
from replay.state.bins import within
from replay.state.model import State
from replay.state.rows import AttemptRow, BlameRow, LeaseRow
from tests.replay.diagnosis.stream import ALPHA, QUESTION, Stream


@dataclass(frozen=True)
class Bounds:
    first_ordinal: int
    last_ordinal: int
    t0: float
    t1: float


class Reader:
    """What a recording of the stream answers."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        fold = Fold(stream.run)
        fold.apply(stream.events, 1)
        self.output = fold.finish(None, lost=False)

    def run(self) -> RunInfo:
        return self._stream.run

    def bounds(self) -> Bounds:
        times = [event.captured_at_monotonic for event in self._stream.events]
        return Bounds(1, len(times), times[0], times[-1])

    def ordinal_at(self, t: float) -> int:
        return sum(event.captured_at_monotonic <= t for event in self._stream.events)

    def state_at(self, ordinal: int) -> State:
        fold = Fold(self._stream.run)
        fold.apply(self._stream.events[:ordinal], 1)
        return fold.state

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]:
        leases = [row for row in self.output.leases if row.task_id == task_id]
        executions = {row.execution_id for row in leases}
        return leases, [row for row in self.output.attempts if row.execution_id in executions]

    def blame(self, bin0: int, bin1: int, scope: Literal["cell", "run"]) -> list[BlameRow]:
        rows = self.output.blame
        return list(within((row for row in rows if row.scope == scope), bin0, bin1))


def storm() -> Reader:
    """Two slots. Question 0 holds one to 10 s, question 1 the other and is refused at 9.5 s, until
    14 s. Question 2 queues at 0.5 s, question 3 after it. Question 1 fails at 20 s, is back at 25.
    """
    stream = Stream((QUESTION,), {"submission": 64, "model_stage:alpha/gen": 2}, records=4)
    stream.register(ALPHA, 2)
    first, refused = (stream.call(stream.begin(QUESTION, row)) for row in (0, 1))
    stream.at(0.5)
    waits = stream.queue(QUESTION, 2)
    stream.at(0.6)
    last = stream.queue(QUESTION, 3)
    stream.at(9.5)
    stream.answer(refused, "rate_limited", blocked_until=114.0, retry_after=4.5)
    stream.wait(refused, "cooldown")
    stream.at(10.0).complete(first)
    stream.wait(stream.run_task(waits), "cooldown")
    stream.at(14.0)
    stream.send(refused)
    stream.send(waits)
    stream.at(20.0)
    stream.answer(refused, "provider_failure")
    stream.defer(refused, "ServerError", 5.0)
    stream.call(stream.run_task(last))
    stream.at(25.0)
    stream.complete(waits)
    stream.again(refused)
    stream.call(stream.run_task(refused))
    stream.at(30.0)
    for work in (refused, last):
        stream.complete(work)
    stream.scheduler("scheduler_job_completed", reason="success")
    return Reader(stream)


def history_of(reader: Reader, task_id: str, at: float | None = None) -> TaskHistory:
    return build_history(
        reader, task_id, reader.output.verdicts, None if at is None else 100.0 + at
    )


def stretch(step: HistorySpan) -> tuple[str, float, float | None]:
    return step.what, step.start, step.end


def test_each_wait_says_what_kept_it() -> None:
    story = history_of(storm(), "question/2")
    assert (story.state, story.row_group, story.row) == ("completed", 0, 2)
    steps = [step for step in story.steps if step.end != step.start]
    assert [stretch(step) for step in steps] == [
        ("queued for a task slot", 0.5, 10.0),
        ("waiting to call", 10.0, 14.0),
        ("in the provider", 14.0, 25.0),
    ]
    assert steps[0].verdicts == {"task_capacity": pytest.approx(9.5)}
    assert steps[1].verdicts == {"request_cooldown": pytest.approx(4.0)}
    # What else stood still at that time is no reason why its own call took long.
    assert steps[2].verdicts == {}


def test_the_time_between_two_tries_is_part_of_it() -> None:
    steps = [step for step in history_of(storm(), "question/1").steps if step.end != step.start]
    assert [stretch(step) for step in steps] == [
        ("in the provider (rate_limited)", 0.0, 9.5),
        ("waiting to call", 9.5, 14.0),
        ("in the provider (provider_failure)", 14.0, 20.0),
        ("waiting to be tried again", 20.0, 25.0),
        ("in the provider", 25.0, 30.0),
    ]
    assert steps[1].verdicts == {"request_cooldown": pytest.approx(4.5)}


@pytest.mark.parametrize(
    ("task", "at", "position"),
    [
        ("question/3", 5.0, 1),
        ("question/3", 12.0, 0),
        ("question/2", 5.0, 0),
        ("question/2", 12.0, 1),
        ("question/2", 16.0, None),
        ("question/2", None, None),
    ],
)
def test_its_place_in_the_line_is_told_of_that_moment(
    task: str, at: float | None, position: int | None
) -> None:
    assert history_of(storm(), task, at).position == position


def test_a_slow_call_is_slow_from_three_times_the_usual_on() -> None:
    stream = Stream((QUESTION,), records=30)
    stream.register(ALPHA, 1)
    for row in range(25):
        work = stream.call(stream.begin(QUESTION, row))
        stream.at(row + 1.0)
        stream.complete(work)
    slow = stream.call(stream.begin(QUESTION, 25))
    stream.at(35.0)
    stream.complete(slow)
    stream.scheduler("scheduler_job_completed", reason="success")
    (call,) = [
        step for step in history_of(Reader(stream), "question/25").steps if step.end != step.start
    ]
    assert stretch(call) == ("in the provider", 25.0, 35.0)
    assert call.verdicts == {"provider_latency": pytest.approx(7.0)}


def test_a_task_of_no_recording_is_none() -> None:
    with pytest.raises(LookupError):
        history_of(storm(), "nobody/1")
