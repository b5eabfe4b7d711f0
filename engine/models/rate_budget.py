"""`RateBudget`: what a provider says of one of its budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dimension = Literal["requests", "tokens", "input_tokens", "output_tokens"]


@dataclass(frozen=True, slots=True)
class RateBudget:
    """None where it does not say."""

    dimension: Dimension
    limit: int | None
    remaining: int | None
    reset_seconds: float | None
