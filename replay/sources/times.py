"""`PlausibleTimes`: which times can belong to events of one run?"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import msgspec

FARTHEST_SECONDS = 366 * 86_400.0
"""No run takes longer, and no clock of one jumps so far: a time beyond it is damage."""
_LOOKED_AT = 1_000


class _Peek(msgspec.Struct):
    captured_at_monotonic: float | None = None


class PlausibleTimes:
    """Learns from the first lines what time it is in a run, whichever of them are wrong.

    A run that is followed brings them a few at a time: until there are enough, each moves what is
    plausible, so that a wrong one that comes first does not stand against all others.
    """

    def __init__(self) -> None:
        self.earliest = float("-inf")
        self.latest = float("inf")
        self._times: list[float] = []
        """In ascending order."""

    def learn(self, lines: Sequence[bytes]) -> None:
        """The first lines that have a time tell; behind them, nothing changes."""
        for line in lines[: _LOOKED_AT - len(self._times)]:
            try:
                at = msgspec.json.decode(line, type=_Peek).captured_at_monotonic
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if at is not None:
                self._note(at)

    def learn_start(self, at: float) -> None:
        """From the header; worth two lines, so that no first line outvotes it."""
        self._note(at)
        self._note(at)

    def check(self, at: float) -> None:
        """Raises `msgspec.ValidationError` for what can't be a time of this run."""
        if not self.earliest <= at <= self.latest:
            raise msgspec.ValidationError(
                f"its time, {at:.6g} s, is more than a year away from that of the other events"
            )

    def _note(self, at: float) -> None:
        insort(self._times, at)
        middle = self._times[(len(self._times) - 1) // 2]
        self.earliest, self.latest = middle - FARTHEST_SECONDS, middle + FARTHEST_SECONDS
