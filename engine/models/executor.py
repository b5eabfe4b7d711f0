"""`ModelRequestExecutor`: one outbound attempt, under a request lease of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from engine.clock import Clock
from engine.events import EventStream, RuntimeCorrelationProvider
from engine.identity import RequestResourceKey
from engine.models.call import LeasedCall, action_of, send
from engine.models.client import (
    ModelClient,
    ModelRequest,
    ModelResponse,
)
from engine.models.usage import Price, Usage
from engine.request_admission.availability import CallTally
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    RequestAdmissionItem,
    RequestEventContext,
)

PROBE_TIMEOUT_SECONDS = 60.0
"""A probe that hangs must not keep the next one waiting for long."""
PROBE_ROUND_TRIPS = 4.0
"""Usual durations of a call that a probe may take, where calls take minutes."""
CHARS_PER_TOKEN = 4
_NO_PRICES: Mapping[str, Price] = MappingProxyType({})


class ModelRequestExecutor:
    """Makes one attempt: acquires a lease, sends the request, classifies the result, releases.

    Args:
        admission: Issues the request leases.
        clients: Clients by provider name.
        stream: Takes the events of the calls.
        clock: The clock of the run.
        correlation: Knows the task that the calling code belongs to.
        queue_wait_timeout: Most seconds that an attempt waits for a lease; None for no limit.
        attempts: Attempts that the run has made before, whose ids are taken.
        prices: Prices by alias, for calls whose cost the provider does not tell.
        on_usage: Called with the tokens and the cost of each call that was answered.
    """

    def __init__(
        self,
        *,
        admission: AdaptiveRequestAdmissionController,
        clients: Mapping[str, ModelClient],
        stream: EventStream,
        clock: Clock,
        correlation: RuntimeCorrelationProvider,
        queue_wait_timeout: float | None = None,
        attempts: int = 0,
        prices: Mapping[str, Price] = _NO_PRICES,
        on_usage: Callable[[Usage, float | None], object] = lambda usage, cost: None,
    ) -> None:
        self._admission = admission
        self._clients = clients
        self._stream = stream
        self._clock = clock
        self._correlation = correlation
        self._queue_wait_timeout = queue_wait_timeout
        self._attempts = attempts
        self._prices = prices
        self._on_usage = on_usage

    def deadline(self, request: ModelRequest) -> float | None:
        """When the time of the caller is up (monotonic seconds) if the call begins now."""
        within = request.within_seconds
        return None if within is None else self._clock.monotonic() + within

    @property
    def longest_wait(self) -> float:
        return self._admission.longest_wait

    def tally(self, resource: RequestResourceKey) -> CallTally:
        """`Outages.tally`."""
        return self._admission.outages.tally(resource)

    def is_past(self, deadline: float | None) -> bool:
        return deadline is not None and self._clock.monotonic() >= deadline

    async def execute_attempt(
        self,
        request: ModelRequest,
        deadline: float | None = None,
        *,
        suspect: bool = False,
        repeated: bool = False,
        attempt_id: str | None = None,
        repeats: str | None = None,
    ) -> ModelResponse:
        """Send the request once, under a lease of its own.

        Args:
            request: What is sent.
            deadline: When the time of the caller is up, in monotonic seconds; None for no limit.
            suspect: A refusal of this request says nothing of the load.
            repeated: An answer to this request was rejected before.
            attempt_id: From `new_attempt_id`; None for a new one.
            repeats: Id of the first attempt of the logical request, where this is not the first.

        Raises:
            ProviderError: The client raised it, or the provider exceeded `request.timeout_seconds`.
            LocalTimeoutError: `deadline` came first.
            RequestAdmissionError: There was no lease.
            Exception: Whatever else the client raised.
        """
        client = self._clients[request.resource.provider_name]
        context = self._context(attempt_id or self.new_attempt_id(), repeats)
        wait = self._queue_wait_timeout
        if deadline is not None:
            remaining = max(0.0, deadline - self._clock.monotonic())
            wait = remaining if wait is None else min(wait, remaining)
        lease = await self._admission.acquire_async(
            RequestAdmissionItem(request.resource, None, wait, context, estimated_tokens(request))
        )
        left = None if deadline is None else deadline - self._clock.monotonic()
        call = LeasedCall(self._stream, self._clock, self._admission, lease)
        try:
            call.started()
            response = await send(client, request, left, self._admission.longest_wait)
        except BaseException as error:
            call.failed(error, suspect)
            raise
        else:
            usage = response.usage
            cost = usage.cost_at(self._prices.get(request.alias))
            call.succeeded(response, action_of(request, response, repeated), cost)
            self._on_usage(usage, cost)
            return response
        finally:
            self._admission.release(lease, call.outcome)

    async def probe(self, request: ModelRequest) -> None:
        """Ask a resource that is out whether it answers again. Never raises but when cancelled."""
        context = RequestEventContext(None, None, self.new_attempt_id())
        item = RequestAdmissionItem(request.resource, None, None, context)
        lease = self._admission.acquire_probe(item)
        if lease is None:
            return
        client = self._clients[request.resource.provider_name]
        call = LeasedCall(self._stream, self._clock, self._admission, lease)
        timeout_seconds = _probe_timeout(request, self._admission.round_trip(request.resource))
        request = replace(request, timeout_seconds=timeout_seconds)
        try:
            call.started()
            response = await send(client, request, None, self._admission.longest_wait)
        except Exception as error:
            call.failed(error)
        except BaseException as error:
            call.failed(error)
            raise
        else:
            cost = response.usage.cost_at(self._prices.get(request.alias))
            call.succeeded(response, None, cost)
            self._on_usage(response.usage, cost)
        finally:
            self._admission.release(lease, call.outcome)

    def new_attempt_id(self) -> str:
        self._attempts += 1
        return f"a{self._attempts}"

    def _context(self, attempt_id: str, repeats: str | None) -> RequestEventContext:
        correlation = self._correlation.current()
        execution_id = correlation.task_execution_id if correlation is not None else None
        return RequestEventContext(correlation, execution_id, attempt_id, repeats)


def estimated_tokens(request: ModelRequest) -> int:
    """About as many tokens as the prompt has, for budgets; the provider's count corrects it."""
    return sum(map(len, request.texts)) // CHARS_PER_TOKEN + 1


def _probe_timeout(request: ModelRequest, round_trip: float | None) -> float:
    longest = max(PROBE_TIMEOUT_SECONDS, PROBE_ROUND_TRIPS * (round_trip or 0.0))
    return longest if request.timeout_seconds is None else min(request.timeout_seconds, longest)
