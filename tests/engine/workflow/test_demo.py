"""The demo under virtual time: a storm that is seen, and a healthy provider that is not hit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from engine.clock import LoopClock
from engine.events import Event, EventStream, RequestEvent
from engine.run.execute import RunControl, execute_run
from engine.run.plan import plan_run
from engine.scheduling.plan import RunResult
from engine.virtual_time import run_virtual
from engine.workflow.demo import demo_workflow
from engine.workflow.load import LoadedWorkflow


class Kept:
    def __init__(self) -> None:
        self.requests: list[RequestEvent] = []

    def write_events(self, events: Sequence[Event]) -> None:
        self.requests.extend(e for e in events if isinstance(e, RequestEvent))


def run_demo(records: int) -> tuple[RunResult, float, list[RequestEvent]]:
    """Result, seconds of virtual time, and the events of the request stream."""

    async def main() -> tuple[RunResult, float, list[RequestEvent]]:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, wall_start=0.0)
        kept = Kept()
        stream = EventStream(clock, "demo", [kept], loop.call_soon)
        loaded = LoadedWorkflow(demo_workflow(records), path=None, functions={})
        result = await execute_run(
            plan_run(loaded, inline_functions=True),
            stream,
            clock,
            control=RunControl(),
            inline=True,
        )
        stream.flush()
        return result, clock.monotonic(), kept.requests

    return run_virtual(main())


@pytest.mark.parametrize(("records", "least", "most"), [(60, 12, 20), (240, 45, 60)])
def test_the_demo_shows_a_storm_and_its_end(records: int, least: float, most: float) -> None:
    result, seconds, events = run_demo(records)
    assert (result.outcome, result.rows_done, result.rows_dropped) == ("success", records, 0)
    assert least <= seconds <= most

    def provider(event: RequestEvent) -> str:
        assert event.request_resource_key is not None
        return event.request_resource_key.provider_name

    changes = [e for e in events if e.event_kind.startswith("request_limit_")]
    assert {provider(e) for e in changes} == {"beta"}
    limits = [e.diagnostics["current"] for e in changes]
    lowest = limits.index(min(limits))
    assert limits[lowest] <= 4
    assert max(limits[lowest:]) >= 8, "the ceiling recovers before the end"

    served = Counter(
        int(e.captured_at_monotonic)
        for e in events
        if e.event_kind == "model_request_completed" and provider(e) == "alpha"
    )
    calm = sum(served[s] for s in range(1, 4)) / 3
    storm = sum(served[s] for s in range(4, 9)) / 5
    assert storm >= 0.9 * calm, "alpha keeps its rate while beta cools down"
