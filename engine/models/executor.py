"""`ModelRequestExecutor`: one outbound attempt. `ModelCaller`: one logical request.

The only place that knows both clients and request admission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from engine.clock import Clock
from engine.errors import RetryableTaskError
from engine.events import EventStream, RequestResource, RuntimeCorrelationProvider
from engine.events.failures import AnswerAction, error_type_of
from engine.identity import RequestResourceKey
from engine.models.client import (
    LocalTimeoutError,
    ModelClient,
    ModelRequest,
    ModelResponse,
    ProviderError,
)
from engine.models.usage import Price, Usage
from engine.request_admission.availability import Tally
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    FailureReport,
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestEventContext,
    RequestOutcomeKind,
    RequestReleaseOutcome,
)

PROBE_TIMEOUT_SECONDS = 60.0
"""A probe that hangs must not keep the next one waiting for long."""
PROBE_ROUND_TRIPS = 4.0
"""Usual durations of a call that a probe may take, where calls take minutes."""
CHARS_PER_TOKEN = 4
SUSPECT_REFUSALS = 3
"""Refusals of one request, while others are answered, after which its refusals say nothing of the
load: it waits on its own, and cuts no limit."""
FIRST_SUSPECT_WAIT_SECONDS = 0.25
MAX_SUSPECT_WAIT_SECONDS = 4.0

_NO_PRICES: Mapping[str, Price] = MappingProxyType({})
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

    def tally(self, resource: RequestResourceKey) -> Tally:
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
        asked_again: bool = False,
        attempt_id: str | None = None,
        repeats: str | None = None,
    ) -> ModelResponse:
        """Send the request once, under a lease of its own.

        Args:
            request: What is sent.
            deadline: When the time of the caller is up, in monotonic seconds; None for no limit.
            suspect: A refusal of this request says nothing of the load.
            asked_again: An answer to this request was rejected before.
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
        call = _Call(self._stream, self._clock, self._admission, lease)
        try:
            call.started()
            response = await _send(client, request, left, self._admission.longest_wait)
        except BaseException as error:
            call.failed(error, suspect)
            raise
        else:
            usage = response.usage
            cost = usage.cost_at(self._prices.get(request.alias))
            call.succeeded(response, action_of(request, response, asked_again), cost)
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
        call = _Call(self._stream, self._clock, self._admission, lease)
        timeout_seconds = _probe_timeout(request, self._admission.round_trip(request.resource))
        request = replace(request, timeout_seconds=timeout_seconds)
        try:
            call.started()
            response = await _send(client, request, None, self._admission.longest_wait)
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


def action_of(
    request: ModelRequest, response: ModelResponse, asked_again: bool
) -> AnswerAction | None:
    """What becomes of an answer; None for one that is as it should be."""
    if response.verdict is None:
        return None
    action = request.action(response.verdict)
    return "drop" if action == "retry" and asked_again else action


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

    def succeeded(
        self, response: ModelResponse, action: AnswerAction | None, cost: float | None
    ) -> None:
        if response.budgets:
            self._admission.observe_budgets(self._lease, response.budgets)
        self._returned(
            RequestReleaseOutcome(
                "success",
                prompt_tokens=response.prompt_tokens,
                completion_tokens=response.completion_tokens,
            ),
            prompt_tokens=response.prompt_tokens,
            completion_tokens=response.completion_tokens,
            cached_tokens=response.details.cached_tokens,
            reasoning_tokens=response.details.reasoning_tokens,
            cost=cost,
            finish_reason=response.finish_reason if response.verdict is not None else None,
            verdict=response.verdict,
            action=action,
            first_token_seconds=response.first_token_seconds,
        )

    def failed(self, error: BaseException, suspect: bool = False) -> None:
        kind: RequestOutcomeKind = "unexpected_exception"
        error_type = type(error).__name__
        if isinstance(error, ProviderError):
            resource = self._lease.item.resource
            mark = self._admission.outages.failure_mark(resource)
            error.blames_task = partial(self._admission.outages.blames, resource, mark)
            if error.budgets:
                self._admission.observe_budgets(self._lease, error.budgets)
            report = report_of(error, self._admission.longest_wait)
            facts = report.payload()
            wait = error.retry_after_seconds
            if report.retry_after_said is not None:
                wait = self._admission.longest_wait
            self._returned(
                RequestReleaseOutcome(error.kind, wait, report, cuts=not suspect),
                error_type=error.error_type,
                **facts,
            )
            return
        if isinstance(error, LocalTimeoutError):
            kind = "local_timeout"
            error_type = error.error_type
        elif isinstance(error, asyncio.CancelledError):
            kind = "local_cancelled"
        self._returned(RequestReleaseOutcome(kind), error_type=error_type)

    def _returned(self, outcome: RequestReleaseOutcome, **facts: float | str | None) -> None:
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


def _probe_timeout(request: ModelRequest, round_trip: float | None) -> float:
    longest = max(PROBE_TIMEOUT_SECONDS, PROBE_ROUND_TRIPS * (round_trip or 0.0))
    return longest if request.timeout_seconds is None else min(request.timeout_seconds, longest)


