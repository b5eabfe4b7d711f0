"""What is kept of a row group: its cells and drops, and the frames that they are written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from engine.rows.frames import frame
from engine.rows.values import UnkeepableValue, pack, unpack

CELL, BATCH, DROP = range(3)
"""What a frame holds: a cell, cells of one column, or a dropped row."""


class DroppedRow(NamedTuple):
    """Why a row is not in the dataset."""

    row: int
    column: str
    error_type: str
    failure: str
    """Class of the failure; "" for a fault of the column's own code."""
    attempts: int


class WrittenGroup(NamedTuple):
    """A row group as it was written last."""

    rows: int
    surviving: int
    unfinished: int
    columns: tuple[str, ...]
    completed: Mapping[str, int]
    dropped: tuple[DroppedRow, ...]


class Restored:
    """What was made of a row group."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, Any]] = {}
        self.dropped: dict[int, DroppedRow] = {}
        self.complete_rows: frozenset[int] = frozenset()
        """Rows that were written, of which not all values are known."""
        self.complete_columns: frozenset[str] = frozenset()
        """Columns that count as made in them."""

    def has(self, row: int, column: str) -> bool:
        """Whether the cell need not be made again."""
        return column in self.values.get(row, ()) or self.is_complete(row, column)

    def is_complete(self, row: int, column: str) -> bool:
        """Whether the cell was written, so that its value need not be known."""
        return column in self.complete_columns and row in self.complete_rows

    def is_dropped(self, row: int) -> bool:
        return row in self.dropped

    def put(self, row: int, column: str, value: Any) -> None:
        self.values.setdefault(row, {})[column] = value


def replay(payload: bytes, restored: Restored) -> None:
    """Take in one frame. Raises `TypeError` or `ValueError` for what is none of these."""
    kind, *parts = unpack(payload)
    if kind == CELL:
        row, column, value = parts
        restored.put(row, column, value)
    elif kind == BATCH:
        rows, column, values = parts
        for row, value in zip(rows, values, strict=True):
            restored.put(row, column, value)
    elif kind == DROP:
        dropped = DroppedRow(*parts)
        restored.dropped.setdefault(dropped.row, dropped)


def frames_of(restored: Restored) -> Iterator[bytes]:
    """The frames that restore the same; values whose type can't be kept are left out."""
    for row, values in restored.values.items():
        for column, value in values.items():
            with suppress(UnkeepableValue):
                yield frame(pack([CELL, row, column, value]))
    for dropped in restored.dropped.values():
        yield frame(pack([DROP, *dropped]))
