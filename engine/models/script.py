"""`ScriptPlayer`: simulates a provider from its script: latencies, refusals, errors, time-outs.

It uses no random source: each number is a hash of the seed and the request, so that an answer
depends on its prompt alone and a latency on seed and request, in whatever order requests arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from engine.models.provider_script import ProviderScript
from engine.models.scripted_answers import digest, scripted_json, scripted_text, scripted_vector

HANG_SECONDS = 600.0
"""How long a request that is never answered stays open if the caller set no time-out."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request, `seconds` after it arrived."""

    outcome: Literal["answer", "rate_limited", "error", "hang"]
    seconds: float
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    status: int = 200
    retry_after: float | None = None
    vector: tuple[float, ...] = ()


class ScriptPlayer:
    """Simulates one provider: call `arrive` for each request, and `leave` when it has ended."""

    def __init__(self, script: ProviderScript) -> None:
        self._script = script
        self._began_at: float | None = None
        self._bucket = float(script.burst)
        self._bucket_at = 0.0
        self._failures: dict[bytes, int] = {}
        self.in_service = 0

    def arrive(
        self,
        now: float,
        model: str,
        prompt: str,
        system: str | None = None,
        *,
        schema: Any = None,
        embeds: bool = False,
        dimensions: int | None = None,
    ) -> Reply:
        """The reply to a request.

        Args:
            now: Monotonic seconds.
            model: Name of the model.
            prompt: All that is said but the system prompt.
            system: The system prompt.
            schema: JSON Schema of the answer; None for text.
            embeds: A vector is wanted.
            dimensions: Of the vector; None takes the script's.
        """
        script = self._script
        if self._began_at is None:
            self._began_at = now
        elapsed = now - self._began_at
        refusal = self._refusal(elapsed)
        if refusal is not None:
            return refusal
        self.in_service += 1
        request = digest(model, system or "", prompt)
        # A request that failed before draws anew, so that a retry may succeed.
        attempt = str(self._failures.get(request, 0))
        seconds = script.latency.seconds(self._fraction("latency", request, attempt))
        timeout_rate = max(
            (w.rate for w in script.timeouts if w.covers(elapsed)), default=script.timeout_rate
        )
        if self._fraction("timeout", request, attempt) < timeout_rate:
            self._failures[request] = self._failures.get(request, 0) + 1
            return Reply("hang", HANG_SECONDS)
        window = max(
            (w for w in script.errors if w.covers(elapsed)), key=lambda w: w.rate, default=None
        )
        error_rate = script.error_rate if window is None else max(window.rate, script.error_rate)
        if self._fraction("error", request, attempt) < error_rate:
            self._failures[request] = self._failures.get(request, 0) + 1
            return Reply("error", seconds, status=500 if window is None else window.status)
        self._failures.pop(request, None)
        prompt_tokens = len(prompt.split()) + len((system or "").split())
        if embeds:
            vector = scripted_vector(prompt, dimensions or script.dimensions)
            return Reply("answer", seconds, prompt_tokens=prompt_tokens, vector=vector)
        text = scripted_text(prompt) if schema is None else scripted_json(schema, prompt)
        return Reply(
            "answer",
            seconds,
            text=text,
            prompt_tokens=prompt_tokens,
            completion_tokens=(
                len(text.split()) if script.completion_tokens is None else script.completion_tokens
            ),
        )

    def leave(self, reply: Reply) -> None:
        if reply.outcome != "rate_limited":
            self.in_service -= 1

    def _refusal(self, elapsed: float) -> Reply | None:
        script = self._script
        for window in script.rate_limits:
            if window.covers(elapsed) and self.in_service >= window.allow:
                return Reply(
                    "rate_limited",
                    script.rejection_seconds,
                    status=429,
                    retry_after=window.retry_after,
                )
        if script.capacity is not None and self.in_service >= script.capacity:
            return Reply(
                "rate_limited",
                script.rejection_seconds,
                status=script.capacity_status,
                retry_after=script.capacity_retry_after,
            )
        if script.requests_per_minute is not None and not self._take(elapsed):
            return Reply("rate_limited", script.rejection_seconds, status=429)
        return None

    def _take(self, elapsed: float) -> bool:
        """One request out of the bucket that fills at the rate of the script."""
        script = self._script
        assert script.requests_per_minute is not None
        filled = self._bucket + (elapsed - self._bucket_at) * script.requests_per_minute / 60.0
        self._bucket, self._bucket_at = min(float(script.burst), filled), elapsed
        if self._bucket < 1.0:
            return False
        self._bucket -= 1.0
        return True

    def _fraction(self, purpose: str, request: bytes, attempt: str) -> float:
        """A number strictly between 0 and 1 that depends on seed, purpose, request and attempt."""
        hashed = digest(str(self._script.seed), purpose, request.hex(), attempt)
        return (int.from_bytes(hashed[:6], "big") + 0.5) / 2**48
