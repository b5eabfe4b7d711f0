"""`DrillScreen`: a page about one thing, which is entered from a row of another page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.formatting import words
from console.screens.base import FrameScreen, set_height
from console.sheet import Sheet
from console.theme import Appearance
from console.widgets.crumbs import Crumbs
from console.widgets.select_table import Cell, FactList, SelectTable, TableColumn, TableRow
from replay.diagnosis.verdicts import clock
from replay.playback.focus import EventLine, Focus, Focused
from replay.playback.frame import Frame, Want

_SAMPLES = 20
_LEAST_TABLE = 5

DRILL = (
    Control("enter", "Enter", "open", "Go into the row under the cursor", "open"),
    Control("down,j", "↓", "move(1)", "The next row", "select"),
    Control("up,k", "↑", "move(-1)", "The row before"),
    Control("pagedown", "PgDn", "move_page(1)", "A screen further"),
    Control("pageup", "PgUp", "move_page(-1)", "A screen back"),
    Control("s", "s", "sort", "Sort by the next column", "sort"),
    Control("b", "b", "begin", "Move the cursor to where the row begins", "moment"),
    Control("escape,backspace", "Esc", "app.leave_page", "Back to where this was entered", "back"),
)
EVENT_COLUMNS = (
    TableColumn("event", 0),
    TableColumn("time", 10),
    TableColumn("ordinal", 9),
    TableColumn("what", 34, "<", 72),
)


class DrillScreen(FrameScreen):
    """A page about one thing, over the page that it was entered from."""

    controls: ClassVar[tuple[Control, ...]] = DRILL
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(DRILL)]
    DEFAULT_CSS = """
    DrillScreen SelectTable { height: 1fr; margin: 1 0 0 0; }
    DrillScreen Facts { height: 6; margin: 1 0 0 0; }
    """
    detail_lines: ClassVar[int] = 6

    def __init__(
        self, appearance: Appearance, run_title: str, focus: Focus, trail: Sequence[str]
    ) -> None:
        """`trail`: names of the pages from the outermost to this one."""
        super().__init__(appearance, run_title)
        self.focus_on = focus
        self.trail = tuple(trail)
        self._crumbs = Crumbs(appearance)
        self.facts = FactList(appearance)
        self.tables = self.make_tables()
        self.table = self.tables[0]

    def make_tables(self) -> tuple[SelectTable, ...]:
        raise NotImplementedError

    def compose_page(self) -> ComposeResult:
        yield self._crumbs
        yield from self.tables
        yield self.facts

    def want(self) -> Want:
        return Want(samples=_SAMPLES, focus=self.focus_on)

    @property
    def known(self) -> Focused | None:
        """What the frame knows of it; None until a frame has been read for this page."""
        focused = self.frame.focused if self.frame is not None else None
        return focused if focused is not None and focused.focus == self.focus_on else None

    def show_page(self, frame: Frame) -> None:
        self._crumbs.show(self.trail)
        room = self.query_one("#page").size.height - 4
        fits = room - self.detail_lines >= _LEAST_TABLE
        set_height(self.facts, self.detail_lines if fits else 0)
        both = len(self.tables) > 1 and room - self.detail_lines >= 4 * _LEAST_TABLE
        for table in self.tables:
            table.display = both or table is self.table
            table.active = table is self.table
        focused = self.known
        if focused is not None:
            self.show_focused(frame, focused)

    def show_focused(self, frame: Frame, focused: Focused) -> None:
        raise NotImplementedError

    def action_move(self, by: int) -> None:
        self.table.move(by)

    def action_move_page(self, by: int) -> None:
        self.action_move(by * self.table.page)

    def sheet(self, frame: Frame) -> Sheet:
        return self.table.sheet()

    def action_sort(self) -> None:
        self.table.sort_next()

    def action_other_table(self) -> None:
        self.table = self.tables[(self.tables.index(self.table) + 1) % len(self.tables)]
        if self.frame is not None:
            self.show_page(self.frame)

    def action_open(self) -> None:
        key = self.table.key_at_cursor()
        if key is not None:
            self.open_row(key)

    def open_row(self, key: str) -> None:
        """Go into a row; one of an event shows it in the stream."""
        if key.startswith("#"):
            self.console.seek_ordinal(int(key[1:]))
            self.console.action_go("events")

    def action_begin(self) -> None:
        key = self.table.key_at_cursor()
        moment = self.moment_of(key) if key is not None else None
        if moment is not None and self.frame is not None:
            self.console.seek_time(self.frame.t0 + moment)

    def moment_of(self, key: str) -> float | None:
        """When a row begins, in run time."""
        focused = self.known
        events = focused.events if focused is not None else ()
        return next((line.at for line in events if f"#{line.ordinal}" == key), None)

    def on_select_table_picked(self, message: SelectTable.Picked) -> None:
        table = next((shown for shown in self.tables if shown.has_key(message.key)), self.table)
        again = table is self.table and table.key_at_cursor() == message.key
        self.table = table
        table.selected = message.key
        if again:
            self.action_open()
        elif self.frame is not None:
            self.show_page(self.frame)
            table.redraw()


def event_row(line: EventLine) -> TableRow:
    """An event as a row of a page's table of events; its key is `#` and the ordinal."""
    event = line.event
    what = getattr(event, "reason_or_outcome", None) or getattr(event, "reason_or_result", None)
    return TableRow(
        f"#{line.ordinal}",
        (
            Cell(event.event_kind, "text", event.event_kind),
            Cell(clock(line.at), "dim", line.at),
            Cell(f"#{line.ordinal}", "dim", line.ordinal),
            Cell(words(str(what or "")), "dim", str(what or "~")),
        ),
    )
