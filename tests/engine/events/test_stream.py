from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine.clock import LoopClock
from engine.events import Event, EventStream
from engine.virtual_time import run_virtual
from tests.engine.scheduling.harness import ListSink, Run, Setting, column, takes


class Failing:
    """Fails at every batch; counts them."""

    def __init__(self) -> None:
        self.batches = 0

    def write_events(self, events: Sequence[Event]) -> None:
        self.batches += 1
        raise OSError("secret path: no room")


def test_a_sink_that_fails_is_counted_and_the_others_get_everything() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before, failing, after = ListSink(), Failing(), ListSink()
        stream = EventStream(LoopClock(loop), "run", [before, failing, after], loop.call_soon)
        for number in range(3):
            stream.scheduler("selected", task_id=f"a/{number}")
            stream.request("request_queue_formed")
            assert failing.batches == number, "no sink is called where the fact happens"
            await asyncio.sleep(0)
        assert stream.failures_by_sink == {"Failing": 3}
        assert before.events == after.events
        assert [event.sequence for event in after.events] == [1, 1, 2, 2, 3, 3]

    run_virtual(main())


def test_a_run_goes_on_without_a_sink_that_fails_and_says_so_at_its_end() -> None:
    one = Run(Setting((column("a"),), records=5, execute=takes(1.0), sinks=[Failing()]))
    run_virtual(one.go())
    assert one.result is not None
    assert one.result.outcome == "success"
    (completed,) = one.told("scheduler_job_completed")
    assert completed.diagnostics["sink_failures"]["Failing"] > 1
    assert b"secret" not in one.lines()


def test_what_a_listener_of_the_flush_emits_is_delivered_after_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sink = ListSink()
        stream = EventStream(LoopClock(loop), "run", [sink], loop.call_soon)

        def once() -> None:
            stream.after_flush = None
            stream.scheduler("queue_drained")

        stream.after_flush = once
        stream.scheduler("queue_empty")
        await asyncio.sleep(0)
        assert [event.event_kind for event in sink.events] == ["queue_empty"]
        await asyncio.sleep(0)
        assert [event.event_kind for event in sink.events] == ["queue_empty", "queue_drained"]

    run_virtual(main())


def test_without_a_sink_nothing_is_built() -> None:
    async def main() -> None:
        stream = EventStream(LoopClock(asyncio.get_running_loop()), "run")
        stream.scheduler("selected")
        stream.request("request_queue_formed")
        stream.flush()
        assert not stream.enabled
        assert (stream.scheduler_sequence, stream.request_sequence) == (0, 0)

    run_virtual(main())
