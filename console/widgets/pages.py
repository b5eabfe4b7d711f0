"""`Pages`: lines to read, scrolled by keys and wheel; for the help and an event's detail."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import MouseScrollDown, MouseScrollUp

from console.paint import Row, StyledLine
from console.theme import Appearance
from console.widgets.line_widget import LineWidget


class Pages(LineWidget):
    """Lines that are scrolled as a whole."""

    DEFAULT_CSS = "Pages { height: 1fr; }"

    def __init__(
        self, appearance: Appearance, lines: Sequence[StyledLine], ground: str = "text on raised"
    ) -> None:
        super().__init__(appearance)
        self.ground = ground
        self._all = list(lines)
        self._top = 0

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        self._top = max(0, min(self._top, len(self._all) - height))
        rows = list(self._all[self._top : self._top + height])
        below = len(self._all) - self._top - height
        if below > 0 and rows:
            more = f" {below + 1} more lines: ↓ PgDn"
            rows[-1] = Row().put(more, self.ground.replace("text", "dim")).line()
        return rows

    def show(self, lines: Sequence[StyledLine]) -> None:
        """Other lines; who was at the end of the old ones is at the end of these."""
        at_end = self._top >= len(self._all) - self.size.height
        self._all = list(lines)
        if at_end:
            self.show_end()
        else:
            self.redraw()

    def replace_lines(self, lines: Sequence[StyledLine]) -> None:
        """The same drawn anew: the place stays."""
        self._all = list(lines)
        self.redraw()

    def show_end(self) -> None:
        self._top = len(self._all)
        self.redraw()

    def scroll_lines(self, by: int) -> None:
        self._top += by
        self.redraw()

    @property
    def page(self) -> int:
        return max(1, self.size.height - 1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        self.scroll_lines(3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        self.scroll_lines(-3)
