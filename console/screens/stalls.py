"""Stalls: what stood still, why, who held it and what proves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.screens.base import set_height
from console.screens.filters import FILTER, Filtered
from console.sheet import Sheet
from console.theme import Appearance
from console.widgets.stall_list import HEAD, Key, StallDetail, StallList, StallSums, key_of
from replay.diagnosis.report.build import verdict_line
from replay.diagnosis.report.text import facts_of
from replay.diagnosis.verdicts import VerdictRow
from replay.playback.frame import Frame, Want
from replay.recording.filters import STALLS

_SAMPLES = 20
"""For the rates in the header."""
_MOST_STALLS = 500
_DETAIL = 12
"""Lines that one stall in words may need; the list has the rest, if it wants it."""
_LEAST_LIST = 5
_ROOM_FOR_SUMS = 18
_ORDERS: tuple[tuple[str, Callable[[VerdictRow], tuple[object, ...]] | None], ...] = (
    ("newest first", None),
    ("longest first", lambda row: (row.start - row.end, row.start)),
    ("by cause", lambda row: (row.verdict, row.resource or "", row.start - row.end)),
)
"""Their names, and what they are sorted by; None: as they come, the newest first."""


class StallsScreen(Filtered):
    """The stalls as a list, with the selected one in words."""

    page_name = "Stalls"
    subject = STALLS
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "to_moment", "The moment it began, on the timeline", "timeline"),
        Control("down,j", "↓", "pick(1)", "Select the stall before it", "select"),
        Control("up,k", "↑", "pick(-1)", "Select the stall after it"),
        Control("pagedown", "PgDn", "pick(10)", "Ten stalls further back"),
        Control("pageup", "PgUp", "pick(-10)", "Ten stalls further on"),
        Control("e", "e", "evidence", "The events that prove it, one after the other", "evidence"),
        Control("s", "s", "sort", "By time, by length, or by cause", "sort"),
        *FILTER,
        Control("escape", "Esc", "clear", "Clear the filter"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(controls)]
    DEFAULT_CSS = """
    StallsScreen StallList { margin: 1 0 0 0; }
    StallsScreen StallDetail { height: 1fr; margin: 1 0 0 0; }
    """

    def __init__(self, appearance: Appearance, run_title: str) -> None:
        super().__init__(appearance, run_title)
        self._sums = StallSums(appearance)
        self._list = StallList(appearance)
        self._order = 0
        self._detail = StallDetail(appearance)
        self._last_evidence: tuple[Key, int] | None = None
        """The stall whose evidence was looked at last, and which of its events."""

    def compose_page(self) -> ComposeResult:
        yield self._sums
        yield self._list
        yield self._detail

    def want(self) -> Want:
        return Want(samples=_SAMPLES, verdicts=_MOST_STALLS)

    def show_page(self, frame: Frame) -> None:
        total = len(frame.verdicts)
        rows = [row for row in frame.verdicts if self.matches(_view_row(row, frame.t0))]
        stretch = frame.stretch
        if stretch is not None:
            rows = [row for row in rows if row.start < stretch.end and row.end > stretch.start]
        self._sums.show(rows)
        order = _ORDERS[self._order][1]
        frame = replace(frame, verdicts=tuple(sorted(rows, key=order) if order else rows))
        page = self.query_one("#page").size.height
        sums = 2 if page >= _ROOM_FOR_SUMS else 0
        self._sums.display = sums > 0
        room = page - sums - 2 - _DETAIL
        set_height(self._list, min(HEAD + max(1, len(frame.verdicts)), max(_LEAST_LIST, room)))
        note = self.filter_note(len(frame.verdicts), total)
        self._list.show(frame, note, _ORDERS[self._order][0])
        self._detail.show(frame, self._list.at_cursor())

    def action_sort(self) -> None:
        self._order = (self._order + 1) % len(_ORDERS)
        if self.frame is not None:
            self.show_page(self.frame)

    def action_pick(self, by: int) -> None:
        self._list.move(by)
        if self.frame is not None:
            self._detail.show(self.frame, self._list.at_cursor())

    def markdown(self, frame: Frame) -> str:
        row = self._list.at_cursor()
        if row is None:
            return super().markdown(frame)
        verdict = verdict_line(row, frame.t0)
        facts = "\n".join(f"- {fact}" for fact in facts_of(verdict))
        return f"**{frame.run.name or frame.run.run_id}**: {verdict.sentence}\n\n{facts}"

    def sheet(self, frame: Frame) -> Sheet:
        return Sheet.of([_view_row(row, frame.t0) for row in self._list.rows])

    def action_match(self, by: int) -> None:
        self.action_pick(by)

    def action_clear(self) -> None:
        self.clear_filter()

    def action_to_moment(self) -> None:
        row = self._list.at_cursor()
        if row is not None:
            self.console.show_between(row.start, row.end)

    def action_evidence(self) -> None:
        row = self._list.at_cursor()
        if row is not None and row.evidence:
            key, following = key_of(row), 0
            if self._last_evidence is not None and self._last_evidence[0] == key:
                following = (self._last_evidence[1] + 1) % len(row.evidence)
            self._last_evidence = key, following
            self.console.seek_ordinal(row.evidence[following])
            self.console.action_go("events")

    def on_stall_list_picked(self, message: StallList.Picked) -> None:
        self._list.selected = message.key
        self.action_pick(0)


def _view_row(row: VerdictRow, t0: float) -> dict[str, object]:
    """The row of the view `stalls`."""
    return {
        "verdict": row.verdict,
        "tier": row.tier,
        "resource": row.resource,
        "sentence": row.sentence,
        "seconds": row.end - row.start,
        "started_at": row.start - t0,
        "ended_at": row.end - t0,
    }
