"""Ceilings: the limit of each request resource over time, and why it moved."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.formatting import cooldown_left, count, doubt_of, duration, wait_words, words
from console.screens.base import growing_span, in_window, period_of, set_height
from console.screens.table_screen import MOVES, TableScreen
from console.theme import Appearance
from console.widgets.ceilings import CeilingPanel, short_names
from console.widgets.select_table import Cell, SelectTable, TableColumn, TableRow
from replay.playback.frame import CeilingRow, Frame, Want

_COLUMNS = (
    TableColumn("resource", 0),
    TableColumn("limit", 7),
    TableColumn("max", 6, least=90),
    TableColumn("in flight", 11),
    TableColumn("waiting", 9),
    TableColumn("429s", 8, least=64),
    TableColumn("failed", 9, least=90),
    TableColumn("completed", 11, least=100),
    TableColumn("state", 16, "<", 56),
)
_SPANS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 43200.0, 86400.0)
_CHANGES = ("request_limit_decreased", "request_limit_increased")
_HEAD = 2
_LEAST_CHART = 7
_ROOM_FOR_DOMAINS = 100
"""Columns of a terminal from which resources are named in full."""


class CeilingsScreen(TableScreen):
    """The ceilings as a table, with the course of the selected one as a chart."""

    page_name = "Ceilings"
    detail_lines: ClassVar[int] = 4
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "open", "The event that last moved it", "last change"),
        *MOVES,
        Control("n", "n", "match(1)", "On to the next change of this ceiling", "next change"),
        Control("N", "N", "match(-1)", "Back to the change before"),
        Control("plus,equals_sign", "+", "span(-1)", "Look at a shorter past"),
        Control("minus", "-", "span(1)", "Look at a longer past"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    CeilingsScreen SelectTable { height: 6; }
    CeilingsScreen CeilingPanel { height: 1fr; }
    """

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        empty = "No model has been called yet."
        super().__init__(
            appearance, run_title, SelectTable(appearance, "Request ceilings", _COLUMNS, empty)
        )
        self._chart = CeilingPanel(appearance, calls=True)
        self._span = 300.0

    def compose_page(self) -> ComposeResult:
        yield self.table
        yield self._chart
        yield self.facts

    def want(self) -> Want:
        span = self._span if self.frame is None else growing_span(self.frame, self._span)
        return in_window(
            Want(samples=self.size.width - 7, span=span, calls=True), self.console.window
        )

    def show_page(self, frame: Frame) -> None:
        room = self.query_one("#page").size.height - 2
        table = min(_HEAD + max(1, len(frame.ceilings)), max(_HEAD + 1, room // 2))
        chart = room - table
        facts = self.detail_lines if chart - self.detail_lines >= _LEAST_CHART else 0
        set_height(self.facts, facts)
        set_height(self.table, room if chart < _LEAST_CHART else table)
        self._chart.display = chart >= _LEAST_CHART
        self.show_rows(frame)
        self.show_facts(frame, self.table.key_at_cursor())

    def show_rows(self, frame: Frame) -> None:
        ceilings = [row.ceiling for row in frame.ceilings]
        names = [ceiling.resource for ceiling in ceilings]
        if self.size.width < _ROOM_FOR_DOMAINS:
            names = short_names(names)
        rows = [_row(row, name, frame) for row, name in zip(frame.ceilings, names, strict=True)]
        most = max(ceilings, key=lambda ceiling: ceiling.waiters, default=None)
        self.table.show(rows, count(len(rows)), None if most is None else most.resource)

    def show_facts(self, frame: Frame, key: str | None) -> None:
        row = next((row for row in frame.ceilings if row.ceiling.resource == key), None)
        chosen = (row,) if row is not None else ()
        self._chart.show(replace(frame, ceilings=chosen), period_of(frame, self.want().span))
        if row is None:
            self.facts.show("", "", ())
            return
        facts = [("last change", _change(row, frame))]
        model = row.ceiling.provider_model
        aggregate = next((cap for cap in frame.aggregates if cap.provider_model == model), None)
        if aggregate is not None and aggregate.static_cap is not None:
            aliases = f", as {', '.join(aggregate.aliases)}" if aggregate.aliases else ""
            use = f"{aggregate.in_flight} of {aggregate.static_cap} in flight{aliases}"
            facts.append((f"all of {model}", use))
        hits = row.ceiling.consecutive_rate_limits
        if hits:
            facts.append(("429s in a row", count(hits)))
        self.facts.show(row.ceiling.resource, "", facts)

    def action_match(self, by: int) -> None:
        """Move the cursor to the next change of the ceiling under the table's cursor."""
        key = self.table.key_at_cursor()
        if key is not None:
            literal = "'" + key.replace("'", "''") + "'"
            self.console.seek_match(f"kind IN {_CHANGES} AND resource = {literal}", by)

    def action_span(self, by: int) -> None:
        index = _SPANS.index(self._span) + by
        self._span = _SPANS[max(0, min(index, len(_SPANS) - 1))]
        self.console.leave_window()
        self.console.request_frame()

    def action_open(self) -> None:
        key, frame = self.table.key_at_cursor(), self.frame
        rows = frame.ceilings if frame is not None else ()
        row = next((row for row in rows if row.ceiling.resource == key), None)
        if row is not None and row.ceiling.last_change is not None:
            self.console.seek_ordinal(row.ceiling.last_change.ordinal)
            self.console.action_go("events")


def _change(row: CeilingRow, frame: Frame) -> str:
    change = row.ceiling.last_change
    if change is None:
        return "none: it stands where it began"
    after = f", retry after {duration(change.retry_after)}" if change.retry_after else ""
    return (
        f"{change.previous} → {change.current}, {words(change.cause)}{after}, "
        f"{duration(max(0.0, frame.at - change.at))} ago, event #{change.ordinal}"
    )


def _row(row: CeilingRow, name: str, frame: Frame) -> TableRow:
    ceiling, doubt = row.ceiling, doubt_of(frame)
    left = cooldown_left(ceiling, frame.at)
    state, style = "open", "dim"
    if frame.unknown:
        state = "unknown"
    elif left > 0:
        state, style = f"cooldown {duration(left)}", "bold vermillion"
    elif ceiling.waiters and ceiling.wait_reason not in (None, "none"):
        state, style = wait_words(str(ceiling.wait_reason)), "orange"
    cut = "bold orange" if ceiling.limit < ceiling.effective_max else "text"
    return TableRow(
        ceiling.resource,
        (
            Cell(name, "bright", ceiling.resource),
            Cell(count(ceiling.limit), cut, ceiling.limit),
            Cell(count(ceiling.effective_max), "dim", ceiling.effective_max),
            Cell(f"{count(ceiling.in_flight)}{doubt}", "sky", ceiling.in_flight),
            Cell(
                f"{count(ceiling.waiters)}{doubt}",
                "purple" if ceiling.waiters else "faint",
                ceiling.waiters,
            ),
            Cell(
                count(ceiling.rate_limited),
                "vermillion" if ceiling.rate_limited else "faint",
                ceiling.rate_limited,
            ),
            Cell(
                count(ceiling.failed), "vermillion" if ceiling.failed else "faint", ceiling.failed
            ),
            Cell(count(ceiling.completed), "text", ceiling.completed),
            Cell(state, style, state),
        ),
    )
