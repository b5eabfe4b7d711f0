from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import msgspec
import pytest

from engine.clock import LoopClock
from engine.events import Event, EventStream, RequestEvent, SchedulerEvent
from engine.virtual_time import run_virtual
from tests.engine.scheduling.harness import Run, Setting, column, takes
from tests.engine_run import ListSink
from tests.simulation.world import random_world


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
    ran = Run(Setting((column("a"),), records=5, execute=takes(1.0), sinks=[Failing()]))
    run_virtual(ran.go())
    assert ran.result is not None
    assert ran.result.outcome == "success"
    (completed,) = ran.scheduler_events("scheduler_job_completed")
    assert completed.diagnostics["sink_failures"]["Failing"] > 1
    assert b"secret" not in ran.lines()


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


class Through(ListSink):
    """Takes events from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def write_through(self, events: Sequence[Event]) -> None:
        self.threads.append(threading.get_ident())
        self.write_events(events)


def in_another_thread(stream: EventStream) -> None:
    """While the loop stands: it waits for the thread."""
    emit = partial(stream.outside_numbering, "loop_blocked", 9.0, "waiting", {})
    thread = threading.Thread(target=emit)
    thread.start()
    thread.join()


def test_another_thread_delivers_at_once_behind_what_is_pending() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sink = Through()
        stream = EventStream(LoopClock(loop), "run", [sink], loop.call_soon)
        stream.scheduler("selected")
        in_another_thread(stream)
        assert [(e.event_kind, e.sequence) for e in sink.events] == [
            ("selected", 1),
            ("loop_blocked", 0),
        ]
        assert sink.threads != [threading.get_ident()]
        stream.scheduler("queue_drained")
        await asyncio.sleep(0)
        assert [event.sequence for event in sink.events] == [1, 0, 2]

    run_virtual(main())


def test_a_sink_of_the_loops_thread_alone_gets_it_from_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sinks = [Through(), ListSink()]
        stream = EventStream(LoopClock(loop), "run", sinks, loop.call_soon)
        stream.scheduler("selected")
        in_another_thread(stream)
        assert [sink.events for sink in sinks] == [[], []]
        await asyncio.sleep(0)
        for sink in sinks:
            assert [event.sequence for event in sink.events] == [1, 0]

    run_virtual(main())


def test_without_a_sink_nothing_is_built() -> None:
    async def main() -> None:
        stream = EventStream(LoopClock(asyncio.get_running_loop()), "run")
        stream.scheduler("selected")
        stream.request("request_queue_formed")
        stream.flush()
        assert not stream.scheduler_enabled
        assert not stream.requests_enabled
        assert (stream.scheduler_sequence, stream.request_sequence) == (0, 0)

    run_virtual(main())


@pytest.mark.parametrize("alone", ["scheduler", "request"])
def test_either_stream_alone_says_what_it_says_beside_the_other(
    alone: Literal["scheduler", "request"],
) -> None:
    kind = SchedulerEvent if alone == "scheduler" else RequestEvent
    for seed in range(30):
        reported = []
        for streams in ("both", alone):
            world = random_world(seed)
            world.setting.sinks = []
            world.setting.streams = streams
            ran = Run(world.setting)
            run_virtual(ran.go())
            reported.append(facts(event for event in ran.events if isinstance(event, kind)))
            if streams == alone:
                assert all(isinstance(event, kind) for event in ran.events)
                numbers = [event.sequence for event in ran.events]
                assert numbers == list(range(1, len(numbers) + 1))
        assert reported[0] == reported[1]


def facts(events: Iterable[Event]) -> list[Event]:
    """Without numbers, and without the keyframes that follow how much both streams tell."""
    return [
        msgspec.structs.replace(event, sequence=0)
        for event in events
        if event.event_kind != "scheduler_health_snapshot"
    ]
