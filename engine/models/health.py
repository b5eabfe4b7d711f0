"""`check_health`: does every model answer? Asked through the executor, before work is scheduled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from engine.errors import RetryableTaskError, UserError
from engine.events.failures import AnswerAction, AnswerVerdict, scope_of
from engine.models.caller import ModelCaller
from engine.models.client import ANSWER_ACTIONS, ModelRequest, ProviderError
from engine.request_admission.types import RequestAdmissionError

HEALTH_PROMPT = "Reply with the word ok."
HEALTH_SECONDS = 300.0
"""Most seconds for one model, with waits for its rate limits."""
HEALTH_TRIES = 3
TRY_AGAIN_SECONDS = 1.0
_ANY_ANSWER: dict[AnswerVerdict, AnswerAction] = dict.fromkeys(ANSWER_ACTIONS, "accept")


async def check_health(caller: ModelCaller, requests: Sequence[ModelRequest]) -> None:
    """One call for each request, of the domain `healthcheck`; a rate limit is waited out, and a
    failure that may pass is tried again. Any answer will do, also one without text, as of a model
    that thinks first.

    Raises `UserError` for the first model, in order of `requests`, that does not answer.
    """
    outcomes = await asyncio.gather(*(_problem(caller, request) for request in requests))
    for request, problem in zip(requests, outcomes, strict=True):
        if problem is not None:
            raise UserError(
                f'model "{request.alias}" ({request.resource.provider_model.label}) fails its '
                f"health check: {problem}"
            )


async def _problem(caller: ModelCaller, request: ModelRequest) -> str | None:
    request = replace(request, answer_actions=_ANY_ANSWER)
    problem = ""
    for tries in range(1, HEALTH_TRIES + 1):
        try:
            await caller.call(request)
            return None
        except ProviderError as error:
            return error.message
        except RetryableTaskError as error:
            problem = error.message
            lasting = error.details is not None and scope_of(error.details.failure) == "person"
            if lasting or tries == HEALTH_TRIES:
                return problem
            await asyncio.sleep(TRY_AGAIN_SECONDS)
        except RequestAdmissionError as error:
            return f"no request lease: {error.denial.reason}"
    return problem
