"""`ScriptPlayer`: simulates a provider from its script: latencies, refusals, errors, time-outs.

It uses no random source: each number is a hash of the seed and the request, so that an answer
depends on its prompt alone and a latency on seed and request, in whatever order requests arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from engine.models.provider_script import Latency, ProviderScript
from engine.models.rate_budget import RateBudget
from engine.models.script_limits import Bucket, Growth, Line
from engine.models.scripted_answers import digest, scripted_json, scripted_text, scripted_vector

HANG_SECONDS = 600.0
"""How long a request that is never answered stays open if the caller set no time-out."""
MAX_COUNTED_TEXTS = 1 << 16
"""Requests of which it is known how often they came."""


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
    budgets: tuple[RateBudget, ...] = ()


class ScriptPlayer:
    """Simulates one provider: call `arrive` for each request, and `leave` when it has ended."""

    def __init__(self, script: ProviderScript) -> None:
        self._script = script
        self._began_at: float | None = None
        self._requests = self._tokens = None
        if script.requests_per_minute is not None:
            self._requests = Bucket(script.requests_per_minute, float(script.burst))
        if script.tokens_per_minute is not None:
            self._tokens = Bucket(script.tokens_per_minute, float(script.token_burst))
        self._growth = None if script.growth is None else Growth(script.growth)
        self._line = Line(script.capacity) if script.queue and script.capacity else None
        self._may_fail = bool(
            script.error_rate or script.timeout_rate or script.errors or script.timeouts
        )
        self._times_sent: dict[bytes, int] = {}
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
        request = digest(model, system or "", prompt)
        text = scripted_text(prompt) if schema is None else scripted_json(schema, prompt)
        prompt_tokens = len(prompt.split()) + len((system or "").split())
        completion_tokens = 0 if embeds else self._answer_tokens(text, request)
        refusal = self._refusal(elapsed, prompt_tokens + completion_tokens)
        if refusal is not None:
            return refusal
        if self._growth is not None:
            self._growth.note(elapsed, self.in_service)
        self.in_service += 1
        attempt = str(self._count(request))
        seconds = script.latency.seconds(self._fraction("latency", request, attempt))
        if self._line is not None:
            seconds += self._line.wait(elapsed, seconds)
        timeout_rate = max(
            (w.rate for w in script.timeouts if w.covers(elapsed)), default=script.timeout_rate
        )
        if self._fraction("timeout", request, attempt) < timeout_rate:
            return Reply("hang", HANG_SECONDS)
        window = max(
            (w for w in script.errors if w.covers(elapsed)), key=lambda w: w.rate, default=None
        )
        error_rate = script.error_rate if window is None else max(window.rate, script.error_rate)
        if self._fraction("error", request, attempt) < error_rate:
            return Reply("error", seconds, status=500 if window is None else window.status)
        if embeds:
            vector = scripted_vector(prompt, dimensions or script.dimensions)
            return Reply(
                "answer",
                seconds,
                prompt_tokens=prompt_tokens,
                vector=vector,
                budgets=self._budgets(),
            )
        return Reply(
            "answer",
            seconds,
            text=text,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            budgets=self._budgets(),
        )

    def leave(self, reply: Reply, now: float | None = None) -> None:
        """`now`: where growth is limited, which goes by how long requests were in service."""
        if reply.outcome == "rate_limited":
            return
        if self._growth is not None and now is not None and self._began_at is not None:
            self._growth.note(now - self._began_at, self.in_service)
        self.in_service -= 1

    def _count(self, request: bytes) -> int:
        """How often this request came before, so that a retry, and each of many rows that send the
        same text, draws its own fate. Of those that were not sent for long it is forgotten."""
        if not self._may_fail:
            return 0
        before = self._times_sent.pop(request, 0)
        self._times_sent[request] = before + 1
        if len(self._times_sent) > MAX_COUNTED_TEXTS:
            del self._times_sent[next(iter(self._times_sent))]
        return before

    def _answer_tokens(self, text: str, request: bytes) -> int:
        script = self._script
        if script.completion_tokens is None:
            return len(text.split())
        if not script.completion_spread or not script.completion_tokens:
            return script.completion_tokens
        mean = float(script.completion_tokens)
        sizes = Latency(distribution="lognormal", mean=mean, spread=mean * script.completion_spread)
        return max(1, round(sizes.seconds(self._fraction("tokens", request, ""))))

    def _budgets(self) -> tuple[RateBudget, ...]:
        if not self._script.tells_budgets:
            return ()
        budgets = []
        if self._requests is not None:
            budgets.append(self._requests.budget("requests"))
        if self._tokens is not None:
            budgets.append(self._tokens.budget("tokens"))
        return tuple(budgets)

    def _refusal(self, elapsed: float, tokens: int) -> Reply | None:
        script = self._script
        for window in script.rate_limits:
            if window.covers(elapsed) and self.in_service >= window.allow:
                return Reply(
                    "rate_limited",
                    script.rejection_seconds,
                    status=429,
                    retry_after=window.retry_after,
                )
        capacity = script.capacity
        if script.capacity_cycle is not None:
            capacity = script.capacity_cycle.at(elapsed)
        if capacity is not None and not script.queue and self.in_service >= capacity:
            return Reply(
                "rate_limited",
                script.rejection_seconds,
                status=script.capacity_status,
                retry_after=script.capacity_retry_after,
            )
        if self._growth is not None and not self._growth.allows(elapsed, self.in_service):
            return Reply("rate_limited", script.rejection_seconds, status=429)
        return self._over_budget(elapsed, tokens)

    def _over_budget(self, elapsed: float, tokens: int) -> Reply | None:
        """A refusal where a budget is used up; else the request is charged to all of them."""
        costs = [
            (bucket, cost)
            for bucket, cost in ((self._requests, 1), (self._tokens, tokens))
            if bucket is not None
        ]
        for bucket, _ in costs:
            bucket.fill(elapsed)
        if any(bucket.level < min(cost, bucket.most) for bucket, cost in costs):
            return Reply(
                "rate_limited", self._script.rejection_seconds, status=429, budgets=self._budgets()
            )
        for bucket, cost in costs:
            bucket.level -= cost
        return None

    def _fraction(self, purpose: str, request: bytes, attempt: str) -> float:
        """A number strictly between 0 and 1 that depends on seed, purpose, request and attempt."""
        hashed = digest(str(self._script.seed), purpose, request.hex(), attempt)
        return (int.from_bytes(hashed[:6], "big") + 0.5) / 2**48
