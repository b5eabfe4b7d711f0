"""Budgets of requests and tokens per minute that a workflow sets.

Those that a provider tells of are in `observed_budgets`; a rate that its refusals show is in
`learned_rate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

BURST_SECONDS = 2.0
"""How much of a budget may be used at once after a pause."""
NEWS_SECONDS = 1.0
"""Least time between two reports of one budget whose size has not changed."""
SHORT_SHARE = 0.1
"""A budget is short when less than this share of it remains."""


class ObservedBudget(Protocol):
    """What a provider says of one of its budgets."""

    @property
    def dimension(self) -> str:
        """What it counts: `requests` or `tokens`, with the period where there are several."""

    @property
    def limit(self) -> int | None:
        """Size of the budget; None where it is not known."""

    @property
    def remaining(self) -> int | None:
        """What is left of it; None where it is not known."""

    @property
    def reset_seconds(self) -> float | None:
        """Time until it is full again; None where it is not known."""


class Opening(NamedTuple):
    """When a budget lets a call begin."""

    at: float
    dimension: str
    """`requests`, `tokens`, `input_tokens` or `output_tokens`."""


def last_opening(openings: Iterable[Opening | None], now: float) -> Opening | None:
    """The last of them that is still to come; None for none."""
    return max(
        (opening for opening in openings if opening is not None and opening.at > now), default=None
    )


class BudgetNews:
    """Which observations of a resource's budgets are worth an event: a size that has changed, and
    a budget that has become short."""

    def __init__(self) -> None:
        self._sizes: dict[str, int | None] = {}
        self._reported: dict[str, float] = {}
        self._short: dict[str, bool] = {}

    def is_news(self, budget: ObservedBudget, now: float) -> bool:
        """Whether an event should report it: it has run short or has another size."""
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


class BudgetSizes(NamedTuple):
    """Budgets per minute that a workflow sets; None for no bound."""

    requests: float | None = None
    tokens: float | None = None
    """In and out."""
    input_tokens: float | None = None
    output_tokens: float | None = None


class TokenBucket:
    """A budget that fills evenly. A call may begin while it is above zero, and may overdraw it:
    what it costs is known only at its end."""

    def __init__(self, per_minute: float, now: float, least: float = 0.0) -> None:
        self._rate = per_minute / 60.0
        self._most = max(self._rate * BURST_SECONDS, 1.0)
        self._least = least
        self._level = self._most
        self._at = now

    def take(self, amount: float, now: float) -> None:
        """A negative amount is given back."""
        self._level = min(self._most, self._filled(now) - amount)
        self._at = now

    def opens_at(self, now: float) -> float:
        """When a call may begin: `now`, or later."""
        missing = self._least - self._filled(now)
        return (
            now
            if missing <= 1e-9 and (self._least or missing < 0)
            else now + max(missing / self._rate, 1e-6)
        )

    def _filled(self, now: float) -> float:
        return min(self._most, self._level + (now - self._at) * self._rate)


class RateBudgets:
    """The budgets of a resource, or of a whole provider.

    Tokens are reserved when a call begins, as many as its prompt has and as answers had so far, and
    corrected when it ends.
    """

    def __init__(self, sizes: BudgetSizes, now: float) -> None:
        def bucket(size: float | None, least: float = 0.0) -> TokenBucket | None:
            return None if size is None else TokenBucket(size, now, least)

        buckets = {
            "requests": bucket(sizes.requests, 1.0),
            "tokens": bucket(sizes.tokens),
            "input_tokens": bucket(sizes.input_tokens),
            "output_tokens": bucket(sizes.output_tokens),
        }
        self._buckets = {name: bucket for name, bucket in buckets.items() if bucket is not None}
        self._answer_tokens = 0.0
        """Moving average of the tokens of an answer."""

    def opens_at(self, now: float) -> float | None:
        """When a call may begin; None for now."""
        last = self.last_to_open(now)
        return None if last is None else last.at

    def last_to_open(self, now: float) -> Opening | None:
        """The budget that holds a call up for longest; None where none does."""
        return last_opening(
            (
                Opening(bucket.opens_at(now), dimension)
                for dimension, bucket in self._buckets.items()
            ),
            now,
        )

    def reserve(self, prompt_tokens: int, now: float) -> float:
        """A call begins; returns the tokens that are reserved for its answer."""
        expected = self._answer_tokens
        self._take(1.0, prompt_tokens, expected, now)
        return expected

    def settle(
        self, reserved: tuple[int, float], used: tuple[int | None, int | None], now: float
    ) -> None:
        """A call has ended.

        Args:
            reserved: Tokens of the prompt and of the answer that were reserved.
            used: Tokens that it used; None where that is not known.
            now: Monotonic seconds.
        """
        prompt, answer = used
        if answer is not None:
            weight = 0.2 if self._answer_tokens else 1.0
            self._answer_tokens += weight * (answer - self._answer_tokens)
        self._take(
            0.0,
            (reserved[0] if prompt is None else prompt) - reserved[0],
            (0.0 if answer is None else answer) - reserved[1],
            now,
        )

    def _take(self, requests: float, prompt: float, answer: float, now: float) -> None:
        amounts = {
            "requests": requests,
            "tokens": prompt + answer,
            "input_tokens": prompt,
            "output_tokens": answer,
        }
        for dimension, bucket in self._buckets.items():
            if amounts[dimension]:
                bucket.take(amounts[dimension], now)
