"""Events: the stream around the cursor, and each event in full."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.screens.event_detail import EventDetail
from console.screens.filters import FILTER, Filtered
from console.sheet import Sheet
from console.theme import Appearance
from console.widgets.event_table import EventTable
from replay.playback.frame import Frame, Want
from replay.recording.filters import EVENTS
from replay.recording.filters.rows import event_view_row

_SAMPLES = 20
"""For the rates in the header."""

_RUNNING_SECONDS = 0.9


class EventsScreen(Filtered):
    """The events around the cursor as a table."""

    page_name = "Events"
    subject = EVENTS
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "detail", "The event under the cursor in full", "detail"),
        Control("up,k", "↑", "app.step(-1)", "One event back", "move"),
        Control("down,j", "↓", "app.step(1)", "One event forward"),
        Control("pageup", "PgUp", "page(-1)", "A screen back"),
        Control("pagedown", "PgDn", "page(1)", "A screen forward"),
        *FILTER,
        Control("escape", "Esc", "clear", "Clear the filter"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    EventsScreen EventTable { height: 1fr; margin: 1 0 0 0; }
    """

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        super().__init__(appearance, run_title)
        self._table = EventTable(appearance)
        self._drawn_at = 0.0

    def compose_page(self) -> ComposeResult:
        yield self._table

    def want(self) -> Want:
        lines = self._table.lines
        return Want(samples=_SAMPLES, events=lines, events_after=lines)

    def show_page(self, frame: Frame) -> None:
        """A table that runs along is drawn once a second: nobody reads it faster."""
        follows = frame.following and frame.liveness == "live"
        if follows and 0.0 < frame.at - self._drawn_at < _RUNNING_SECONDS:
            return
        self._drawn_at = frame.at
        chosen = None
        if self.filter_text:
            rows = (event_view_row(row.event, row.ordinal, frame.t0) for row in frame.events)
            chosen = frozenset(row["ordinal"] for row in rows if self.matches(row))
        self._table.show(frame, chosen, self.filter_text)

    def sheet(self, frame: Frame) -> Sheet:
        """The events around the cursor, by the columns of their view."""
        rows = [event_view_row(row.event, row.ordinal, frame.t0) for row in frame.events]
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        return Sheet.of(
            [{name: row.get(name) for name in names} for row in filter(self.matches, rows)]
        )

    def action_match(self, direction: int) -> None:
        """Move the cursor to the next event that matches; without a filter, to the next."""
        if self.filter_text:
            self.console.seek_match(self.subject.where(self.filter_text), direction)
        else:
            self.console.action_step(direction)

    def action_clear(self) -> None:
        self.clear_filter()

    def action_page(self, screens: int) -> None:
        self.console.action_step(screens * self._table.lines)

    def action_detail(self) -> None:
        row = self._table.at_cursor()
        if row is not None and self.frame is not None:
            detail = EventDetail(self.appearance, row, self.frame.t0, self.console.open_page)
            self.app.push_screen(detail)

    def on_event_table_moved(self, message: EventTable.Moved) -> None:
        self.console.seek_ordinal(message.ordinal)

    def on_event_table_scrolled(self, message: EventTable.Scrolled) -> None:
        self.console.action_step(message.by)
