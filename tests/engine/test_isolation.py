"""A storm on one provider, in a whole run under virtual time: the other one keeps its rate."""

from __future__ import annotations

import pytest

from engine.events import RequestEvent
from engine.models.provider_script import Latency, RateLimitWindow
from engine.workflow.schema import LlmTextColumn, Model, RunSettings, ScriptedProvider, Workflow
from tests.engine_run import Ran, run_engine

STORM = (5.0, 15.0)


def workflow(retry_after: float | None, storm: bool) -> Workflow:
    window = RateLimitWindow(start=STORM[0], end=STORM[1], retry_after=retry_after)
    return Workflow(
        name="two providers",
        records=250,
        providers={
            "healthy": ScriptedProvider(seed=1, latency=Latency(mean=0.5, spread=0.15)),
            "stormy": ScriptedProvider(
                seed=2,
                latency=Latency(mean=0.5, spread=0.15),
                rate_limits=(window,) if storm else (),
            ),
        },
        models={
            "a": Model(provider="healthy", model="m", max_parallel_requests=8),
            "b": Model(provider="stormy", model="m", max_parallel_requests=8),
        },
        columns=[
            LlmTextColumn(name="one", model="a", prompt="Say {{ 'one' }}"),
            LlmTextColumn(name="two", model="b", prompt="Say {{ 'two' }}"),
        ],
        run=RunSettings(buffer_size=250, max_in_flight_tasks=64),
    )


def answers_of_the_healthy_one(ran: Ran) -> int:
    """While the storm lasts."""
    return sum(
        isinstance(event, RequestEvent)
        and event.event_kind == "model_request_completed"
        and event.reason_or_outcome == "success"
        and event.request_resource_key is not None
        and event.request_resource_key.provider_name == "healthy"
        and STORM[0] <= event.captured_at_monotonic < STORM[1]
        for event in ran.events
    )


@pytest.mark.parametrize("retry_after", [None, 3.0])
def test_a_healthy_provider_keeps_its_rate_and_no_row_is_dropped(retry_after: float | None) -> None:
    stormy, calm = run_engine(workflow(retry_after, True)), run_engine(workflow(retry_after, False))
    assert stormy.kinds["request_rate_limited"] > 0
    assert calm.kinds["request_rate_limited"] == 0
    undisturbed = answers_of_the_healthy_one(calm)
    assert undisturbed > 100
    assert answers_of_the_healthy_one(stormy) >= 0.95 * undisturbed
    assert (stormy.result.rows_done, stormy.result.rows_dropped) == (250, 0)
