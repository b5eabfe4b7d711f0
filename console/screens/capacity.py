"""Capacity: each value that the run uses, where it comes from, and the most that was observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from console.formatting import shown, words
from console.screens.table_screen import TableScreen
from console.theme import Appearance
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.playback.capacity import CapacityRow, capacity_rows
from replay.playback.frame import Frame, Want

_COLUMNS = (
    TableColumn("value of", 0, keeps_end=False),
    TableColumn("set to", 11, "<", 0, 0.2),
    TableColumn("most", 8, "<", 64),
    TableColumn("source", 17, "<", 72, 0.2),
)


class CapacityScreen(TableScreen):
    """The capacity plan as a table."""

    page_name = "Capacity"
    detail_lines = 5

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        empty = "This run does not tell its capacity plan."
        super().__init__(
            appearance, run_title, SelectTable(appearance, "Capacity plan", _COLUMNS, empty)
        )
        self._rows: dict[str, CapacityRow] = {}

    def want(self) -> Want:
        return replace(super().want(), capacity=True)

    def show_rows(self, frame: Frame) -> None:
        rows = [row for row in capacity_rows(frame.capacity) if row.part == "configured"]
        known = rows if any(row.value is not None for row in rows) else []
        self._rows = {f"{row.name}\n{row.key}": row for row in known}
        self.table.show(
            [_table_row(key, row) for key, row in self._rows.items()],
            f"{len(known)} values" if known else "",
        )

    def show_facts(self, frame: Frame, key: str | None) -> None:
        row = self._rows.get(key or "")
        if row is None:
            self.facts.show("", "", ())
            return
        facts = [("source", words(row.source))]
        if row.fallback_from:
            facts.append(("the rest from", words(row.fallback_from)))
        if row.missing_reason:
            facts.append(("not known", row.missing_reason))
        if row.observed is None and row.observed_missing_reason:
            facts.append(("max not known", row.observed_missing_reason))
        name = f"{row.name} of {row.key}" if row.key else row.name
        self.facts.show(name, "", facts)


def _table_row(key: str, row: CapacityRow) -> TableRow:
    label = f"{words(row.name)}: {row.key}" if row.key else words(row.name)
    return TableRow(
        key,
        (
            Cell(label, "bright", label),
            Cell(
                shown(row.value), "text" if row.value is not None else "dim", _sortable(row.value)
            ),
            Cell(
                "–" if row.observed is None else shown(row.observed),
                "orange" if row.used_up else "text",
                _sortable(row.observed),
            ),
            Cell(words(row.source), "dim", row.source),
        ),
    )


def _sortable(value: Any) -> float | str | None:
    return value if isinstance(value, int | float | str) else None
