"""`Sheet`: the rows that a page shows, as data to be carried away."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows under named columns, to be carried away."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[dict[str, object]]) -> Sheet:
        """Rows that have the same names, in the order of the first."""
        columns = tuple(rows[0]) if rows else ()
        return cls(columns, tuple(tuple(map(_value, row.values())) for row in rows))

    def csv(self) -> str:
        """Text that a spreadsheet would run as a formula begins with an apostrophe."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([[_harmless(value) for value in row] for row in self.rows])
        return text.getvalue()

    def json(self) -> str:
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _value(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _harmless(value: Value) -> Value:
    formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if formula else value
