"""Stalls: what stood still, why, who held it and what proves it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.keys import Control, bindings
from console.screens.base import FrameScreen
from console.theme import Look
from console.widgets.stall_list import StallDetail, StallList
from replay.frame import Frame, Want

_SAMPLES = 20
"""For the rates in the header."""
_MOST_STALLS = 500


class StallsScreen(FrameScreen):
    name_shown = "Stalls"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "to_moment", "The moment it began, on the timeline", "timeline"),
        Control("down,j", "↓", "pick(1)", "Select the stall before it", "select"),
        Control("up,k", "↑", "pick(-1)", "Select the stall after it"),
        Control("pagedown", "PgDn", "pick(10)", "Ten stalls further back"),
        Control("pageup", "PgUp", "pick(-10)", "Ten stalls further on"),
        Control("e", "e", "evidence", "The first event that proves it, in the stream", "evidence"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    StallsScreen StallList { height: 2fr; margin: 1 0 0 0; }
    StallsScreen StallDetail { height: 3fr; margin: 1 0 0 0; }
    """

    def __init__(self, look: Look, run_title: str) -> None:
        super().__init__(look, run_title)
        self._list = StallList(look)
        self._detail = StallDetail(look)

    def compose_page(self) -> ComposeResult:
        yield self._list
        yield self._detail

    def want(self) -> Want:
        return Want(samples=_SAMPLES, verdicts=_MOST_STALLS)

    def show_page(self, frame: Frame) -> None:
        self._list.show(frame)
        self._detail.show(frame, self._list.at_cursor())

    def action_pick(self, by: int) -> None:
        self._list.move(by)
        if self.frame is not None:
            self._detail.show(self.frame, self._list.at_cursor())

    def action_to_moment(self) -> None:
        row = self._list.at_cursor()
        if row is not None:
            self.console_app.seek_time(row.start)
            self.console_app.action_go("leases")

    def action_evidence(self) -> None:
        row = self._list.at_cursor()
        if row is not None and row.evidence:
            self.console_app.seek_ordinal(row.evidence[0])
            self.console_app.action_go("events")

    def on_stall_list_picked(self, message: StallList.Picked) -> None:
        self._list.selected = message.key
        self.action_pick(0)
