"""`RowGroupAdmission`: may the next row group start?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowGroupSpec:
    """A slice of the records: global rows `first_row` to `first_row + rows - 1`."""

    index: int
    first_row: int
    rows: int

    def row_range(self) -> range:
        return range(self.first_row, self.first_row + self.rows)


def split_rows(records: int, buffer_size: int) -> tuple[RowGroupSpec, ...]:
    """Cut `records` rows into groups of `buffer_size`; the last one takes what is left."""
    return tuple(
        RowGroupSpec(index, first, min(buffer_size, records - first))
        for index, first in enumerate(range(0, records, buffer_size))
    )


class RowGroupAdmission:
    """At most `max_concurrent` row groups in flight, in order. Knows nothing of task leases."""

    def __init__(self, max_concurrent: int, groups: Sequence[RowGroupSpec]) -> None:
        if max_concurrent < 1:
            raise ValueError(f"at least 1 row group must be allowed, not {max_concurrent}")
        self.target = max_concurrent
        self.admitted = 0
        self.finished = 0
        self._groups = tuple(groups)
        self._in_flight: dict[int, RowGroupSpec] = {}

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Indices, in the order of admission."""
        return tuple(self._in_flight)

    @property
    def next(self) -> RowGroupSpec | None:
        """The row group that comes next; None where all are admitted."""
        return self._groups[self.admitted] if self.admitted < len(self._groups) else None

    def try_admit(self) -> RowGroupSpec | None:
        """The next row group, now in flight; None where none is left or the target is reached."""
        group = self.next
        if group is None or len(self._in_flight) >= self.target:
            return None
        self.admitted += 1
        self._in_flight[group.index] = group
        return group

    def finish(self, index: int) -> None:
        """A checkpointed row group gives its place back. Raises `KeyError` if not in flight."""
        del self._in_flight[index]
        self.finished += 1
