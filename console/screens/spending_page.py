"""Tokens: what the calls of each column and model took, and how much of it came to nothing."""

from __future__ import annotations

from console.formatting import count, percent
from console.screens.drill import DrillScreen
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.playback.focus import Focused
from replay.playback.frame import Frame
from replay.state.spending import SpendingRow, dollars


class SpendingScreen(DrillScreen):
    """Calls, tokens and cost as a table, by column and model."""

    page_name = "Tokens"

    def make_tables(self) -> tuple[SelectTable, ...]:
        columns = (
            TableColumn("column", 0),
            TableColumn("model", 24, "<", 72),
            TableColumn("calls", 9, least=60),
            TableColumn("tokens", 12),
            TableColumn("for nothing", 12),
            TableColumn("part", 6, least=50),
            TableColumn("cost", 9, least=100),
        )
        empty = "No call of this run was answered yet."
        return (SelectTable(self.appearance, "Tokens", columns, empty),)

    def show_focused(self, frame: Frame, focused: Focused) -> None:
        rows = focused.spending
        total, wasted = sum(map(_tokens, rows)), sum(row.wasted_tokens for row in rows)
        note = ""
        if total:
            note = f"{count(total)} used, {count(wasted)} ({percent(wasted / total)}) for nothing"
        self.table.show([_table_row(row) for row in rows], note)
        self._show_facts(focused)

    def action_move(self, by: int) -> None:
        super().action_move(by)
        if self.known is not None:
            self._show_facts(self.known)

    def open_row(self, key: str) -> None:
        """The answers that these tokens are of."""
        focused = self.known
        row = next((row for row in focused.spending if _key(row) == key), None) if focused else None
        if row is not None and row.column is not None:
            where = f'kind:model_request_completed column:"{row.column}"'
            self.console.go_filtered("events", where)

    def _show_facts(self, focused: Focused) -> None:
        key = self.table.key_at_cursor()
        row = next((row for row in focused.spending if _key(row) == key), None)
        if row is None:
            self.facts.show("", "", ())
            return
        facts = [
            ("in and out", f"{count(row.prompt_tokens)} in, {count(row.completion_tokens)} out"),
            ("for nothing", "retries, answers that were rejected, and rows that were dropped"),
        ]
        if row.cost is not None:
            lost = f", {dollars(row.wasted_cost)} of it for nothing" if row.wasted_cost else ""
            facts.append(("cost", f"{dollars(row.cost)}{lost}"))
        if row.unpriced_calls:
            facts.append(("not known", f"the cost of {count(row.unpriced_calls)} calls"))
        self.facts.show(_column(row), row.model, facts)


def _column(row: SpendingRow) -> str:
    return row.column or "health checks"


def _key(row: SpendingRow) -> str:
    return f"{_column(row)}\n{row.model}"


def _tokens(row: SpendingRow) -> int:
    return row.prompt_tokens + row.completion_tokens


def _table_row(row: SpendingRow) -> TableRow:
    tokens, wasted = _tokens(row), row.wasted_tokens
    part = wasted / tokens if tokens else 0.0
    return TableRow(
        _key(row),
        (
            Cell(_column(row), "bright", _column(row)),
            Cell(row.model, "text", row.model),
            Cell(count(row.calls), "dim", row.calls),
            Cell(count(tokens), "text", tokens),
            Cell(count(wasted), "orange" if wasted else "faint", wasted),
            Cell(percent(part), "text", part),
            Cell("–" if row.cost is None else dollars(row.cost), "dim", row.cost),
        ),
    )
