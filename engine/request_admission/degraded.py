"""`FailureShare`: whether a resource that answers fails more often than a rare error would."""

from __future__ import annotations

from collections import deque

from engine.events.failures import FailureClass, scope_of

RECENT_CALLS = 50
MIN_FAILURES = 10
"""Failures among the last `RECENT_CALLS` that make a resource degraded, also while it has answered
fewer calls."""
MAX_FAILURES_MENDED = 2
"""Failures among them from which on it counts as mended, so that one bad spell is told of once."""


class FailureShare:
    """The ends of the last calls of a resource; refusals for the load are none of them."""

    def __init__(self) -> None:
        self._ends: deque[bool] = deque(maxlen=RECENT_CALLS)
        self._failures = 0
        self._degraded = False

    def note(self, failed: bool) -> tuple[int, int] | None:
        """A call has ended. Returns failures and calls where the resource has become degraded."""
        if len(self._ends) == RECENT_CALLS:
            self._failures -= self._ends[0]
        self._ends.append(failed)
        self._failures += failed
        if self._degraded:
            self._degraded = self._failures > MAX_FAILURES_MENDED
            return None
        if self._failures < MIN_FAILURES:
            return None
        self._degraded = True
        return self._failures, len(self._ends)


def is_unforeseen(failure: FailureClass) -> bool:
    """Whether a failure is the resource's own, and no refusal for the load."""
    return scope_of(failure) == "resource" and failure not in ("rate_limit", "overload")