def report_of(error: ProviderError, longest_wait: float) -> FailureReport:
    """What request admission and the events learn of a failure."""
    wait = error.retry_after_seconds
    obeyed = wait is None or wait <= longest_wait or error.kind != "rate_limited"
    _, status, code, param = error.details
    return FailureReport(
        error.failure, error.message, status, code, param, None if obeyed else wait
    )


async def _send(
    client: ModelClient,
    request: ModelRequest,
    remaining_seconds: float | None,
    longest_wait: float,
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
    except ProviderError as error:
        raise error.obeying(longest_wait) from None
    except TimeoutError:
        if not deadline.expired():
            raise
        if caller_ends_first:
            raise _local_timeout(request) from None
        raise ProviderError(
            "timeout",
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
    """Makes logical requests for generators, repeating refused attempts in place.

    A repeated attempt waits out the cooldown at admission while the task keeps its task lease. To
    defer the task instead would give its slot and its place in the fair order to others at every
    429.

    A refusal counts only if most others were answered since the one before: a storm that refuses
    every call, or a budget that refuses most, says nothing about this one. A request that is
    refused while others are answered is suspected to be refused for its own sake, such as a prompt
    above the limit of tokens: it waits by itself, cuts no limit, and is given up after
    `max_refusals`.
    """

    def __init__(self, executor: ModelRequestExecutor, max_refusals: int = 20) -> None:
        self._executor = executor
        self._max_refusals = max_refusals

    async def call(self, request: ModelRequest) -> ModelResponse:
        """The answer of the provider.

        Raises:
            RetryableTaskError: Another execution of the task may succeed. It is a
                `LocalTimeoutError` if the time of the caller is up.
            ProviderError: The same request can't succeed, or its answer is not acceptable.
            RequestAdmissionError: The resource is not registered.
        """
        resource = request.resource
        deadline = self._executor.deadline(request)
        refusals = 0
        before: Tally | None = None
        asked_again = False
        first_attempt: str | None = None
        while True:
            suspect = refusals >= SUSPECT_REFUSALS
            if suspect:
                await self._wait_alone(refusals, deadline)
            attempt_id = self._executor.new_attempt_id()
            try:
                response = await self._executor.execute_attempt(
                    request,
                    deadline,
                    suspect=suspect,
                    asked_again=asked_again,
                    attempt_id=attempt_id,
                    repeats=first_attempt,
                )
            except ProviderError as error:
                if error.kind == "rate_limited":
                    tally = self._executor.tally(resource)
                    refusals += before is None or tally.shows_own_fault(before)
                    before = tally
                if error.kind != "rate_limited" or refusals >= self._max_refusals:
                    raise self._given_up(error, refusals) from error
            except RequestAdmissionError as error:
                if error.denial.reason == "queue_timeout" and self._executor.is_past(deadline):
                    raise _local_timeout(request, uses_attempt=False) from error
                known = _TASK_DENIALS.get(error.denial.reason)
                if known is None:
                    raise
                raise RetryableTaskError(*known, uses_attempt=False) from error
            else:
                action = action_of(request, response, asked_again)
                if action == "drop":
                    raise rejected(response)
                if action != "retry":
                    return response
                asked_again = True
            first_attempt = first_attempt or attempt_id

    async def _wait_alone(self, refusals: int, deadline: float | None) -> None:
        seconds = FIRST_SUSPECT_WAIT_SECONDS * 2.0 ** (refusals - SUSPECT_REFUSALS)
        seconds = min(seconds, MAX_SUSPECT_WAIT_SECONDS)
        if deadline is None or not self._executor.is_past(deadline):
            await asyncio.sleep(seconds)

    def _given_up(self, error: ProviderError, refusals: int) -> Exception:
        """What a generator learns of a failure that is not repeated in place."""
        if not error.retryable:
            return error
        if error.kind == "rate_limited":
            return ProviderError(
                error.failure,
                "RefusedAlways",
                f"refused {refusals} times while other requests were answered; {error.message}",
                status=error.details.status,
                code=error.details.code,
                param=error.details.param,
            )
        wait = error.retry_after_seconds if error.scope == "resource" else None
        if wait is not None:
            wait = min(wait, self._executor.longest_wait)
        return RetryableTaskError(
            error.error_type,
            error.message,
            wait,
            blames_task=error.blames_task,
            details=error.details,
        )


def rejected(response: ModelResponse) -> ProviderError:
    """The error for an answer that is not accepted."""
    assert response.verdict is not None
    messages = {
        "refusal": "the model refused to answer",
        "filtered_answer": "the provider's content filter cut the answer",
        "truncated": "the answer was cut at the token limit",
        "empty_answer": "the answer holds no text",
        "reasoning_only": "the model used its tokens for reasoning and gave no text",
        "thinking_in_text": "the answer's text holds the model's thinking",
    }
    verdict = response.verdict
    return ProviderError(
        verdict, error_type_of(verdict), messages[verdict], code=response.finish_reason
    )
