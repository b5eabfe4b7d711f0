"""Stalls: what stood still, why, who held it and what proves it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from console.controls import Control, bindings
from console.screens.base import set_height
from console.screens.filters import FILTER, Filtered
from console.theme import Appearance
from console.widgets.stall_list import HEAD, Key, StallDetail, StallList, key_of
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


class StallsScreen(Filtered):
    page_name = "Stalls"
    subject = STALLS
    controls: ClassVar[tuple[Control, ...]] = (
        Control("enter", "Enter", "to_moment", "The moment it began, on the timeline", "timeline"),
        Control("down,j", "↓", "pick(1)", "Select the stall before it", "select"),
        Control("up,k", "↑", "pick(-1)", "Select the stall after it"),
        Control("pagedown", "PgDn", "pick(10)", "Ten stalls further back"),
        Control("pageup", "PgUp", "pick(-10)", "Ten stalls further on"),
        Control("e", "e", "evidence", "The events that prove it, one after the other", "evidence"),
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
        self._list = StallList(appearance)
        self._detail = StallDetail(appearance)
        self._last_evidence: tuple[Key, int] | None = None
        """The stall whose evidence was looked at last, and which of its events."""

    def compose_page(self) -> ComposeResult:
        yield self._list
        yield self._detail

    def want(self) -> Want:
        return Want(samples=_SAMPLES, verdicts=_MOST_STALLS)

    def show_page(self, frame: Frame) -> None:
        total = len(frame.verdicts)
        if self.filter_text:
            chosen = tuple(row for row in frame.verdicts if self.matches(_view_row(row, frame.t0)))
            frame = replace(frame, verdicts=chosen)
        room = self.query_one("#page").size.height - 2 - _DETAIL
        set_height(self._list, min(HEAD + max(1, len(frame.verdicts)), max(_LEAST_LIST, room)))
        self._list.show(frame, self.filter_note(len(frame.verdicts), total))
        self._detail.show(frame, self._list.at_cursor())

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

    def action_match(self, by: int) -> None:
        self.action_pick(by)

    def action_clear(self) -> None:
        self.clear_filter()

    def action_to_moment(self) -> None:
        row = self._list.at_cursor()
        if row is not None:
            self.console.seek_time(row.start)
            self.console.action_go("leases")

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
