"""Scheduler resources: how many leases of how many."""

from __future__ import annotations

from collections.abc import Sequence

from console.formatting import doubt_of
from console.paint import Row, StyledLine, width_of
from console.theme import Appearance
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.playback.frame import Frame


class Slots(LineWidget):
    """A bar of leases for each scheduler resource."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="slots")
        self._limits: tuple[tuple[str, int, int], ...] = ()
        self._doubt = ""

    def show(self, frame: Frame) -> None:
        self._limits, self._doubt = frame.limits, doubt_of(frame)
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        rows: list[StyledLine] = [title(self.appearance, "Task slots", width)]
        if not self._limits:
            return [*rows, Row().put(" not known", "dim").line()]
        glyphs = self.appearance.glyphs
        name = min(max(width_of(label) for label, _, _ in self._limits) + 2, width // 2)
        bar = max(4, min(40, width - name - 12))
        for label, leased, limit in self._limits[: height - 1]:
            full = min(bar, round(bar * leased / limit)) if limit else bar
            style = "orange" if leased >= limit else "sky"
            row = Row().put(" ").put(label, "text", name - 1).put(glyphs.bar_full * full, style)
            row.put(glyphs.bar_rest * (bar - full), "faint").put(
                f"{leased}{self._doubt}/{limit}", "bright", 9, ">"
            )
            rows.append(row.line())
        return rows
