"""`SpanCompositor`: writes of a line only the cells that changed.

Textual writes each part of a line that has a change in it from its begin; of a chart whose last
column moved on that is the whole line, four times a second, which thin links feel.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class SpanUpdate(ChopsUpdate):
    """An update that writes of each line only the cells within its spans."""

    def render_segments(self, console: Console) -> str:
        parts: list[str] = []
        for y, first, after in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, first), min(end, after)
                if strip is None or start >= stop:
                    continue
                if (start, stop) != (x, end):
                    strip = strip.crop(start - x, stop - x)
                parts.append(Control.move_to(start, y).segment.text)
                parts.append(strip.render(console))
        return "".join(parts)


class SpanCompositor(Compositor):
    """Textual's compositor, with `SpanUpdate` in place of its own partial updates."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        if update is None:
            return None
        return SpanUpdate(update.chops, update.spans, update.chop_ends)
