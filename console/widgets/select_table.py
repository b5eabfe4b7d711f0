"""`SelectTable`: rows with a cursor, sorted by any column; `FactList`: one row in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from console.paint import Row, StyledLine, cut_line, fit, fit_tail
from console.sheet import Sheet, Value
from console.theme import Appearance
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title

HEAD = 2
_FIRST_NEEDS = 30
"""Cells of the first column, whatever others could use."""
Sortable = float | str | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: what is shown, and what it is sorted and exported by."""

    text: str
    style: str = "text"
    value: Sortable = None
    """What the column is sorted by; None sorts by the text."""

    @property
    def exported(self) -> Value:
        return self.value if isinstance(self.value, int | float) else self.text


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table, with its width and what happens where there is less room."""

    name: str
    width: int
    align: str = ">"
    least: int = 0
    """Shown where the table has at least so many cells."""
    grows: float = 0.0
    """Its part of the cells that the first column can do without."""
    keeps_end: bool = True
    """Of a name that does not fit the end is shown, where names mostly differ."""


class TableRow:
    """A row by its key; its cells are made when they are looked at, as of many rows few are."""

    __slots__ = ("_cells", "key")

    def __init__(self, key: str, cells: tuple[Cell, ...] | Callable[[], tuple[Cell, ...]]) -> None:
        """The first cell names the row and gets the room that is left."""
        self.key = key
        self._cells = cells

    @property
    def cells(self) -> tuple[Cell, ...]:
        if callable(self._cells):
            self._cells = self._cells()
        return self._cells


class SelectTable(LineWidget):
    """The cursor is on a key: neither sorting nor new rows move it."""

    def __init__(
        self, appearance: Appearance, name: str, columns: Sequence[TableColumn], empty: str
    ) -> None:
        super().__init__(appearance, id=f"{name.lower().replace(' ', '-')}-table")
        self._heading = name
        self._columns = tuple(columns)
        self._empty = empty
        self._rows: tuple[TableRow, ...] = ()
        self._note = ""
        self._top = 0
        self._sort = -1
        self._worst: str | None = None
        self.selected: str | None = None
        self.active = True
        """Whether its cursor is the one that keys move."""

    class Picked(Message):
        """A row was chosen with Enter or by a click."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def show(self, rows: Sequence[TableRow], note: str = "", worst: str | None = None) -> None:
        """`worst`: key of the row that the cursor is on until somebody moves it."""
        self._rows = self._sorted(rows)
        self._worst = worst
        self._note = note
        self.redraw()

    def _sorted(self, rows: Sequence[TableRow]) -> tuple[TableRow, ...]:
        """As they come, or by a column: numbers from the largest, texts from A."""
        column = self._sort
        if column < 0:
            return tuple(rows)

        def order(row: TableRow) -> tuple[int, float, str]:
            cell = row.cells[column]
            if isinstance(cell.value, int | float):
                return (0, -cell.value, row.key)
            return (1, 0.0, str(cell.value or cell.text) + row.key)

        return tuple(sorted(rows, key=order))

    def sort_next(self) -> None:
        """Sort by the next column; after the last one, in the order in which the rows come."""
        self._sort = self._sort + 1 if self._sort + 1 < len(self._columns) else -1
        self._rows = self._sorted(self._rows)
        self.redraw()

    def index(self) -> int:
        keys = [row.key for row in self._rows]
        if self.selected in keys:
            return keys.index(self.selected)
        return keys.index(self._worst) if self._worst in keys else 0

    def sheet(self) -> Sheet:
        """All rows and columns, also those that are out of view."""
        names = tuple(column.name for column in self._columns)
        rows = (tuple(cell.exported for cell in row.cells) for row in self._rows)
        return Sheet(names, tuple(rows))

    def has_key(self, key: str) -> bool:
        return any(row.key == key for row in self._rows)

    def key_at_cursor(self) -> str | None:
        return self._rows[self.index()].key if self._rows else None

    def move(self, by: int) -> None:
        if self._rows:
            index = max(0, min(self.index() + by, len(self._rows) - 1))
            self.selected = self._rows[index].key
            self.redraw()

    @property
    def page(self) -> int:
        return max(1, self.size.height - HEAD - 1)

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        lines = [title(self.appearance, self._heading, width, self._note)]
        if not self._rows:
            return [*lines, cut_line(Row().put(f" {self._empty}", "dim").line(), width)]
        shown = [nth for nth, column in enumerate(self._columns) if width >= column.least]
        widths = {nth: self._columns[nth].width for nth in shown}
        spare = max(0, width - sum(widths.values()) - 3 - _FIRST_NEEDS)
        for nth in shown:
            widths[nth] += int(spare * self._columns[nth].grows)
        first = max(8, width - sum(widths[nth] for nth in shown if nth) - 3)
        head = Row().put("  ")
        for nth in shown:
            column = self._columns[nth]
            name = f"{column.name}{'*' if nth == self._sort else ''}"
            if nth:
                head.put(" ", "dim").put(name, "dim", widths[nth] - 1, column.align)
            else:
                head.put(name, "dim", first)
        lines.append(cut_line(head.line(), width))
        room = max(1, height - HEAD)
        here = self.index()
        self._top = max(here - room + 1, min(self._top, here, max(0, len(self._rows) - room)))
        for index in range(self._top, min(len(self._rows), self._top + room)):
            lines.append(
                self._line(self._rows[index], widths, first, index == here and self.active, width)
            )
        return lines

    def _line(
        self, row: TableRow, widths: Mapping[int, int], first: int, here: bool, width: int
    ) -> StyledLine:
        ground = " on select" if here else ""
        line = Row().put(self.appearance.glyphs.cursor if here else " ", f"bold bright{ground}")
        line.put(" ", f"text{ground}")
        for nth, cells in widths.items():
            cell, column = row.cells[nth], self._columns[nth]
            if nth:
                line.put(" ", f"text{ground}")
                line.put(cell.text, f"{cell.style}{ground}", cells - 1, column.align)
            else:
                shorten = fit_tail if column.keeps_end else fit
                line.put(shorten(cell.text, first), f"{cell.style}{ground}")
        return cut_line(line.to(width, f"text{ground}").line(), width)

    def on_click(self, event: Click) -> None:
        index = self._top + event.y - HEAD
        if event.y >= HEAD and index < len(self._rows):
            self.post_message(self.Picked(self._rows[index].key))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self.move(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self.move(-1)


class FactList(LineWidget):
    """A title and lines of a name and what there is to say."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="facts")
        self._title, self._note = "", ""
        self._facts: tuple[tuple[str, str], ...] = ()

    def show(self, name: str, note: str, facts: Sequence[tuple[str, str]]) -> None:
        self._title, self._note, self._facts = name, note, tuple(facts)
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        if not self._title:
            return []
        lines = [title(self.appearance, self._title, width, self._note)]
        names = max((len(name) for name, _ in self._facts), default=0) + 2
        for name, text in self._facts:
            row = Row().put(" ").put(name, "dim", names).put(text, "text")
            lines.append(cut_line(row.line(), width))
        return lines
