"""`check_health`: does every model answer? Asked through the executor, before work is scheduled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine.errors import RetryableTaskError, UserError
from engine.models.client import ModelRequest, ProviderError
from engine.models.executor import ModelCaller
from engine.request_admission.types import RequestAdmissionError

HEALTH_PROMPT = "Reply with the word ok."
HEALTH_MAX_TOKENS = 8


async def check_health(caller: ModelCaller, requests: Sequence[ModelRequest]) -> None:
    """One call for each request, of the domain `healthcheck`; a rate limit is waited out.

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
    try:
        await caller.call(request)
    except (ProviderError, RetryableTaskError) as error:
        return error.message
    except RequestAdmissionError as error:
        return f"no request lease: {error.denial.reason}"
    return None
