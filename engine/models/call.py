"""`LeasedCall`: the call under one request lease, and what its end means to admission."""

from __future__ import annotations

import asyncio
from functools import partial

from engine.clock import Clock
from engine.events import EventStream, RequestResource
from engine.events.failures import AnswerAction
from engine.models.client import (
    LocalTimeoutError,
    ModelClient,
    ModelRequest,
    ModelResponse,
    ProviderError,
)
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.request_admission.types import (
    FailureReport,
    RequestAdmissionLease,
    RequestOutcomeKind,
    RequestReleaseOutcome,
)


class LeasedCall:
    """Reports the start and the end of the call to request admission and the stream."""

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
        """The request goes out."""
        now = self._started_at = self._clock.monotonic()
        self._admission.mark_started(self._lease, now)
        if self._stream.requests_enabled:
            self._emit("model_request_started", now, None, {})

    def succeeded(
        self, response: ModelResponse, action: AnswerAction | None, cost: float | None
    ) -> None:
        """The provider answered; `cost` is in USD, None where the price is not known."""
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
        """The call ended with an error; with `suspect` it says nothing of the load."""
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


async def send(
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
            raise local_timeout(request) from None
        raise ProviderError(
            "timeout",
            "ProviderTimeout",
            f"no answer from {request.resource.provider_name} in {allowed_seconds:g} s",
        ) from None


def local_timeout(request: ModelRequest, *, uses_attempt: bool = True) -> LocalTimeoutError:
    """The error of a call whose caller did not wait any longer."""
    return LocalTimeoutError(
        "LocalTimeout",
        f"the caller's {request.within_seconds:g} s were over before an answer",
        uses_attempt=uses_attempt,
    )


def report_of(error: ProviderError, longest_wait: float) -> FailureReport:
    """What request admission and the events learn of a failure."""
    wait = error.retry_after_seconds
    obeyed = wait is None or wait <= longest_wait or error.kind != "rate_limited"
    _, status, code, param = error.details
    return FailureReport(
        error.failure, error.message, status, code, param, None if obeyed else wait
    )


def action_of(
    request: ModelRequest, response: ModelResponse, repeated: bool
) -> AnswerAction | None:
    """What becomes of an answer; None for one that is as it should be."""
    if response.verdict is None:
        return None
    action = request.action(response.verdict)
    return "drop" if action == "retry" and repeated else action
