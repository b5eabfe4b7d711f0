"""The list of runs, one line each, and the one under the cursor in full."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from console.formatting import byte_count, count, duration
from console.paint import Row, StyledLine, cut_line, fit_tail
from console.theme import Appearance
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.runs.catalogue import RunEntry

HEAD = 2
_WIDE, _MEDIUM = 100, 64
_STATES = {
    "success": "green",
    "failed": "vermillion",
    "cancelled": "yellow",
    "live": "bold green",
    "lost": "vermillion",
    "unknown": "yellow",
    "away": "dim",
    "unreadable": "vermillion",
    "ended": "text",
    "complete": "text",
}


def shown_state(entry: RunEntry) -> str:
    """How it ended, else what is known of it."""
    return entry.outcome or entry.state


class RunList(LineWidget):
    """The cursor is on a run, not on a line, so that a new run does not move it."""

    def __init__(
        self,
        appearance: Appearance,
        local: Callable[[float], time.struct_time] = time.localtime,
        heading: str = "Runs",
    ) -> None:
        super().__init__(appearance, id="run-list")
        self._heading = heading
        self._local = local
        self._top = 0
        self.entries: tuple[RunEntry, ...] = ()
        self._total = 0
        self._note = ""
        self.selected: Path | None = None
        self.marked: tuple[Path, ...] = ()

    class Picked(Message):
        """A run was chosen with Enter or by a click."""

        def __init__(self, path: Path) -> None:
            super().__init__()
            self.path = path

    def show(self, entries: Sequence[RunEntry], total: int, filter_text: str) -> None:
        """`total`: how many there are without the filter."""
        self.entries, self._total = tuple(entries), total
        self._note = filter_text
        self.redraw()

    def index(self) -> int:
        paths = [entry.path for entry in self.entries]
        return paths.index(self.selected) if self.selected in paths else 0

    def at_cursor(self) -> RunEntry | None:
        return self.entries[self.index()] if self.entries else None

    def move(self, by: int) -> None:
        if self.entries:
            index = max(0, min(self.index() + by, len(self.entries) - 1))
            self.selected = self.entries[index].path
            self.redraw()

    @property
    def page(self) -> int:
        return max(1, self.size.height - HEAD - 1)

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        live = sum(entry.live for entry in self.entries)
        shown = count(len(self.entries))
        note = f"{shown} of {count(self._total)}: {self._note}" if self._note else f"{shown}"
        note = f"{live} live, {note}" if live else note
        lines = [title(self.appearance, self._heading, width, note)]
        if not self.entries:
            empty = "No run matches; Esc clears the filter." if self._note else "No runs yet."
            return [*lines, (), cut_line(Row().put(f" {empty}").line(), width)]
        lines.append(self._head(width))
        room = max(1, height - HEAD)
        here = self.index()
        self._top = max(here - room + 1, min(self._top, here, max(0, len(self.entries) - room)))
        for index in range(self._top, min(len(self.entries), self._top + room)):
            lines.append(self._line(self.entries[index], index == here, width))
        return lines

    @staticmethod
    def _name_cells(width: int) -> int:
        taken = 31 if width < _MEDIUM else 61 if width < _WIDE else 79
        return max(8, width - taken)

    def _head(self, width: int) -> StyledLine:
        row = Row().put("   name", "dim", self._name_cells(width) + 3)
        if width >= _MEDIUM:
            row.put(" started", "dim", 18)
        row.put("state", "dim", 11).put("rows", "dim", 13 if width >= _MEDIUM else 9, ">")
        if width >= _MEDIUM:
            row.put("dropped", "dim", 9, ">")
        row.put("took", "dim", 7, ">")
        if width >= _WIDE:
            row.put("size", "dim", 10, ">")
        return row.line()

    def _line(self, entry: RunEntry, here: bool, width: int) -> StyledLine:
        ground = " on select" if here else ""
        words = "bright" if here else "text"
        row = Row().put(self.appearance.glyphs.cursor if here else " ", f"bold bright{ground}")
        mark = self.marked.index(entry.path) if entry.path in self.marked else -1
        row.put("AB"[mark] if mark >= 0 else " ", f"bold yellow{ground}").put(" ", f"text{ground}")
        row.put(fit_tail(entry.name or entry.run_id, self._name_cells(width)), f"{words}{ground}")
        if width >= _MEDIUM:
            row.put(" ", f"text{ground}").put(self.started(entry), f"dim{ground}", 17)
        state = shown_state(entry)
        row.put(state, f"{_STATES.get(state, 'text')}{ground}", 11)
        done = "–" if entry.rows_done is None else count(entry.rows_done)
        if width >= _MEDIUM and entry.records is not None:
            done += f"/{count(entry.records)}"
        row.put(done, f"{words}{ground}", 13 if width >= _MEDIUM else 9, ">")
        dropped = entry.rows_dropped or 0
        if width >= _MEDIUM:
            style = "bold vermillion" if dropped else "faint"
            text = "–" if entry.rows_dropped is None else count(dropped)
            row.put(text, f"{style}{ground}", 9, ">")
        row.put(duration(entry.seconds), f"{words}{ground}", 7, ">")
        if width >= _WIDE:
            row.put(byte_count(entry.bytes), f"dim{ground}", 10, ">")
        return row.to(width, f"text{ground}").line()

    def started(self, entry: RunEntry) -> str:
        if entry.started is None:
            return "–"
        return time.strftime("%Y-%m-%d %H:%M", self._local(entry.started))

    def on_click(self, event: Click) -> None:
        index = self._top + event.y - HEAD
        if event.y >= HEAD and index < len(self.entries):
            self.post_message(self.Picked(self.entries[index].path))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self.move(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self.move(-1)


class RunDetail(LineWidget):
    """Id, folder, outcome and top cause of the run under the cursor."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="run-detail")
        self._entry: RunEntry | None = None
        self._cause = ""
        self._problem = ""

    def show(self, entry: RunEntry | None, cause: str, problem: str) -> None:
        self._entry, self._cause, self._problem = entry, cause, problem
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        entry = self._entry
        if entry is None:
            problem = Row().put(f" {self._problem}", "vermillion").line()
            return [cut_line(problem, width)] if self._problem else []
        facts = Row().put(" ").put(shown_state(entry), _STATES.get(shown_state(entry), "text"))
        if entry.rows_dropped:
            facts.put(f" · {count(entry.rows_dropped)} rows dropped", "bold vermillion")
        if self._cause:
            facts.put(" · most time lost: ", "dim").put(self._cause, "orange")
        where = Row().put(" ").put(fit_tail(str(entry.path), max(1, width - 2)).rstrip(), "text")
        lines = [
            title(self.appearance, entry.name or entry.run_id, width, entry.run_id),
            cut_line(facts.line(), width),
            cut_line(where.line(), width),
        ]
        if self._problem:
            lines[2] = cut_line(Row().put(f" {self._problem}", "bold vermillion").line(), width)
        return lines
