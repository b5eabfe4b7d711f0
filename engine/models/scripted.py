"""`ScriptedClient`: a provider simulated inside the process, in real or virtual time."""

from __future__ import annotations

import asyncio

from engine.clock import Clock
from engine.models.client import ModelRequest, ModelResponse, ProviderError
from engine.models.provider_script import ProviderScript
from engine.models.refusals import ErrorBody, classify
from engine.models.script import Reply, ScriptPlayer
from engine.models.scripted_answers import schema_of

_NOTHING_SAID = ErrorBody((), None, None, "", None)


class ScriptedClient:
    """A `ModelClient` that answers from a `ProviderScript`; time is the running loop's."""

    def __init__(self, script: ProviderScript, clock: Clock) -> None:
        self._player = ScriptPlayer(script)
        self._clock = clock

    async def send(self, request: ModelRequest) -> ModelResponse:
        texts = (*(turn.text for turn in request.turns), request.prompt)
        reply = self._player.arrive(
            self._clock.monotonic(),
            request.resource.model_id,
            "\n".join(texts),
            request.system,
            schema=schema_of(request.options.get("response_format")),
            embeds=request.operation == "embedding",
            dimensions=request.options.get("dimensions"),
        )
        try:
            limit = request.timeout_seconds
            if reply.outcome == "hang" or (limit is not None and reply.seconds >= limit):
                seconds = reply.seconds if limit is None else limit
                await asyncio.sleep(seconds)
                raise ProviderError("timeout", "ProviderTimeout", f"no answer within {seconds:g} s")
            await asyncio.sleep(reply.seconds)
        finally:
            self._player.leave(reply, self._clock.monotonic())
        return _response(reply)

    async def close(self) -> None:
        """Nothing is held open."""


def _response(reply: Reply) -> ModelResponse:
    if reply.outcome == "rate_limited":
        overloaded = reply.status != 429
        raise ProviderError(
            "overload" if overloaded else "rate_limit",
            "Overloaded" if overloaded else "RateLimited",
            f"the provider refuses more requests for a while ({reply.status})",
            status=reply.status,
            retry_after_seconds=reply.retry_after,
            budgets=reply.budgets,
        )
    if reply.outcome == "error":
        raise ProviderError(
            classify(reply.status, _NOTHING_SAID, False),
            f"HTTP{reply.status}",
            f"the provider answered {reply.status}",
            status=reply.status,
        )
    if reply.vector:
        return ModelResponse("", reply.prompt_tokens, 0, vector=reply.vector, budgets=reply.budgets)
    return ModelResponse(
        reply.text, reply.prompt_tokens, reply.completion_tokens, budgets=reply.budgets
    )
