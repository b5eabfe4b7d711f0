"""`ModelCaller`: one logical request, which may take several attempts."""

from __future__ import annotations

import asyncio

from engine.errors import RetryableTaskError
from engine.events.failures import error_type_of
from engine.models.call import action_of, local_timeout
from engine.models.client import ModelRequest, ModelResponse, ProviderError
from engine.models.executor import ModelRequestExecutor
from engine.request_admission.availability import CallTally
from engine.request_admission.types import RequestAdmissionError

SUSPECT_REFUSALS = 3
"""Refusals of one request, while others are answered, after which its refusals say nothing of the
load: it waits on its own, and cuts no limit."""
FIRST_SUSPECT_WAIT_SECONDS = 0.25
MAX_SUSPECT_WAIT_SECONDS = 4.0

_TASK_DENIALS = {
    "queue_timeout": ("RequestQueueTimeout", "no request lease within the allowed wait"),
    "shutdown": ("RequestAdmissionShutdown", "request admission has shut down"),
    "cancellation": ("RequestAdmissionCancelled", "the wait for a request lease was cancelled"),
}


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
        before: CallTally | None = None
        repeated = False
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
                    repeated=repeated,
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
                    raise local_timeout(request, uses_attempt=False) from error
                known = _TASK_DENIALS.get(error.denial.reason)
                if known is None:
                    raise
                raise RetryableTaskError(*known, uses_attempt=False) from error
            else:
                action = action_of(request, response, repeated)
                if action == "drop":
                    raise rejected(response)
                if action != "retry":
                    return response
                repeated = True
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
