"""`RowStore`: the values of the rows that are being made, until their row group is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class RowStore:
    """Rows by their number over the whole run; a row exists once something is put into it."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}

    def values(self, row: int) -> Mapping[str, Any]:
        """The row so far. A live view: a column that is still being made is missing."""
        return self._rows.setdefault(row, {})

    def put(self, row: int, column: str, value: Any) -> None:
        self._rows.setdefault(row, {})[column] = value

    def pop(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Hand over these rows, in order, and forget them."""
        return [self._rows.pop(row, {}) for row in rows]
