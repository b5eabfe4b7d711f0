"""Budgets of requests and tokens per minute: those that a workflow sets, and those that a provider
tells of."""

from __future__ import annotations

from typing import Protocol

NEWS_SECONDS = 1.0
"""Least time between two reports of one budget whose size has not changed."""
SHORT_SHARE = 0.1
"""A budget is short when less than this share of it remains."""


class ObservedBudget(Protocol):
    """What a provider says of one of its budgets."""

    @property
    def dimension(self) -> str: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def remaining(self) -> int | None: ...
    @property
    def reset_seconds(self) -> float | None: ...


class BudgetNews:
    """Which observations of a resource's budgets are worth an event: a size that has changed, and
    a budget that has become short."""

    def __init__(self) -> None:
        self._sizes: dict[str, int | None] = {}
        self._reported: dict[str, float] = {}
        self._short: dict[str, bool] = {}

    def is_news(self, budget: ObservedBudget, now: float) -> bool:
        name = budget.dimension
        left, size = budget.remaining, budget.limit
        short = left is not None and (left == 0 or (size is not None and left < SHORT_SHARE * size))
        changed = name not in self._sizes or self._sizes[name] != size
        became_short = short and not self._short.get(name, False)
        self._short[name] = short
        if not changed and not (
            became_short and now - self._reported.get(name, -NEWS_SECONDS) >= NEWS_SECONDS
        ):
            return False
        self._sizes[name] = size
        self._reported[name] = now
        return True
