"""Bins of one second from the start of a run, and stretches of bins that are all alike.

What does not change costs one row for a stretch, whatever its length; the time that a run takes
costs nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from replay.state.rows import BlameRow, RollupRow

BinRow = TypeVar("BinRow", BlameRow, RollupRow)

FARTHEST_BIN = 2**40
"""All time beyond belongs to this one, so that no clock takes a bin out of 64 bits."""
LONGEST_STRETCH = 600
"""Bins after which what stands still is written nevertheless, once an event comes: so much is
missing at most from a recording that was cut off."""
_ALIKE = 1e-9
"""Relative difference of what is the same but for rounding."""


def bin_of(seconds: float) -> int:
    """The bin at so many seconds from the start of the run."""
    return math.floor(max(-FARTHEST_BIN, min(seconds, FARTHEST_BIN)))


def bin_end(start: float, number: int) -> float:
    """When a bin ends, in the time in which the run starts at `start`."""
    return math.inf if number >= FARTHEST_BIN else start + number + 1


def within(rows: Iterable[BinRow], first: int, last: int) -> Iterator[BinRow]:
    """What of these rows lies in the bins `first` to `last`, both included."""
    for row in rows:
        begin = max(row.bin, first)
        bins = min(row.bin + row.bins - 1, last) - begin + 1
        if bins == row.bins:
            yield row
        elif bins > 0:
            yield msgspec.structs.replace(row, bin=begin, bins=bins)


class BlameStretches(msgspec.Struct):
    """Blame of closed bins, put together while it stays the same from bin to bin."""

    open: dict[tuple[str, str, int | None, str, str], BlameRow] = {}
    """By scope, column, row group, resource and verdict: a stretch that may go on."""
    begun: int = 0
    """First bin of the oldest of them."""

    def add(self, number: int, rows: Iterable[BlameRow], bins: int = 1) -> list[BlameRow]:
        """Rows of bin `number`, which hold for `bins` from there on. Returns stretches that end."""
        before, self.open = self.open, {}
        ended: list[BlameRow] = []
        if not before or number - self.begun >= LONGEST_STRETCH:
            ended, before, self.begun = list(before.values()), {}, number
        for row in rows:
            key = (row.scope, row.column, row.row_group, row.resource, row.verdict)
            previous = before.pop(key, None)
            if previous is not None:
                if math.isclose(row.per_bin, previous.per_bin, rel_tol=_ALIKE, abs_tol=_ALIKE):
                    self.open[key] = _longer(previous, bins)
                    continue
                ended.append(previous)
            self.open[key] = row if bins == 1 else _longer(row, bins - 1)
        ended += before.values()
        return ended

    def extend(self, bins: int) -> None:
        """So many more bins like the last one."""
        self.open = {key: _longer(row, bins) for key, row in self.open.items()}

    def forget(self, end: int) -> None:
        """Keep only what lies in bin `end` and behind it."""
        self.open = {
            key: row
            for key, whole in self.open.items()
            for row in within([whole], end, FARTHEST_BIN)
        }
        self.begun = max(self.begun, end)

    def end(self) -> list[BlameRow]:
        """All of them: the next bin is another matter."""
        ended, self.open = list(self.open.values()), {}
        return ended


def _longer(row: BlameRow, bins: int) -> BlameRow:
    return msgspec.structs.replace(row, bins=row.bins + bins)
