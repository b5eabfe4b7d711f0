"""`RowGroupAdmission`: may the next row group start?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True, slots=True)
class RowGroupSpec:
    """A slice of the records: global rows `first_row` to `first_row + rows - 1`."""

    index: int
    first_row: int
    rows: int

    def row_range(self) -> range:
        return range(self.first_row, self.first_row + self.rows)


class RowGroups(Sequence[RowGroupSpec]):
    """`records` rows cut into groups of `buffer_size`, the last of which takes what is left. Made
    when they are looked at: a run of any size costs nothing to plan."""

    def __init__(self, records: int, buffer_size: int) -> None:
        self.records = records
        self.buffer_size = min(buffer_size, records)
        """Rows in the largest."""
        self._step = buffer_size

    def __len__(self) -> int:
        return -(-self.records // self._step)

    @overload
    def __getitem__(self, index: int) -> RowGroupSpec: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RowGroupSpec]: ...
    def __getitem__(self, index: int | slice) -> RowGroupSpec | Sequence[RowGroupSpec]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        first = number * self._step
        return RowGroupSpec(number, first, min(self._step, self.records - first))


class RowGroupAdmission:
    """At most `target` row groups in flight, in order. Knows nothing of task leases.

    The target is `max_concurrent`, or where it is `adaptive`, begins at 1 and only ever grows, up
    to `max_concurrent`.
    """

    def __init__(
        self, max_concurrent: int, groups: Sequence[RowGroupSpec], adaptive: bool = False
    ) -> None:
        if max_concurrent < 1:
            raise ValueError(f"at least 1 row group must be allowed, not {max_concurrent}")
        self.target = 1 if adaptive else max_concurrent
        self._most = max_concurrent
        self.admitted = 0
        self.finished = 0
        self._groups = groups
        self._in_flight: dict[int, RowGroupSpec] = {}

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Indices, in the order of admission."""
        return tuple(self._in_flight)

    @property
    def next(self) -> RowGroupSpec | None:
        """The row group that comes next; None where all are admitted."""
        return self._groups[self.admitted] if self.admitted < len(self._groups) else None

    def raise_target(self) -> bool:
        """One more may be in flight; False where that would let in none."""
        if self.next is None or self.target >= self._most or len(self._in_flight) < self.target:
            return False
        self.target += 1
        return True

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
