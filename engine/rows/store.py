"""`RowStore`: the values of unfinished rows, until their row group is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class RowStore:
    """Rows by their index over the whole run."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}

    def values(self, row: int) -> Mapping[str, Any]:
        """The values of a row so far, as a live view; a column without a value is missing."""
        return self._rows.setdefault(row, {})

    def put(self, row: int, column: str, value: Any) -> None:
        self._rows.setdefault(row, {})[column] = value

    def forget(self, rows: Sequence[int]) -> None:
        """These rows are written."""
        for row in rows:
            self._rows.pop(row, None)
