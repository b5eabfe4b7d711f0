"""`Lab`: a request admission controller under virtual time, with what it told the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from engine.clock import LoopClock
from engine.events import Event, EventStream, RequestEvent, RuntimeCorrelation
from engine.identity import PressureSnapshot, RequestResourceKey
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestEventContext,
    RequestGroupSpec,
    RequestReleaseOutcome,
)
from engine.virtual_time import run_virtual

CHAT = RequestResourceKey("alpha", "m", "chat")
EMBEDDING = RequestResourceKey("alpha", "m", "embedding")
OTHER = RequestResourceKey("beta", "m", "chat")
SUCCESS = RequestReleaseOutcome("success")
RATE_LIMITED = RequestReleaseOutcome("rate_limited")


class Collected:
    def __init__(self) -> None:
        self.events: list[RequestEvent] = []
        self.queue_formed = asyncio.Event()

    def write_events(self, events: Sequence[Event]) -> None:
        self.events.extend(event for event in events if isinstance(event, RequestEvent))
        if any(event.event_kind == "request_queue_formed" for event in events):
            self.queue_formed.set()


class Lab:
    """A controller on the running loop, with what it told the stream."""

    def __init__(self, recorded: bool = True, **settings: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.sink = Collected()
        clock = LoopClock(self.loop, 0)
        sinks = (self.sink,) if recorded else ()
        self.stream = EventStream(clock, "run", sinks, defer=self.loop.call_soon)
        self.controller = AdaptiveRequestAdmissionController(
            stream=self.stream,
            clock=clock,
            loop=self.loop,
            config=RequestAdmissionConfig(**settings),
        )
        self.attempts = 0

    def register(self, resource: RequestResourceKey = CHAT, cap: int = 1, alias: str = "a") -> None:
        self.controller.register(resource, cap, alias)

    def item(
        self,
        resource: RequestResourceKey = CHAT,
        group: RequestGroupSpec | None = None,
        timeout: float | None = None,
    ) -> RequestAdmissionItem:
        self.attempts += 1
        correlation = RuntimeCorrelation("run", 0, "question", task_execution_id="e1")
        context = RequestEventContext(correlation, "e1", f"a{self.attempts}")
        return RequestAdmissionItem(resource, group, timeout, context)

    async def acquire(
        self, resource: RequestResourceKey = CHAT, **wanted: Any
    ) -> RequestAdmissionLease:
        return await self.controller.acquire_async(self.item(resource, **wanted))

    def waiting(
        self, resource: RequestResourceKey = CHAT, **wanted: Any
    ) -> asyncio.Task[RequestAdmissionLease]:
        return self.loop.create_task(self.acquire(resource, **wanted))

    def pressure(self, resource: RequestResourceKey = CHAT) -> PressureSnapshot:
        pressure = self.controller.pressure.snapshot(resource)
        assert pressure is not None
        return pressure

    def counts(self, resource: RequestResourceKey = CHAT) -> tuple[int, int]:
        """In flight and waiting."""
        pressure = self.pressure(resource)
        return pressure.in_flight_count, pressure.waiters

    def events(self) -> list[RequestEvent]:
        self.stream.flush()
        return self.sink.events

    def kinds(self) -> list[str]:
        return [event.event_kind for event in self.events()]


async def settle() -> None:
    """Until every callback that is ready now has run."""
    for _ in range(5):
        await asyncio.sleep(0)


def virtually(main: Coroutine[Any, Any, None]) -> None:
    run_virtual(main)
