"""Every kind of the request stream, from the situation that calls for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.clock import LoopClock
from engine.events import RequestEvent, RuntimeCorrelationProvider
from engine.events.failures import FailureClass
from engine.events.kinds import ALL_REQUEST_KINDS
from engine.models.client import ModelRequest, ModelResponse
from engine.models.executor import ModelRequestExecutor
from engine.models.rate_budget import RateBudget
from engine.request_admission.types import (
    FailureReport,
    RequestAdmissionError,
    RequestReleaseOutcome,
)
from engine.virtual_time import run_virtual
from tests.engine.events.catalogue import check_declared
from tests.engine.request_admission.lab import CHAT, EMBEDDING, SUCCESS, Lab

Scenario = Callable[[Lab], Awaitable[None]]
RATE_LIMITED = RequestReleaseOutcome("rate_limited", 2.0)


class Answering:
    async def send(self, request: ModelRequest) -> ModelResponse:
        await asyncio.sleep(1.0)
        return ModelResponse("an answer", 7, 3)

    async def close(self) -> None:
        """Nothing is held open."""


async def one_call(lab: Lab) -> None:
    lab.register(cap=2)
    executor = ModelRequestExecutor(
        admission=lab.controller,
        clients={"alpha": Answering()},
        stream=lab.stream,
        clock=LoopClock(lab.loop, 0),
        correlation=RuntimeCorrelationProvider(),
    )
    await executor.execute_attempt(ModelRequest(CHAT, "a", "a question"))


async def a_queue(lab: Lab) -> None:
    lab.register(cap=1)
    lease = await lab.acquire()
    wait = lab.waiting()
    await asyncio.sleep(1.0)
    lab.controller.release(lease, SUCCESS)
    lab.controller.release(await wait, SUCCESS)


async def waits_that_fail(lab: Lab) -> None:
    lab.register(cap=1)
    lease = await lab.acquire()
    with pytest.raises(RequestAdmissionError):
        await lab.acquire(timeout=1.0)
    cancelled = lab.waiting()
    await asyncio.sleep(1.0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    lab.controller.try_acquire(lab.item())
    lab.controller.release(lease, SUCCESS)


async def a_rate_limit_and_recovery(lab: Lab) -> None:
    lab.register(cap=4)
    for _ in range(2):
        leases = [await lab.acquire() for _ in range(lab.pressure().current_limit)]
        for lease in leases:
            lab.controller.release(lease, RATE_LIMITED)
        wait = lab.waiting()
        lab.controller.release(await wait, SUCCESS)
    while lab.pressure().current_limit < 4:
        leases = [await lab.acquire() for _ in range(lab.pressure().current_limit)]
        for lease in leases:
            lab.controller.release(lease, SUCCESS)


async def a_wait_for_another_reason(lab: Lab) -> None:
    lab.register(cap=2)
    leases = [await lab.acquire() for _ in range(2)]
    wait = lab.waiting()
    await asyncio.sleep(1.0)
    lab.controller.release(leases[0], RATE_LIMITED)
    lab.controller.release(leases[1], SUCCESS)
    lab.controller.release(await wait, SUCCESS)


async def a_lower_cap(lab: Lab) -> None:
    lab.register(CHAT, 4, "a")
    lab.register(EMBEDDING, 2, "b")


async def a_second_release(lab: Lab) -> None:
    lab.register()
    lease = await lab.acquire()
    lab.controller.release(lease, SUCCESS)
    lab.controller.release(lease, SUCCESS)


def failed(failure: FailureClass, wait: float | None = None) -> RequestReleaseOutcome:
    return RequestReleaseOutcome("provider_failure", wait, FailureReport(failure, "no", 500))


async def an_outage(lab: Lab) -> None:
    lab.register(cap=2)
    lab.controller.outages.on_probe_due = lambda resource: None
    for _ in range(3):
        lab.controller.release(await lab.acquire(), failed("server_error"))
    wait = lab.waiting()
    for outcome in (failed("server_error"), SUCCESS):
        await asyncio.sleep(1.0)
        probe = lab.controller.acquire_probe(lab.item())
        assert probe is not None
        lab.controller.release(probe, outcome)
    lab.controller.release(await wait, SUCCESS)


async def a_suspension(lab: Lab) -> None:
    lab.register(cap=2)
    lab.controller.outages.on_probe_due = lambda resource: None
    lab.controller.release(await lab.acquire(), failed("auth"))
    probe = lab.controller.acquire_probe(lab.item())
    assert probe is not None
    lab.controller.release(probe, failed("auth"))


async def a_budget(lab: Lab) -> None:
    lab.register()
    lease = await lab.acquire()
    lab.controller.observe_budgets(lease, [RateBudget("tokens", 100, 7, 1.5)])
    lab.controller.release(lease, SUCCESS)


SCENARIOS: dict[Scenario, frozenset[str]] = {
    one_call: frozenset(
        """
        request_resource_registered request_wait_started request_wait_completed
        request_lease_acquired model_request_started model_request_completed
        request_lease_released
        """.split()
    ),
    a_queue: frozenset({"request_queue_formed", "request_queue_drained"}),
    waits_that_fail: frozenset(
        {"request_wait_timeout", "request_wait_cancelled", "request_acquire_denied"}
    ),
    a_rate_limit_and_recovery: frozenset(
        """
        request_rate_limited request_limit_decreased request_limit_increased
        request_soft_ceiling_recovered request_fully_recovered
        """.split()
    ),
    a_wait_for_another_reason: frozenset({"request_wait_reason_changed"}),
    a_lower_cap: frozenset({"request_effective_cap_changed", "request_limit_decreased"}),
    a_second_release: frozenset({"request_release_diagnostic"}),
    an_outage: frozenset({"request_outage"}),
    a_suspension: frozenset({"request_outage", "request_suspended"}),
    a_budget: frozenset({"request_rate_budget_observed"}),
}


def seen(scenario: Scenario) -> list[RequestEvent]:
    async def main() -> list[RequestEvent]:
        lab = Lab(increase_step=1)
        await scenario(lab)
        return lab.events()

    return run_virtual(main())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_situation_is_told_by_its_kinds(scenario: Scenario) -> None:
    events = seen(scenario)
    assert {event.event_kind for event in events} >= SCENARIOS[scenario]
    for event in events:
        check_declared(event)


def test_every_kind_has_a_situation_and_no_other_kind_is_told() -> None:
    kinds = {event.event_kind for scenario in SCENARIOS for event in seen(scenario)}
    assert kinds == ALL_REQUEST_KINDS
    assert frozenset().union(*SCENARIOS.values()) == ALL_REQUEST_KINDS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_every_event_names_its_resource_and_a_queue_forms_and_drains_in_turn(
    scenario: Scenario,
) -> None:
    queues: dict[str, bool] = {}
    for event in seen(scenario):
        assert event.request_resource_key is not None
        label = event.request_resource_key.label
        if event.event_kind in ("request_queue_formed", "request_queue_drained"):
            formed = event.event_kind == "request_queue_formed"
            assert queues.get(label, False) is not formed
            queues[label] = formed
    assert not any(queues.values())


def test_recovery_is_told_once_and_by_its_transition() -> None:
    events: list[Any] = [
        (event.event_kind, event.diagnostics["current"])
        for event in seen(a_rate_limit_and_recovery)
        if "recovered" in event.event_kind
    ]
    assert events == [("request_soft_ceiling_recovered", 4), ("request_fully_recovered", 4)]
