"""`Filtered`: what the pages share whose rows a filter chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from console.controls import Control
from console.screens.base import FrameScreen
from console.screens.questions import FilterDialog
from replay.recording.filters import STALLS, Subject
from replay.recording.filters.subjects import Predicate

FILTER = (
    Control("slash", "/", "filter", "Filter, as you type", "filter"),
    Control("n", "n", "match(1)", "The next one that matches"),
    Control("N", "N", "match(-1)", "The one before that matches"),
)


class Filtered(FrameScreen):
    """A page with a filter; `/` asks for it, and `clear_filter` is for its Esc."""

    subject: ClassVar[Subject] = STALLS
    filter_text = ""
    _predicate: Predicate | None = None

    def matches(self, row: Mapping[str, object]) -> bool:
        return self._predicate is None or self._predicate(row)

    def filter_note(self, shown: int, total: int) -> str:
        """For the title of the table: how many of how many, and the filter."""
        return f"{shown} of {total}: {self.filter_text}" if self.filter_text else f"{total}"

    def action_filter(self) -> None:
        dialog = FilterDialog(
            self.appearance,
            self.subject,
            self.filter_text,
            self.apply_filter,
            self.console.filter_history,
        )
        self.app.push_screen(dialog, lambda text: None if text is None else self.apply_filter(text))

    def apply_filter(self, text: str) -> None:
        self.filter_text = text
        self._predicate = self.subject.predicate(text) if text else None
        if self.frame is not None:
            self.show_page(self.frame)

    def clear_filter(self) -> bool:
        """Whether there was one."""
        had = bool(self.filter_text)
        if had:
            self.apply_filter("")
        return had
