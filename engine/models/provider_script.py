"""`ProviderScript`: the part of a workflow file that says what a scripted provider does."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

from pydantic import Field, model_validator

from engine.strict_model import StrictModel


class Latency(StrictModel):
    """Seconds until an answer: `spread` is the standard deviation (lognormal) or half the width
    (uniform); a constant latency has none."""

    distribution: Literal["lognormal", "uniform", "constant"] = "lognormal"
    """How latencies are distributed."""
    mean: float = Field(0.5, ge=0)
    """Their mean, in seconds."""
    spread: float = Field(0.15, ge=0)
    """How far they lie apart, in seconds."""

    @model_validator(mode="after")
    def _never_negative(self) -> Latency:
        if self.distribution == "uniform" and self.spread > self.mean:
            raise ValueError("a uniform latency needs a spread no larger than its mean")
        return self

    def seconds(self, fraction: float) -> float:
        """The value below which `fraction` (0 to 1, exclusive) of all latencies lie."""
        if self.distribution == "constant" or self.mean == 0 or self.spread == 0:
            return self.mean
        if self.distribution == "uniform":
            return self.mean + self.spread * (2 * fraction - 1)
        variance = math.log1p((self.spread / self.mean) ** 2)
        return math.exp(
            NormalDist(math.log(self.mean) - variance / 2, math.sqrt(variance)).inv_cdf(fraction)
        )


class Window(StrictModel):
    """A span of seconds, counted from the first request; without `to` it never ends."""

    start: float = Field(0.0, alias="from", ge=0)
    """Where it begins."""
    end: float | None = Field(None, alias="to")
    """Where it ends."""

    @model_validator(mode="after")
    def _has_length(self) -> Window:
        if self.end is not None and self.end <= self.start:
            raise ValueError("a window must end (to) after it begins (from)")
        return self

    def covers(self, elapsed: float) -> bool:
        return self.start <= elapsed and (self.end is None or elapsed < self.end)


class RateLimitWindow(Window):
    """While it lasts, `allow` requests are served at once; the others are answered with 429."""

    retry_after: float | None = Field(None, ge=0)
    """The `Retry-After` of the refusals, in seconds; None for none."""
    allow: int = Field(0, ge=0)
    """Requests that are served at once."""


class FailureWindow(Window):
    """While it lasts, `rate` of the requests fail."""

    rate: float = Field(1.0, gt=0, le=1)
    """Share of the requests that fail."""


class ErrorWindow(FailureWindow):
    """While it lasts, requests are answered with an error."""

    status: int = Field(500, ge=400, le=599)
    """Status of the answers."""


class CapacityCycle(StrictModel):
    """The capacity changes every so many seconds, to the next one of the list and round again."""

    seconds: float = Field(gt=0)
    """How long each capacity lasts."""
    capacities: tuple[int, ...] = Field(min_length=2)
    """Requests served at once, in turn."""

    def at(self, elapsed: float) -> int:
        """Calls that the provider takes at once, `elapsed` seconds after its start."""
        return self.capacities[int(elapsed // self.seconds) % len(self.capacities)]


class GrowthLimit(StrictModel):
    """Refuses fast growth: requests beyond a multiple of what was served of late."""

    start: int = Field(4, ge=1)
    """Requests that may always be served at once."""
    factor: float = Field(2.0, gt=1)
    """How many times the average of late may be served at once."""
    seconds: float = Field(10.0, gt=0)
    """Time constant of that average."""


class ProviderScript(StrictModel):
    """The behaviour of one scripted provider."""

    seed: int = 0
    """Seed of latencies and failures."""
    latency: Latency = Latency()
    """How long an answer takes."""
    capacity: int | None = Field(None, ge=1)
    """Requests served at once before others are answered with 429; None for no bound."""
    capacity_retry_after: float | None = Field(None, ge=0)
    """The `Retry-After` of those answers, in seconds; None for none."""
    capacity_status: Literal[429, 503, 529] = 429
    """With which status they are answered."""
    capacity_cycle: CapacityCycle | None = None
    """Takes the place of `capacity`."""
    queue: bool = False
    """Requests beyond the capacity are never refused: they wait in line for their turn."""
    growth: GrowthLimit | None = None
    """How fast the requests at once may grow; None for any growth."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Requests beyond this rate are answered with 429; None for no bound."""
    burst: int = Field(1, ge=1)
    """How many of them may come at once."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """Tokens of prompts and answers beyond this rate are answered with 429; None for no bound."""
    token_burst: int = Field(1000, ge=1)
    """How many tokens may be used at once."""
    tells_budgets: bool = False
    """Each reply tells the budgets, as `x-ratelimit-*` headers do."""
    rejection_seconds: float = Field(0.02, ge=0)
    """How long a 429 takes."""
    rate_limits: tuple[RateLimitWindow, ...] = ()
    """Times in which requests are refused."""
    error_rate: float = Field(0.0, ge=0, lt=1)
    """Share of the requests that are answered with status 500."""
    errors: tuple[ErrorWindow, ...] = ()
    """Times in which requests are answered with an error."""
    timeout_rate: float = Field(0.0, ge=0, lt=1)
    """Share of the requests that are never answered."""
    timeouts: tuple[FailureWindow, ...] = ()
    """Times in which requests are never answered."""
    completion_tokens: int | None = Field(None, ge=0)
    """Tokens of every answer; None counts the words of the answer."""
    completion_spread: float = Field(0.0, ge=0)
    """Standard deviation of `completion_tokens`, lognormal, as a share of it."""
    dimensions: int = Field(64, ge=1, le=4096)
    """Numbers in an embedding, unless the request says how many."""

    @model_validator(mode="after")
    def _queue_has_servers(self) -> ProviderScript:
        if self.queue and self.capacity is None:
            raise ValueError("a queue needs a capacity")
        return self
