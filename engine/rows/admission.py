"""`RowGroupAdmission`: may the next row group start?"""

from __future__ import annotations

from collections.abc import Sequence, Set
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
    """`records` rows divided into groups of `buffer_size`, of which the last may be smaller.

    The groups are computed on access, so that a plan costs the same for any number of records.
    """

    def __init__(self, records: int, buffer_size: int) -> None:
        self.records = records
        self.buffer_size = min(buffer_size, records)
        """Rows of the largest group."""
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
    """Admits row groups in order, at most `target` at a time. It knows nothing of task leases.

    The target is `max_concurrent`; if `adaptive`, it starts at 1 and only grows, up to that. The
    row groups in `done` were finished by an earlier part of the run, and are not admitted.
    """

    def __init__(
        self,
        max_concurrent: int,
        groups: Sequence[RowGroupSpec],
        adaptive: bool = False,
        done: Set[int] = frozenset(),
    ) -> None:
        if max_concurrent < 1:
            raise ValueError(f"at least 1 row group must be allowed, not {max_concurrent}")
        self.target = 1 if adaptive else max_concurrent
        self._most = max_concurrent
        self.admitted = self.finished = len(done)
        self._groups = groups
        self._done = done
        self._next_index = 0
        self._in_flight: dict[int, RowGroupSpec] = {}
        self._skip_done()

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Indices, in the order of admission."""
        return tuple(self._in_flight)

    @property
    def has_admitted(self) -> bool:
        return self.admitted > len(self._done)

    @property
    def next(self) -> RowGroupSpec | None:
        """The next row group; None if all are admitted."""
        return self._groups[self._next_index] if self._next_index < len(self._groups) else None

    def raise_target(self) -> bool:
        """Allow one more row group in flight; False if that would admit none."""
        if self.next is None or self.target >= self._most or len(self._in_flight) < self.target:
            return False
        self.target += 1
        return True

    def try_admit(self) -> RowGroupSpec | None:
        """Admit the next row group; None if none is left or the target is reached."""
        group = self.next
        if group is None or len(self._in_flight) >= self.target:
            return None
        self.admitted += 1
        self._next_index += 1
        self._skip_done()
        self._in_flight[group.index] = group
        return group

    def finish(self, index: int) -> None:
        """A row group was checkpointed. Raises `KeyError` if it is not in flight."""
        del self._in_flight[index]
        self.finished += 1

    def _skip_done(self) -> None:
        while self._next_index in self._done:
            self._next_index += 1
