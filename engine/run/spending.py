"""`Spending`: how many tokens and how much money has a run used, and is that enough?"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.models.usage import Usage


class Spent(msgspec.Struct, frozen=True):
    """Totals of a run, over all its parts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """Of the calls whose cost is known."""
    unpriced_calls: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Spending:
    """Adds up calls, and calls `on_exceeded` with one sentence, once, where a limit is reached.

    Args:
        spent: What earlier parts of the run have used.
        max_tokens: Most tokens, in and out; None for no limit.
        max_cost: Most US dollars; None for no limit. A call whose cost is not known reaches it.
    """

    def __init__(
        self, spent: Spent, max_tokens: int | None = None, max_cost: float | None = None
    ) -> None:
        self.on_exceeded: Callable[[str], object] = lambda reason: None
        self.on_change: Callable[[Spent], object] = lambda spent: None
        self._spent = spent
        self._max_tokens = max_tokens
        self._max_cost = max_cost
        self._exceeded = False

    def add(self, usage: Usage, cost: float | None) -> None:
        """A call was answered."""
        before = self._spent
        self._spent = Spent(
            before.prompt_tokens + (usage.prompt_tokens or 0),
            before.completion_tokens + (usage.completion_tokens or 0),
            before.cost + (cost or 0.0),
            before.unpriced_calls + (cost is None),
        )
        self.on_change(self._spent)
        self.check()

    def check(self) -> None:
        """Whether a limit is reached already."""
        reason = self._reason()
        if reason and not self._exceeded:
            self._exceeded = True
            self.on_exceeded(reason)

    def _reason(self) -> str:
        spent = self._spent
        if self._max_tokens is not None and spent.tokens >= self._max_tokens:
            return (
                f"the run has used {spent.tokens:,} tokens, and max_tokens allows "
                f"{self._max_tokens:,}; resume it with a higher --max-tokens to go on"
            )
        if self._max_cost is None:
            return ""
        if spent.cost >= self._max_cost:
            return (
                f"the run has cost ${spent.cost:,.4f}, and max_cost allows "
                f"${self._max_cost:,.4f}; resume it with a higher --max-cost to go on"
            )
        if spent.unpriced_calls:
            return (
                "what a call cost is not known, so max_cost can't be kept: give the model a price "
                "(models.NAME.price), or leave the limit away"
            )
        return ""


def read_spent(data: bytes) -> Spent:
    """What was kept; nothing where that can't be read."""
    try:
        return msgspec.msgpack.decode(data, type=Spent)
    except msgspec.MsgspecError:
        return Spent()
