"""`LineWidget`: a widget that draws whole lines and repaints only those that changed."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import MouseDown, MouseUp, Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from console.paint import StyledLine, changed_span, to_strip
from console.theme import Appearance, Palette

LEAST_DRAG = 2
"""Cells between which a button that is pressed and released draws a stretch."""


class LineWidget(Widget):
    """Base of the widgets. A subclass has a `draw`, and calls `redraw` when its data changes."""

    DEFAULT_CSS = """
    LineWidget { width: 1fr; height: 1; }
    """
    ground = "text"
    """Style of cells that nothing is drawn on."""

    def __init__(
        self, appearance: Appearance, *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.appearance = appearance
        self._lines: list[StyledLine] = []
        self._strips: list[Strip] = []
        self._drawn_for: tuple[int, Palette] | None = None
        self._pressed_at: int | None = None
        self.was_dragged = False
        """Whether the button that was released last had drawn a stretch: then it is no click."""

    class Dragged(Message):
        """A stretch of time was drawn with the mouse; times of the producer."""

        def __init__(self, start: float, end: float) -> None:
            super().__init__()
            self.start = start
            self.end = end

    def time_at(self, x: int) -> float | None:
        """The time that a column stands for, where columns are times."""
        return None

    def on_mouse_down(self, event: MouseDown) -> None:
        self._pressed_at = event.x
        self.was_dragged = False

    def on_mouse_up(self, event: MouseUp) -> None:
        pressed, self._pressed_at = self._pressed_at, None
        if pressed is None or abs(event.x - pressed) < LEAST_DRAG:
            return
        start, end = (self.time_at(x) for x in sorted((pressed, event.x)))
        if start is not None and end is not None and start < end:
            self.was_dragged = True
            self.post_message(self.Dragged(start, end))

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        """Return at most `height` lines."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Call `draw`, and refresh the lines that differ from those on the screen."""
        width, height = self.size
        if not width or not height:
            return
        lines = list(self.draw(width, height))[:height]
        lines.extend(() for _ in range(height - len(lines)))
        palette = self.appearance.palette
        anew = self._drawn_for != (width, palette) or len(lines) != len(self._lines)
        changed: list[Region] = []
        strips = self._strips
        if anew:
            strips = self._strips = [Strip.blank(width)] * height
        for y, line in enumerate(lines):
            if anew or line != self._lines[y]:
                strips[y] = to_strip(line, width, palette, self.appearance.ascii_only, self.ground)
                first, after = (0, width) if anew else self._changed(y, line, width)
                changed.append(Region(first, y, max(1, after - first), 1))
        self._lines = lines
        self._drawn_for = (width, palette)
        if anew:
            self.refresh()
        elif changed:
            self.refresh(*changed)

    def _changed(self, y: int, line: StyledLine, width: int) -> tuple[int, int]:
        """The cells of a line to be written again; in ASCII a character may take other cells."""
        if self.appearance.ascii_only:
            return 0, width
        return changed_span(self._lines[y], line, width)

    def on_resize(self, event: Resize) -> None:
        self.redraw()

    def render_lines(self, crop: Region) -> list[Strip]:
        width = self.size.width
        if self._drawn_for is None or self._drawn_for[0] != width:
            self.redraw()
        strips = self._strips[crop.y : crop.bottom]
        if crop.x or crop.right != width:
            strips = [strip.crop(crop.x, crop.right) for strip in strips]
        missing = crop.height - len(strips)
        if missing > 0:
            blank = Strip.blank(crop.width, self.appearance.palette[self.ground])
            strips.extend([blank] * missing)
        return strips

    def render_line(self, y: int) -> Strip:
        return self.render_lines(Region(0, y, self.size.width, 1))[0]
