"""Lines above a page: where it was entered from, and the stretch that is marked."""

from __future__ import annotations

from collections.abc import Sequence

from console.formatting import count, duration, short
from console.paint import Row, StyledLine, cut_line, fit_tail
from console.theme import Appearance
from console.widgets.line_widget import LineWidget
from replay.diagnosis.verdicts import clock, model_of
from replay.playback.frame import Frame
from replay.playback.stretch import Stretch

_BETWEEN = " › "


class Crumbs(LineWidget):
    """The pages from the outermost to this one."""

    DEFAULT_CSS = "Crumbs { height: 1; margin: 1 0 0 0; }"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="crumbs")
        self._names: tuple[str, ...] = ()

    def show(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        *before, last = self._names or ("",)
        path = _BETWEEN.join([*before, ""])
        hint = "  Esc back"
        room = max(4, width - 2 - len(last) - len(hint))
        row = Row().put(" ").put(fit_tail(path, min(room, len(path))), "dim")
        return [cut_line(row.put(last, "bold bright").put(hint, "dim").line(), width)]


class MarkedStretch(LineWidget):
    """What the marked stretch is, and what was done in it; nothing where none is marked."""

    DEFAULT_CSS = "MarkedStretch { height: 0; display: none; }"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="stretch")
        self._frame: Frame | None = None

    def show(self, frame: Frame) -> None:
        self._frame = frame
        self.display = frame.stretch is not None
        if self.display:
            self.styles.height = 1
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame = self._frame
        stretch = frame.stretch if frame is not None else None
        if frame is None or stretch is None:
            return []
        style = "bold ink on sky"
        begin, end = clock(stretch.start - frame.t0), clock(stretch.end - frame.t0)
        row = Row().put(f" {begin} to {end} ", style)
        for text in (f" {duration(stretch.seconds)}", *stretch_facts(stretch)):
            if row.used + len(text) + 3 > width:
                break
            row.put(text, "bright").put("  ", "text")
        return [cut_line(row.line(), width)]


def stretch_facts(stretch: Stretch) -> list[str]:
    """What was done in it, the most general first."""
    seconds = stretch.seconds
    facts = [f"{count(round(stretch.tasks_done))} tasks, {short(stretch.tasks_done / seconds)}/s"]
    if stretch.rows_done:
        facts.append(f"{count(round(stretch.rows_done))} rows")
    if stretch.tokens:
        facts.append(f"{short(stretch.tokens / seconds)} tokens/s")
    for traffic in stretch.traffic:
        hits = f", {count(round(traffic.rate_limited))} × 429" if traffic.rate_limited else ""
        facts.append(f"{model_of(traffic.resource)} {traffic.in_flight:.1f} in flight{hits}")
    return facts
