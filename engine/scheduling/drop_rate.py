"""`DropRate`: stops a run of which a column drops too many tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

WINDOW_TASKS = 100
"""Ends of tasks of a column that are looked at."""
DROPS_IN_A_ROW = 25
"""With so many drops and no success between, the window need not be full."""


class DropRate:
    """Calls `on_exceeded` with one sentence, once, when more than `most_share` of the last tasks of
    a column have been dropped.

    Args:
        most_share: Share of `WINDOW_TASKS` that may be dropped; None for no bound.
        on_exceeded: Called with the reason.
    """

    def __init__(self, most_share: float | None, on_exceeded: Callable[[str], None]) -> None:
        self._most_share = most_share
        self._on_exceeded = on_exceeded
        self._exceeded = False
        self._dropped: dict[str, deque[bool]] = {}
        self._in_a_row: dict[str, int] = {}

    def note(self, column: str, error: str | None) -> None:
        """A task of `column` ended: with its value, or dropped with `error`."""
        if self._most_share is None or self._exceeded:
            return
        ends = self._dropped.get(column)
        if ends is None:
            ends = self._dropped[column] = deque(maxlen=WINDOW_TASKS)
        ends.append(error is not None)
        if error is None:
            self._in_a_row[column] = 0
            return
        in_a_row = self._in_a_row[column] = self._in_a_row.get(column, 0) + 1
        drops = sum(ends)
        full = len(ends) == WINDOW_TASKS and drops > self._most_share * WINDOW_TASKS
        if full or (in_a_row >= DROPS_IN_A_ROW and self._most_share < 1):
            self._exceeded = True
            self._on_exceeded(
                f'too many rows are dropped: {drops} of the last {len(ends)} of column "{column}", '
                f"most recent error: {error} (run.stop_at_drop_share sets how many may be)"
            )
