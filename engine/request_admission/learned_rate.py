"""`LearnedRate`: the rate of requests that a provider's refusals show, where it tells of none.

A provider that counts requests refuses whenever its budget is empty, however few are in flight.
What it took between two refusals, over the time between them, is then the rate at which its budget
fills. A bound on calls at once shows in other ways: it refuses what has just been added.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MIN_ROUND_TRIPS = 4.0
MIN_REQUESTS = 8
"""Shortest span, and fewest requests in it, that a rate is measured over."""
SPANS_THAT_AGREE = 4
MIN_HELD = 1
"""How many of these ended with a refusal at a limit that had served a whole round."""
MAX_DISAGREEMENT = 1.15
"""Ratio of the highest rate to the lowest."""
MARGIN = 0.98
CUT = 0.96
FIRST_GROWTH = 0.02
MAX_GROWTH = 0.25
GROWTH_ROUND_TRIPS = 20.0
GROWTH_REQUESTS = 100
"""How long, and for how many requests, a rate holds before a higher one is tried."""


class _Span(NamedTuple):
    rate: float
    held: bool


class LearnedRate:
    """One budget of requests that fills evenly. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.rate: float | None = None
        """Requests a second; None while refusals show none."""
        self._spans: deque[_Span] = deque(maxlen=SPANS_THAT_AGREE)
        self._begun = 0
        """Calls that were not refused since the span began, or since the rate changed."""
        self._since: float | None = None
        """The refusal that began the present span."""
        self._changed_at = 0.0
        self._growth = FIRST_GROWTH
        self._held_back = False
        self._next_at = 0.0

    def opens_at(self, now: float) -> float | None:
        """When a call may begin; None for now."""
        if self.rate is None or now >= self._next_at - 1e-9:
            return None
        self._held_back = True
        return self._next_at

    def note_admitted(self, now: float) -> None:
        """A call went out; the next one may go out one interval later."""
        self._begun += 1
        if self.rate is not None:
            self._next_at = max(now, self._next_at) + 1.0 / self.rate

    def note_answered(self, now: float, round_trip: float) -> None:
        """Try a higher rate where this one holds."""
        if (
            self.rate is None
            or not self._held_back
            or self._begun < GROWTH_REQUESTS
            or now - self._changed_at < GROWTH_ROUND_TRIPS * round_trip
        ):
            return
        self._set(self.rate * (1.0 + self._growth), now)
        self._growth = min(2.0 * self._growth, MAX_GROWTH)

    def note_refused(self, now: float, round_trip: float | None, held: bool) -> None:
        """A call was refused for the load.

        Args:
            now: Monotonic seconds.
            round_trip: Seconds of a usual call; None if not known.
            held: The limit of calls at once had served a whole round before.
        """
        if self.rate is not None:
            self._lower(now, round_trip or 0.0)
            return
        self._begun -= 1
        begun, since = self._begun, self._since
        if since is None or round_trip is None:
            self._since, self._begun = now, 0
            return
        if begun < MIN_REQUESTS or now - since < MIN_ROUND_TRIPS * round_trip:
            return
        self._spans.append(_Span(begun / (now - since), held))
        self._since, self._begun = now, 0
        rates = [span.rate for span in self._spans]
        if (
            len(rates) == SPANS_THAT_AGREE
            and sum(span.held for span in self._spans) >= MIN_HELD
            and max(rates) <= MAX_DISAGREEMENT * min(rates)
        ):
            self._next_at = now
            self._set(MARGIN * sum(rates) / len(rates), now)

    def _lower(self, now: float, round_trip: float) -> None:
        assert self.rate is not None
        if now - self._changed_at < round_trip:
            return
        self._set(self.rate * CUT, now)
        self._growth = FIRST_GROWTH

    def _set(self, rate: float, now: float) -> None:
        self.rate = rate
        self._changed_at = now
        self._begun = 0
        self._held_back = False
