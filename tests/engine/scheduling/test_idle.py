"""What is told between two dispatch passes, step by step."""

from __future__ import annotations

from engine.events import EventStream
from engine.scheduling.idle import HOLDERS_INTERVAL_SECONDS, IdleReport
from tests.engine.scheduling.admission_bench import SLOT, Bench
from tests.engine_run import ListSink


class ToldBench(Bench):
    """One slot, and a report that is asked after each pass."""

    def __init__(self) -> None:
        super().__init__({SLOT: 1})
        self.sink = ListSink()
        self.stream = EventStream(self.clock, "run", [self.sink])
        self.idle = IdleReport(self.stream, self.queue, self.admission, self.clock)

    def dispatch(self, most: int = 1000) -> list[str]:
        if len(self.queue):
            self.idle.note_work()
        names = super().dispatch(most)
        self.idle.note_drained()
        self.idle.report(self.admission.active_leases, 0)
        return names

    def reasons(self) -> list[str]:
        self.stream.flush()
        kinds = [event.event_kind for event in self.sink.events]
        self.sink.events.clear()
        return kinds


def test_a_block_that_a_drained_queue_has_ended_is_told_when_it_comes_back() -> None:
    bench = ToldBench()
    bench.enqueue("a", 1)
    bench.enqueue("b", 1)
    bench.dispatch()
    assert bench.reasons() == ["admission_blocked"]
    bench.queue.discard("b/1")
    bench.idle.note_drained()
    bench.enqueue("b", 1)
    bench.dispatch()
    assert bench.reasons() == ["queue_drained", "admission_blocked"]


def test_an_empty_queue_stays_told_while_work_comes_and_goes_at_once() -> None:
    bench = ToldBench()
    bench.dispatch()
    assert bench.reasons() == ["queue_empty"]
    bench.enqueue("a", 1)
    bench.dispatch()
    assert bench.reasons() == ["queue_drained"]


def test_other_holders_are_told_after_a_while_and_not_again() -> None:
    bench = ToldBench()
    bench.enqueue("a", 3)
    bench.enqueue("b", 3)
    bench.dispatch()
    assert bench.reasons() == ["admission_blocked"]
    bench.release("a")
    assert bench.dispatch() == ["b"]
    assert bench.reasons() == [], "the same heads for the same reason"
    bench.clock.now += HOLDERS_INTERVAL_SECONDS
    bench.dispatch()
    assert bench.reasons() == ["admission_blocked"]
    bench.clock.now += HOLDERS_INTERVAL_SECONDS
    bench.dispatch()
    assert bench.reasons() == []
