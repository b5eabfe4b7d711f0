"""Budgets of requests and tokens that a provider tells of with its answers.

What a provider says remains is trusted to slow down, never to speed up: the level of a budget is
the lower of the own account and what was told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from engine.request_admission.budgets import ObservedBudget, Opening, last_opening

SECONDS_PER_LIMIT = 60.0
"""In which time a budget is taken to fill up where the provider does not say: limits are told per
minute."""
MIN_USED_SHARE = 0.05
"""How much of a budget must be used up before the time of its reset tells how fast it fills."""
SIZE_GAIN = 0.05
SIZE_DEVIATIONS = 2.0
"""A call goes out if the budget holds its mean size and so many deviations: what it will really
use is known at its end, and the provider refuses what goes beyond."""
MAX_NEED_SHARE = 0.5
"""Of a budget that is small beside its calls no more than this is kept free."""


class Reservation(NamedTuple):
    """What a call took of each budget at its begin, and all that was taken before its end."""

    prompt_tokens: int
    answer_tokens: float
    taken: dict[str, float]


class _Size:
    """Moving mean and deviation of what calls use."""

    def __init__(self) -> None:
        self.mean = 0.0
        self._variance = 0.0

    def note(self, amount: float) -> None:
        if not self.mean:
            self.mean = amount
            return
        off = amount - self.mean
        self.mean += SIZE_GAIN * off
        self._variance += SIZE_GAIN * (off * off - self._variance)

    @property
    def deviation(self) -> float:
        return math.sqrt(self._variance)


class _Budget:
    """One budget; `rate` is per second."""

    def __init__(self, level: float, most: float, now: float) -> None:
        self.most = most
        self.rate = most / SECONDS_PER_LIMIT
        self.taken = 0.0
        self._rate_is_measured = False
        self._level = level
        self._at = now

    def level(self, now: float) -> float:
        return min(self.most, self._level + (now - self._at) * self.rate)

    def resize(self, most: float, rate: float | None) -> None:
        """Take another size, and the rate that an answer shows; None where it shows none."""
        if rate is not None:
            self.rate, self._rate_is_measured = rate, True
        elif not self._rate_is_measured:
            self.rate = most / SECONDS_PER_LIMIT
        self.most = most

    def take(self, amount: float, now: float) -> None:
        self._level = min(self.most, self.level(now) - amount)
        self._at = now

    def lower(self, level: float, now: float) -> None:
        self._level = min(self.level(now), level)
        self._at = now

    def opens_at(self, need: float, now: float) -> float:
        missing = min(need, max(1.0, MAX_NEED_SHARE * self.most)) - self.level(now)
        return now if missing <= 1e-9 else now + max(missing / self.rate, 1e-6)


class ObservedBudgets:
    """The budgets of one model, by dimension. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._budgets: dict[str, _Budget] = {}
        self._prompt, self._answer = _Size(), _Size()

    @property
    def known(self) -> bool:
        return bool(self._budgets)

    def opens_at(self, now: float) -> float | None:
        """When a call may begin; None for now."""
        last = self.last_to_open(now)
        return None if last is None else last.at

    def last_to_open(self, now: float) -> Opening | None:
        """The budget that holds a call up for longest; None where none does."""
        if not self._budgets:
            return None
        return last_opening(
            (
                Opening(budget.opens_at(self._need(name), now), name)
                for name, budget in self._budgets.items()
            ),
            now,
        )

    def short(self, now: float) -> bool:
        """Whether one of them is too low for a call."""
        return self.opens_at(now) is not None

    def reserve(self, prompt_tokens: int, now: float) -> Reservation:
        """A call begins."""
        expected = self._answer.mean
        if not self._budgets:
            return Reservation(prompt_tokens, expected, {})
        for name, budget in self._budgets.items():
            amount = _amount(name, prompt_tokens, expected)
            budget.take(amount, now)
            budget.taken += amount
        taken = {name: budget.taken for name, budget in self._budgets.items()}
        return Reservation(prompt_tokens, expected, taken)

    def settle(
        self, reserved: Reservation, used: tuple[int | None, int | None], now: float
    ) -> None:
        """A call has ended, which used so many tokens; None where that is not known."""
        prompt, answer = used
        if prompt is not None:
            self._prompt.note(float(prompt))
        if answer is not None:
            self._answer.note(float(answer))
        more_in = 0.0 if prompt is None else prompt - reserved.prompt_tokens
        more_out = (0.0 if answer is None else answer) - reserved.answer_tokens
        for name in reserved.taken:
            if name != "requests":
                self._budgets[name].take(_amount(name, more_in, more_out), now)

    def observe(
        self, observed: Sequence[ObservedBudget], reserved: Reservation, began: float, now: float
    ) -> None:
        """The provider told of its budgets with the answer to a call that began at `began`."""
        for budget in observed:
            if budget.limit is None or budget.remaining is None or budget.remaining > budget.limit:
                continue
            known = self._budgets.get(budget.dimension)
            begins = known is None
            if known is None:
                known = _Budget(float(budget.remaining), float(budget.limit), now)
                self._budgets[budget.dimension] = known
            known.resize(
                float(budget.limit), _rate(budget.limit, budget.remaining, budget.reset_seconds)
            )
            if begins:
                continue
            # Told is what was left when the call arrived there, as a rule: later ones took more.
            since = known.taken - reserved.taken.get(budget.dimension, known.taken)
            known.lower(budget.remaining - since + known.rate * (now - began), now)

    def _need(self, dimension: str) -> float:
        if dimension == "requests":
            return 1.0
        sizes = {
            "tokens": (self._prompt, self._answer),
            "input_tokens": (self._prompt,),
            "output_tokens": (self._answer,),
        }[dimension]
        return sum(size.mean + SIZE_DEVIATIONS * size.deviation for size in sizes)


def _rate(limit: int, remaining: int, reset_seconds: float | None) -> float | None:
    """How fast a budget fills, per second; None where an answer does not show it, as one of a
    budget that is full."""
    used = limit - remaining
    if reset_seconds is None or reset_seconds <= 0 or used < MIN_USED_SHARE * limit:
        return None
    return used / reset_seconds


def _amount(dimension: str, prompt: float, answer: float) -> float:
    return {
        "requests": 1.0,
        "tokens": prompt + answer,
        "input_tokens": prompt,
        "output_tokens": answer,
    }[dimension]
