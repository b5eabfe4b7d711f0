"""The stalls of a run, newest first, and one of them in words."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from console.formatting import duration
from console.paint import Row, StyledLine, clean, cut_line, fit_tail, width_of
from console.theme import Appearance, verdict_look
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.diagnosis.report.build import verdict_line
from replay.diagnosis.report.text import facts_of
from replay.diagnosis.report.text_layout import wrap
from replay.diagnosis.verdicts import VerdictRow, clock, phrase
from replay.playback.frame import Frame

Key = tuple[str, str | None, float]
HEAD = 2
"""Lines above the first stall."""


def key_of(row: VerdictRow) -> Key:
    """What stays the same while a stall goes on."""
    return row.verdict, row.resource, row.start


class StallList(LineWidget):
    """One line for each verdict. The selection is one of them, not a line."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="stall-list")
        self._frame: Frame | None = None
        self._note = ""
        self._order = ""
        self._top = 0
        self.selected: Key | None = None

    class Picked(Message):
        """A stall was chosen with Enter or by a click."""

        def __init__(self, key: Key) -> None:
            super().__init__()
            self.key = key

    @property
    def rows(self) -> tuple[VerdictRow, ...]:
        return self._frame.verdicts if self._frame else ()

    def show(self, frame: Frame, note: str = "", order: str = "newest first") -> None:
        """`note` stands in the title in place of the number of stalls, behind their order."""
        self._frame, self._note, self._order = frame, note, order
        self.redraw()

    def index(self) -> int:
        """Of the selected one; where none is selected or it is gone, of the newest that goes on at
        the moment shown, else of the newest."""
        keys = [key_of(row) for row in self.rows]
        if self.selected in keys:
            return keys.index(self.selected)
        at = self._frame.at if self._frame else 0.0
        covering = (i for i, row in enumerate(self.rows) if row.start <= at <= row.end)
        return next(covering, 0)

    def at_cursor(self) -> VerdictRow | None:
        return self.rows[self.index()] if self.rows else None

    def move(self, by: int) -> None:
        if self.rows:
            index = max(0, min(self.index() + by, len(self.rows) - 1))
            self.selected = key_of(self.rows[index])
            self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame, rows = self._frame, self.rows
        lines = [
            title(self.appearance, f"Stalls, {self._order}", width, self._note or f"{len(rows)}")
        ]
        if frame is None or not rows:
            empty = "Nothing has stood still for longer than it normally does."
            if self._note.startswith("0 of"):
                empty = "No stall matches the filter; Esc clears it."
            return [
                *lines,
                *([()] if height >= 5 else []),
                *(
                    Row().put(f" {text_line}").line()
                    for text_line in wrap(empty, width - 2, max_lines=2)
                ),
            ]
        head = Row().put("   from", "dim", 12).put("to", "dim", 9).put("for", "dim", 8)
        lines.append(head.put("    verdict", "dim").line())
        room = max(1, height - HEAD)
        here = self.index()
        self._top = max(here - room + 1, min(self._top, here, max(0, len(rows) - room)))
        for index in range(self._top, min(len(rows), self._top + room)):
            lines.append(self._line(rows[index], frame, index == here, width))
        return lines

    def _line(self, row: VerdictRow, frame: Frame, here: bool, width: int) -> StyledLine:
        ground = " on select" if here else ""
        covers = row.start <= frame.at <= row.end
        words = "bright" if here or covers else "text"
        line = Row().put(self.appearance.glyphs.cursor if here else " ", f"bold bright{ground}")
        line.put("· " if covers else "  ", f"bright{ground}")
        line.put(clock(row.start - frame.t0), f"{words}{ground}", 9)
        line.put(clock(row.end - frame.t0), f"{words}{ground}", 9)
        line.put(duration(row.end - row.start), f"{words}{ground}", 7)
        look = verdict_look(row.verdict)
        line.put(f" {look.letter} ", f"bold {look.colour}{ground}")
        name = phrase(row.verdict)
        line.put(f" {name}", f"{words}{ground}")
        if row.resource:
            room = width - line.used - 3
            line.put(f"  {fit_tail(row.resource, room).rstrip()}", f"dim{ground}")
        return line.to(width, f"text{ground}").line()

    def on_click(self, event: Click) -> None:
        index = self._top + event.y - HEAD
        if event.y >= HEAD and index < len(self.rows):
            self.post_message(self.Picked(key_of(self.rows[index])))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self.move(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self.move(-1)


class StallSums(LineWidget):
    """How long all stalls of each cause took together, the longest first."""

    DEFAULT_CSS = "StallSums { height: 1; margin: 1 0 0 0; }"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="stall-sums")
        self._rows: tuple[VerdictRow, ...] = ()

    def show(self, rows: Sequence[VerdictRow]) -> None:
        self._rows = tuple(rows)
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        seconds: dict[str, float] = {}
        times: dict[str, int] = {}
        for row in self._rows:
            seconds[row.verdict] = seconds.get(row.verdict, 0.0) + row.end - row.start
            times[row.verdict] = times.get(row.verdict, 0) + 1
        line = Row().put(" ")
        for verdict in sorted(seconds, key=lambda name: (-seconds[name], name)):
            look = verdict_look(verdict)
            front = "bright" if look.colour == "faint" else "ink"
            often = f" {times[verdict]}×" if times[verdict] > 1 else ""
            text = f" {phrase(verdict)}{often} {duration(seconds[verdict])}"
            if line.used > 1 and line.used + width_of(text) + 5 > width:
                break
            line.put(f" {look.letter} ", f"bold {front} on {look.colour}").put(text, "text")
            line.put("  ")
        return [cut_line(line.line(), width)]


class StallDetail(LineWidget):
    """What it is for someone who knows no internals, then what proves it."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="stall-detail")
        self._row: VerdictRow | None = None
        self._t0 = 0.0

    def show(self, frame: Frame, row: VerdictRow | None) -> None:
        self._row, self._t0 = row, frame.t0
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        row = self._row
        if row is None:
            return []
        verdict = verdict_line(row, self._t0)
        lines = [title(self.appearance, row.verdict, width, row.resource or "")]
        lines += [
            Row().put(f" {text_line}", "bold bright").line()
            for text_line in wrap(clean(verdict.sentence), width - 2, max_lines=4)
        ]
        for fact in facts_of(verdict):
            name, _, rest = fact.partition(": ")
            first, *more = wrap(clean(fact), width - 4, max_lines=4) or [""]
            line = Row().put("  ")
            if rest and first.startswith(f"{name}: "):
                line.put(f"{name}: ", "dim").put(first.removeprefix(f"{name}: "))
            else:
                line.put(first)
            lines.append(line.line())
            lines += [Row().put(f"    {text_line}").line() for text_line in more]
        return lines
