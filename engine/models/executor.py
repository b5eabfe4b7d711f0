"""`ModelRequestExecutor`: one outbound attempt. `ModelCaller`: one logical request.

The only place that knows both clients and request admission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from engine.clock import Clock
from engine.errors import RetryableTaskError
from engine.events import EventStream, RequestResource, RuntimeCorrelationProvider
from engine.identity import RequestResourceKey
from engine.models.client import (
    LocalTimeoutError,
    ModelClient,
    ModelRequest,
    ModelResponse,
    ProviderError,
)
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestEventContext,
    RequestOutcomeKind,
    RequestReleaseOutcome,
)

_TASK_DENIALS = {
    "queue_timeout": ("RequestQueueTimeout", "no request lease within the allowed wait"),
    "shutdown": ("RequestAdmissionShutdown", "request admission has shut down"),
    "cancellation": ("RequestAdmissionCancelled", "the wait for a request lease was cancelled"),
}


class ModelRequestExecutor:
    """Makes one attempt: acquires a lease, sends the request, classifies the result, releases.

    Args:
        admission: Issues the request leases.
        clients: Clients by provider name.
        stream: Takes the events of the calls.
        clock: The clock of the run.
        correlation: Knows the task that the calling code belongs to.
        queue_wait_timeout: Most seconds that an attempt waits for a lease; None for no limit.
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
    ) -> None:
        self._admission = admission
        self._clients = clients
        self._stream = stream
        self._clock = clock
        self._correlation = correlation
        self._queue_wait_timeout = queue_wait_timeout
        self._attempts = 0

    def deadline(self, request: ModelRequest) -> float | None:
        """When the time of the caller is up (monotonic seconds) if the call begins now."""
        within = request.within_seconds
        return None if within is None else self._clock.monotonic() + within

    def is_past(self, deadline: float | None) -> bool:
        return deadline is not None and self._clock.monotonic() >= deadline

    async def execute_attempt(
        self, request: ModelRequest, deadline: float | None = None
    ) -> ModelResponse:
        """Send the request once, under a lease of its own.

        Args:
            request: What is sent.
            deadline: When the time of the caller is up, in monotonic seconds; None for no limit.

        Raises:
            ProviderError: The client raised it, or the provider exceeded `request.timeout_seconds`.
            LocalTimeoutError: `deadline` came first.
            RequestAdmissionError: There was no lease.
            Exception: Whatever else the client raised.
        """
        client = self._clients[request.resource.provider_name]
        self._attempts += 1
        correlation = self._correlation.current()
        context = RequestEventContext(
            correlation,
            correlation.task_execution_id if correlation is not None else None,
            f"a{self._attempts}",
        )
        wait = self._queue_wait_timeout
        if deadline is not None:
            remaining = max(0.0, deadline - self._clock.monotonic())
            wait = remaining if wait is None else min(wait, remaining)
        lease = await self._admission.acquire_async(
            RequestAdmissionItem(request.resource, None, wait, context)
        )
        call = _Call(self._stream, self._clock, self._admission, lease)
        try:
            call.started()
            remaining_seconds = None if deadline is None else deadline - self._clock.monotonic()
            response = await _send(client, request, remaining_seconds)
        except BaseException as error:
            call.failed(error)
            raise
        else:
            call.succeeded(response)
            return response
        finally:
            self._admission.release(lease, call.outcome)


