"""Limits of providers, and `AdverseClient`: what a script can't say. Requests that are never taken,
errors in the body of a 200, answers that are none, quotas that are used up for a while."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any, Literal

from engine.clock import Clock
from engine.events.failures import AnswerVerdict, error_type_of
from engine.models.client import ModelClient, ModelRequest, ModelResponse, ProviderError
from engine.models.provider_script import CapacityCycle, GrowthLimit, ProviderScript

Poison = Literal["rate_limit", "request_too_large", "context_length", "content_filter"]
PROBE_PROMPT = "ok?"


@dataclass(frozen=True)
class Adversity:
    """One provider's. Shares are of prompts, spans in seconds."""

    poison: Poison | None = None
    """How it refuses some prompts whenever they are sent; `rate_limit` looks like load."""
    poison_share: float = 0.0
    malformed: tuple[float, float] | None = None
    """While it lasts, answers are no chat completion."""
    quota: tuple[float, float] | None = None
    """While it lasts, everything is refused with the time at which the quota is back."""
    verdict: AnswerVerdict | None = None
    """What is wrong with some answers."""
    verdict_share: float = 0.0


def random_limits(script: ProviderScript, source: random.Random) -> ProviderScript:
    """Capacities that change, budgets, lines without a bound, and limits on growth."""
    if source.random() >= 0.3:
        return script
    seconds = source.choice([0.5, 2.0])
    cycle = CapacityCycle(seconds=seconds, capacities=(source.randint(2, 4), 1))
    limit: dict[str, Any] = source.choice(
        [
            {"capacity_cycle": cycle},
            {"capacity": source.choice([1, 2]), "queue": True},
            {"growth": GrowthLimit(start=1, factor=2.0, seconds=source.choice([0.5, 2.0]))},
            {"requests_per_minute": source.choice([60.0, 300.0]), "burst": 3},
            {"tokens_per_minute": 3000.0, "token_burst": 40, "completion_tokens": 10},
        ]
    )
    reported = source.random() < 0.5
    return script.model_copy(update={**limit, "tells_budgets": reported})


def random_adversity(source: random.Random) -> Adversity:
    start = source.choice([0.0, 0.3, 1.0])
    span = (start, start + source.choice([0.5, 2.0, 4.0]))
    poisons: list[Poison] = ["rate_limit", "request_too_large", "context_length", "content_filter"]
    verdicts: list[AnswerVerdict] = ["refusal", "truncated", "empty_answer", "reasoning_only"]
    return Adversity(
        poison=source.choice([None, *poisons]),
        poison_share=source.choice([0.1, 0.3]),
        malformed=span if source.random() < 0.3 else None,
        quota=span if source.random() < 0.3 else None,
        verdict=source.choice([None, *verdicts]),
        verdict_share=source.choice([0.1, 0.5]),
    )


class AdverseClient:
    """A provider of this adversity before another one."""

    def __init__(self, client: ModelClient, adversity: Adversity, clock: Clock) -> None:
        self._client = client
        self._adversity = adversity
        self._clock = clock

    async def send(self, request: ModelRequest) -> ModelResponse:
        adverse, now = self._adversity, self._clock.monotonic()
        if adverse.quota is not None and adverse.quota[0] <= now < adverse.quota[1]:
            left = adverse.quota[1] - now
            raise _error("quota_used_up", 429, retry_after_seconds=left)
        if adverse.poison is not None and _drawn("poison", request) < adverse.poison_share:
            status = 429 if adverse.poison == "rate_limit" else 400
            raise _error(adverse.poison, status)
        response = await self._client.send(request)
        now = self._clock.monotonic()
        if adverse.malformed is not None and adverse.malformed[0] <= now < adverse.malformed[1]:
            raise _error("malformed_answer", 200)
        if adverse.verdict is not None and _drawn("verdict", request) < adverse.verdict_share:
            return ModelResponse("", response.prompt_tokens, 7, adverse.verdict, "stop")
        return response

    async def close(self) -> None:
        await self._client.close()


def _error(
    failure: Literal["quota_used_up", "malformed_answer"] | Poison,
    status: int,
    *,
    retry_after_seconds: float | None = None,
) -> ProviderError:
    return ProviderError(
        failure,
        error_type_of(failure),
        "as the world says",
        status=status,
        retry_after_seconds=retry_after_seconds,
    )


def _drawn(purpose: str, request: ModelRequest) -> float:
    """A number from 0 to 1 that hangs on the prompt alone; 1 for a probe."""
    if request.prompt == PROBE_PROMPT:
        return 1.0
    digest = hashlib.blake2b(f"{purpose} {request.prompt}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
