"""`PlausibleTimes`: which times can belong to events of one run?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

import msgspec

FARTHEST_SECONDS = 366 * 86_400.0
"""No run takes longer, and no clock of one jumps so far: a time beyond it is damage."""
_LOOKED_AT = 1_000


class _Peek(msgspec.Struct):
    captured_at_monotonic: float | None = None


class PlausibleTimes:
    """Learns from the first lines what time it is in a run, whichever of them are wrong."""

    def __init__(self) -> None:
        self.earliest = float("-inf")
        self.latest = float("inf")
        self._known = False

    def learn(self, lines: Sequence[bytes]) -> None:
        """The first lines that have a time tell; asked again, nothing changes."""
        if self._known:
            return
        times = []
        for line in lines[:_LOOKED_AT]:
            try:
                at = msgspec.json.decode(line, type=_Peek).captured_at_monotonic
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if at is not None:
                times.append(at)
        if times:
            middle = median_low(times)
            self.earliest, self.latest = middle - FARTHEST_SECONDS, middle + FARTHEST_SECONDS
            self._known = True

    def check(self, at: float) -> None:
        """Raises `msgspec.ValidationError` for what can't be a time of this run."""
        if not self.earliest <= at <= self.latest:
            raise msgspec.ValidationError(
                f"its time, {at:.6g} s, is more than a year away from that of the other events"
            )
