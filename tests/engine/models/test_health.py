"""Health checks of a whole run under virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import UserError
from engine.events import RequestEvent
from engine.models.provider_script import ErrorWindow, Latency, RateLimitWindow
from engine.workflow.schema import LlmTextColumn, Model, RunSettings, ScriptedProvider, Workflow
from tests.engine_run import Ran, run_engine


def workflow(health_check: bool = True, **script: Any) -> Workflow:
    provider = ScriptedProvider(latency=Latency(distribution="constant", mean=0.5), **script)
    return Workflow(
        name="w",
        records=3,
        providers={"p": provider, "q": ScriptedProvider()},
        models={
            "writer": Model(provider="p", model="m", max_parallel_requests=3),
            "twin": Model(provider="p", model="m", max_parallel_requests=2),
            "judge": Model(provider="q", model="j", max_parallel_requests=2),
        },
        columns=[LlmTextColumn(name="text", model="writer", prompt="Hello")],
        run=RunSettings(health_check=health_check),
    )


def calls(ran: Ran) -> list[tuple[str, float]]:
    """Resource and time of each call that went out."""
    return [
        (event.request_resource_key.label, event.captured_at_monotonic)
        for event in ran.events
        if isinstance(event, RequestEvent)
        and event.event_kind == "model_request_started"
        and event.request_resource_key is not None
    ]


def test_each_endpoint_is_asked_once_before_the_work() -> None:
    ran = run_engine(workflow())
    assert ran.result.rows_done == 3
    sent = calls(ran)
    assert sorted(sent[:2]) == [("p/m/healthcheck", 0.0), ("q/j/healthcheck", 0.0)]
    assert {label for label, _ in sent[2:]} == {"p/m/chat"}
    assert min(at for _, at in sent[2:]) >= 0.5
    uncorrelated = [e.captured_correlation for e in ran.events if isinstance(e, RequestEvent)][:6]
    assert uncorrelated == [None] * 6


def test_health_checks_do_not_shape_what_is_scheduled() -> None:
    checked, plain = run_engine(workflow()), run_engine(workflow(health_check=False))
    assert checked.run.columns == plain.run.columns
    assert checked.run.resource_limits == plain.run.resource_limits
    assert not [label for label, _ in calls(plain) if "healthcheck" in label]


def test_a_rate_limit_is_waited_out() -> None:
    ran = run_engine(workflow(rate_limits=(RateLimitWindow(start=0.0, end=3.0, retry_after=2.0),)))
    assert ran.result.rows_done == 3
    asked = [at for label, at in calls(ran) if label == "p/m/healthcheck"]
    assert asked[0] == 0.0
    assert asked[-1] >= 3.0


def test_a_model_that_does_not_answer_ends_the_run_before_any_work() -> None:
    with pytest.raises(UserError, match=r'model ".*" \(p/m\) fails its health check: .* 401'):
        run_engine(workflow(errors=(ErrorWindow(start=0.0, rate=1.0, status=401),)))
