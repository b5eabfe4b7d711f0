"""Events: the stream around the cursor, and each event in full."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.screens.base import FrameScreen
from console.screens.event_detail import EventDetail
from console.theme import Appearance
from console.widgets.event_table import EventTable
from replay.playback.frame import Frame, Want

_SAMPLES = 20
"""For the rates in the header."""


class EventsScreen(FrameScreen):
    page_name = "Events"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "detail", "The event under the cursor in full", "detail"),
        Control("up,k", "↑", "app.step(-1)", "One event back", "move"),
        Control("down,j", "↓", "app.step(1)", "One event forward"),
        Control("pageup", "PgUp", "page(-1)", "A screen back"),
        Control("pagedown", "PgDn", "page(1)", "A screen forward"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    EventsScreen EventTable { height: 1fr; margin: 1 0 0 0; }
    """

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        super().__init__(appearance, run_title)
        self._table = EventTable(appearance)

    def compose_page(self) -> ComposeResult:
        yield self._table

    def want(self) -> Want:
        lines = self._table.lines
        return Want(samples=_SAMPLES, events=lines, events_after=lines)

    def show_page(self, frame: Frame) -> None:
        self._table.show(frame)

    def action_page(self, screens: int) -> None:
        self.console.action_step(screens * self._table.lines)

    def action_detail(self) -> None:
        row = self._table.at_cursor()
        if row is not None and self.frame is not None:
            self.app.push_screen(EventDetail(self.appearance, row, self.frame.t0))

    def on_event_table_moved(self, message: EventTable.Moved) -> None:
        self.console.seek_ordinal(message.ordinal)

    def on_event_table_scrolled(self, message: EventTable.Scrolled) -> None:
        self.console.action_step(message.by)
