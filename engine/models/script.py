"""`ScriptPlayer`: simulates a provider from its script: latencies, refusals, errors, time-outs.

It uses no random source: each number is a hash of the seed and the request, so that an answer
depends on its prompt alone and a latency on seed and request, in whatever order requests arrive.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from dataclasses import dataclass
from typing import Literal

from engine.models.rate_budget import RateBudget
from engine.workflow.provider_script import GrowthLimit, Latency, ProviderScript

HANG_SECONDS = 600.0
"""How long a request that is never answered stays open if the caller set no time-out."""

_ADJECTIVES = "quiet bright narrow early distant steady plain open curious patient".split()
_NOUNS = "river gate signal harbour ledger garden engine lantern valley question".split()
_VERBS = "carries follows answers measures crosses holds returns opens marks meets".split()


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
    budgets: tuple[RateBudget, ...] = ()


class _Bucket:
    """A budget that fills evenly, up to `most`. Times are seconds since the first request."""

    def __init__(self, per_minute: float, most: float) -> None:
        self.per_minute = per_minute
        self.most = self.level = most
        self._at = 0.0

    def fill(self, elapsed: float) -> None:
        self.level = min(self.most, self.level + (elapsed - self._at) * self.per_minute / 60.0)
        self._at = elapsed

    def budget(self, dimension: Literal["requests", "tokens"]) -> RateBudget:
        missing = self.most - self.level
        return RateBudget(
            dimension, int(self.most), max(0, int(self.level)), missing * 60.0 / self.per_minute
        )


class _Growth:
    """Refuses requests beyond a multiple of what was in service of late."""

    def __init__(self, limit: GrowthLimit) -> None:
        self._limit = limit
        self._average = 0.0
        self._at = 0.0

    def allows(self, elapsed: float, in_service: int) -> bool:
        self.note(elapsed, in_service)
        return in_service < max(self._limit.start, self._limit.factor * self._average)

    def note(self, elapsed: float, in_service: int) -> None:
        """So many were in service since the time before."""
        kept = math.exp(-(elapsed - self._at) / self._limit.seconds)
        self._average = kept * self._average + (1.0 - kept) * in_service
        self._at = elapsed


class ScriptPlayer:
    """Simulates one provider: call `arrive` for each request, and `leave` when it has ended."""

    def __init__(self, script: ProviderScript) -> None:
        self._script = script
        self._began_at: float | None = None
        self._requests = self._tokens = None
        if script.requests_per_minute is not None:
            self._requests = _Bucket(script.requests_per_minute, float(script.burst))
        if script.tokens_per_minute is not None:
            self._tokens = _Bucket(script.tokens_per_minute, float(script.token_burst))
        self._growth = None if script.growth is None else _Growth(script.growth)
        self._free_at = [0.0] * (script.capacity or 0) if script.queue else []
        """When each place of a provider with a queue is free."""
        self._elapsed = 0.0
        self._failures: dict[bytes, int] = {}
        self.in_service = 0

    def arrive(self, now: float, model: str, prompt: str, system: str | None = None) -> Reply:
        script = self._script
        if self._began_at is None:
            self._began_at = now
        elapsed = self._elapsed = now - self._began_at
        request = _digest(model, system or "", prompt)
        text = scripted_answer(prompt)
        prompt_tokens = len(prompt.split()) + len((system or "").split())
        completion_tokens = self._answer_tokens(text, request)
        refusal = self._refusal(elapsed, prompt_tokens + completion_tokens)
        if refusal is not None:
            return refusal
        self._take_service(elapsed)
        # A request that failed before draws anew, so that a retry may succeed.
        attempt = str(self._failures.get(request, 0))
        seconds = script.latency.seconds(self._fraction("latency", request, attempt))
        seconds += self._wait_in_line(elapsed, seconds)
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

    def _take_service(self, elapsed: float) -> None:
        if self._growth is not None:
            self._growth.note(elapsed, self.in_service)
        self.in_service += 1

    def _wait_in_line(self, elapsed: float, seconds: float) -> float:
        """How long a request waits for a place that it then has for so many seconds."""
        if not self._free_at:
            return 0.0
        begins = max(elapsed, self._free_at[0])
        heapq.heapreplace(self._free_at, begins + seconds)
        return begins - elapsed

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
        told = []
        if self._requests is not None:
            told.append(self._requests.budget("requests"))
        if self._tokens is not None:
            told.append(self._tokens.budget("tokens"))
        return tuple(told)

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
        digest = _digest(str(self._script.seed), purpose, request.hex(), attempt)
        return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def scripted_answer(prompt: str) -> str:
    """A short answer that depends on the prompt alone."""
    d = _digest(prompt)
    return (
        f"The {_ADJECTIVES[d[0] % 10]} {_NOUNS[d[1] % 10]} {_VERBS[d[2] % 10]} "
        f"the {_ADJECTIVES[d[3] % 10]} {_NOUNS[d[4] % 10]} ({d[5:8].hex()})."
    )


def _digest(*parts: str) -> bytes:
    """16 bytes; lone surrogates in a prompt are hashed like any other character."""
    joined = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=16).digest()
