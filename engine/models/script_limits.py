"""What a scripted provider bounds, besides calls at once: budgets, growth, and a line for those who
come when all places are taken. Times are seconds since the first request."""

from __future__ import annotations

import heapq
import math
from typing import Literal

from engine.models.provider_script import GrowthLimit
from engine.models.rate_budget import RateBudget


class Bucket:
    """A budget that fills evenly, up to `most`."""

    def __init__(self, per_minute: float, most: float) -> None:
        self.per_minute = per_minute
        self.most = self.level = most
        self._at = 0.0

    def fill(self, elapsed: float) -> None:
        """Lets it fill up to `elapsed`, seconds since the provider's start."""
        self.level = min(self.most, self.level + (elapsed - self._at) * self.per_minute / 60.0)
        self._at = elapsed

    def budget(self, dimension: Literal["requests", "tokens"]) -> RateBudget:
        missing = self.most - self.level
        return RateBudget(
            dimension, int(self.most), max(0, int(self.level)), missing * 60.0 / self.per_minute
        )


class Growth:
    """Allows no more requests than a multiple of what was in service of late."""

    def __init__(self, limit: GrowthLimit) -> None:
        self._limit = limit
        self._average = 0.0
        self._at = 0.0

    def allows(self, elapsed: float, in_service: int) -> bool:
        """Whether one more call may be in service, beside the `in_service` of now."""
        self.note(elapsed, in_service)
        return in_service < max(self._limit.start, self._limit.factor * self._average)

    def note(self, elapsed: float, in_service: int) -> None:
        """So many were in service since the time before."""
        kept = math.exp(-(elapsed - self._at) / self._limit.seconds)
        self._average = kept * self._average + (1.0 - kept) * in_service
        self._at = elapsed


class Line:
    """So many places, each request in the order of arrival."""

    def __init__(self, places: int) -> None:
        self._free_at = [0.0] * places

    def wait(self, elapsed: float, seconds: float) -> float:
        """How long a request waits for a place that it then has for so many seconds."""
        begins = max(elapsed, self._free_at[0])
        heapq.heapreplace(self._free_at, begins + seconds)
        return begins - elapsed