class _Call:
    """The call under one lease: reports its start and end to request admission and the stream."""

    def __init__(
        self,
        stream: EventStream,
        clock: Clock,
        admission: AdaptiveRequestAdmissionController,
        lease: RequestAdmissionLease,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._admission = admission
        self._lease = lease
        self._started_at = 0.0
        self.outcome = RequestReleaseOutcome("unexpected_exception")

    def started(self) -> None:
        now = self._started_at = self._clock.monotonic()
        self._admission.mark_started(self._lease, now)
        if self._stream.requests_enabled:
            self._emit("model_request_started", now, None, {})

    def succeeded(self, response: ModelResponse) -> None:
        self._returned(
            RequestReleaseOutcome("success"),
            prompt_tokens=response.prompt_tokens,
            completion_tokens=response.completion_tokens,
        )

    def failed(self, error: BaseException) -> None:
        retry_after: float | None = None
        kind: RequestOutcomeKind = "unexpected_exception"
        error_type = type(error).__name__
        if isinstance(error, ProviderError):
            kind = error.kind
            retry_after = error.retry_after_seconds
            error_type = error.error_type
        elif isinstance(error, LocalTimeoutError):
            kind = "local_timeout"
            error_type = error.error_type
        elif isinstance(error, asyncio.CancelledError):
            kind = "local_cancelled"
        self._returned(RequestReleaseOutcome(kind, retry_after), error_type=error_type)

    def _returned(self, outcome: RequestReleaseOutcome, **facts: int | str | None) -> None:
        self.outcome = outcome
        now = self._clock.monotonic()
        self._admission.mark_returned(self._lease, now)
        if self._stream.requests_enabled:
            diagnostics: dict[str, float | int | str] = {
                "duration_seconds": round(now - self._started_at, 6)
            }
            diagnostics.update((k, value) for k, value in facts.items() if value is not None)
            self._emit("model_request_completed", now, outcome.kind, diagnostics)

    def _emit(
        self, kind: str, now: float, outcome: str | None, diagnostics: dict[str, float | int | str]
    ) -> None:
        item = self._lease.item
        context = item.event_context
        self._stream.request(
            kind,
            at=now,
            resource=RequestResource(*item.resource),
            correlation=context.captured_correlation if context is not None else None,
            attempt_id=context.request_attempt_id if context is not None else None,
            lease_id=self._lease.lease_id,
            group=item.group.key if item.group is not None else None,
            outcome=outcome,
            diagnostics=diagnostics,
        )


async def _send(
    client: ModelClient, request: ModelRequest, remaining_seconds: float | None
) -> ModelResponse:
    """Send within the time of the request and what remains of the caller's. A `TimeoutError` that
    the client raised itself is neither, and passes through."""
    allowed_seconds = request.timeout_seconds
    caller_ends_first = remaining_seconds is not None and (
        allowed_seconds is None or remaining_seconds < allowed_seconds
    )
    deadline = asyncio.timeout(remaining_seconds if caller_ends_first else allowed_seconds)
    try:
        async with deadline:
            return await client.send(request)
    except TimeoutError:
        if not deadline.expired():
            raise
        if caller_ends_first:
            raise _local_timeout(request) from None
        raise ProviderError(
            "provider_timeout",
            "ProviderTimeout",
            f"no answer from {request.resource.provider_name} in {allowed_seconds:g} s",
        ) from None


def _local_timeout(request: ModelRequest, *, uses_attempt: bool = True) -> LocalTimeoutError:
    return LocalTimeoutError(
        "LocalTimeout",
        f"the caller's {request.within_seconds:g} s were over before an answer",
        uses_attempt=uses_attempt,
    )


class ModelCaller:
    """Makes logical requests for generators, repeating rate-limited attempts in place.

    A repeated attempt waits out the cooldown at admission while the task keeps its task lease. To
    defer the task instead would give its slot and its place in the fair order to others at every
    429.

    A call gives up after `max_rate_limited_attempts`. An attempt counts only if the resource
    answered another call since the one before: a storm that refuses every call says nothing about
    this one.
    """

    def __init__(self, executor: ModelRequestExecutor, max_rate_limited_attempts: int = 50) -> None:
        self._executor = executor
        self._max_rate_limited_attempts = max_rate_limited_attempts
        self._answered: dict[RequestResourceKey, int] = {}

    async def call(self, request: ModelRequest) -> ModelResponse:
        """The answer of the provider.

        Raises:
            RetryableTaskError: Another execution of the task may succeed. It is a
                `LocalTimeoutError` if the time of the caller is up.
            ProviderError: The same request can't succeed.
            RequestAdmissionError: The resource is not registered.
        """
        resource = request.resource
        deadline = self._executor.deadline(request)
        rate_limited = 0
        answered_before = -1
        while True:
            try:
                response = await self._executor.execute_attempt(request, deadline)
            except ProviderError as error:
                if not error.retryable:
                    raise
                answered = self._answered.get(resource, 0)
                if error.kind == "rate_limited" and answered != answered_before:
                    rate_limited += 1
                    answered_before = answered
                if error.kind != "rate_limited" or rate_limited >= self._max_rate_limited_attempts:
                    raise RetryableTaskError(
                        error.error_type, error.message, error.retry_after_seconds
                    ) from error
            except RequestAdmissionError as error:
                if error.denial.reason == "queue_timeout" and self._executor.is_past(deadline):
                    raise _local_timeout(request, uses_attempt=False) from error
                known = _TASK_DENIALS.get(error.denial.reason)
                if known is None:
                    raise
                raise RetryableTaskError(*known, uses_attempt=False) from error
            else:
                self._answered[resource] = self._answered.get(resource, 0) + 1
                return response
