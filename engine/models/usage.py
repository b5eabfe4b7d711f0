"""`Usage`: the tokens and the money of one call, as the provider tells them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 2**53
TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float
    cached_input: float | None = None
    """Of tokens of the prompt that the provider had in its cache; None for the price of others."""


@dataclass(frozen=True, slots=True)
class Usage:
    """None is what the provider does not tell."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """Of those of the prompt."""
    reasoning_tokens: int | None = None
    """Of those of the completion."""
    cost: float | None = None
    """In US dollars, as the provider itself says."""

    def cost_at(self, price: Price | None) -> float | None:
        """What the call cost: as the provider says, else by the price; None where neither tells."""
        if self.cost is not None:
            return self.cost
        if price is None or self.prompt_tokens is None or self.completion_tokens is None:
            return None
        cached = min(self.cached_tokens or 0, self.prompt_tokens)
        cached_price = price.input if price.cached_input is None else price.cached_input
        dollars = (
            (self.prompt_tokens - cached) * price.input
            + cached * cached_price
            + self.completion_tokens * price.output
        )
        return dollars / TOKENS_PER_PRICE


NO_USAGE = Usage()


def read_usage(usage: Any) -> Usage:
    """The `usage` of an answer in the OpenAI dialect, read as it comes."""
    facts = _mapping(usage)
    inputs = _mapping(facts.get("prompt_tokens_details"))
    outputs = _mapping(facts.get("completion_tokens_details"))
    return Usage(
        tokens(facts.get("prompt_tokens")),
        tokens(facts.get("completion_tokens")),
        tokens(inputs.get("cached_tokens")),
        tokens(outputs.get("reasoning_tokens")),
        _dollars(facts.get("cost")),
    )


def tokens(value: Any) -> int | None:
    """A count of tokens; None where it is none."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 17:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value) if abs(value) < MOST_TOKENS else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < MOST_TOKENS else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dollars(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e9 and math.isfinite(value) else None
