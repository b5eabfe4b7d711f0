"""`TableScreen`: a page of a table, and what there is to say of the row under its cursor."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.screens.base import set_height
from console.screens.filters import FILTER, Filtered
from console.sheet import Sheet
from console.theme import Appearance
from console.widgets.select_table import FactList, SelectTable
from replay.playback.frame import Frame, Want

SAMPLES = 20
"""For the rates in the header."""
_LEAST_TABLE = 5

MOVES = (
    Control("down,j", "↓", "move(1)", "The next row", "select"),
    Control("up,k", "↑", "move(-1)", "The row before"),
    Control("pagedown", "PgDn", "move_page(1)", "A screen further"),
    Control("pageup", "PgUp", "move_page(-1)", "A screen back"),
    Control("s", "s", "sort", "Sort by the next column", "sort"),
)


class TableScreen(Filtered):
    """A page that is one table; subclasses give rows and facts to `show_rows` and `show_facts`."""

    controls: ClassVar[tuple[Control, ...]] = MOVES
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(MOVES)]
    DEFAULT_CSS = """
    TableScreen SelectTable { height: 1fr; margin: 1 0 0 0; }
    TableScreen Facts { height: 7; margin: 1 0 0 0; }
    """
    detail_lines: ClassVar[int] = 7

    def __init__(self, appearance: Appearance, run_title: str, table: SelectTable) -> None:
        super().__init__(appearance, run_title)
        self.table = table
        self.facts = FactList(appearance)

    def compose_page(self) -> ComposeResult:
        yield self.table
        yield self.facts

    def want(self) -> Want:
        return Want(samples=SAMPLES)

    def show_page(self, frame: Frame) -> None:
        room = self.query_one("#page").size.height - 2
        fits = room - self.detail_lines >= _LEAST_TABLE
        set_height(self.facts, self.detail_lines if fits else 0)
        self.show_rows(frame)
        self.show_facts(frame, self.table.key_at_cursor())

    def show_rows(self, frame: Frame) -> None:
        """Pass the table its rows."""
        raise NotImplementedError

    def show_facts(self, frame: Frame, key: str | None) -> None:
        """Say what there is to say of the row `key`; None where there is no row."""
        raise NotImplementedError

    def action_move(self, by: int) -> None:
        self.table.move(by)
        if self.frame is not None:
            self.show_facts(self.frame, self.table.key_at_cursor())

    def action_move_page(self, by: int) -> None:
        self.action_move(by * self.table.page)

    def sheet(self, frame: Frame) -> Sheet:
        return self.table.sheet()

    def action_match(self, by: int) -> None:
        """The table holds what matches."""
        self.action_move(by)

    def action_clear(self) -> None:
        self.clear_filter()

    def action_sort(self) -> None:
        self.table.sort_next()

    def action_open(self) -> None:
        """Go into the row under the cursor, where there is anything to go into."""

    def on_select_table_picked(self, message: SelectTable.Picked) -> None:
        """The first click selects a row, a second one goes into it."""
        again = self.table.key_at_cursor() == message.key
        self.table.selected = message.key
        self.action_move(0)
        if again:
            self.action_open()


FILTERED = (*FILTER, Control("escape", "Esc", "clear", "Clear the filter"))
"""The controls of a table that can be filtered."""
