"""Where the capacity went: one bar of 100 %, told apart by colour, letter and hatching."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import Click
from textual.message import Message

from console.blame import SEEN, by_verdict
from console.formatting import duration, percent
from console.paint import Row, StyledLine, width_of
from console.theme import Appearance, verdict_look
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.diagnosis.report.shares import Share
from replay.diagnosis.verdicts import phrase


def parts(shares: Sequence[Share], width: int) -> list[tuple[Share, int]]:
    """Cells for each share, largest remainder first, so that they add up to `width`."""
    total = sum(share.fraction for share in shares)
    if total <= 0:
        return []
    exact = [share.fraction / total * width for share in shares]
    cells = [int(part) for part in exact]
    order = sorted(range(len(shares)), key=lambda i: (cells[i] - exact[i], i))
    for index in order[: width - sum(cells)]:
        cells[index] += 1
    return list(zip(shares, cells, strict=True))


class BlameBar(LineWidget):
    """Title, bar, legend."""

    DEFAULT_CSS = "BlameBar { height: 3; }"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="blame")
        self._shares: tuple[Share, ...] = ()
        self._period = ""
        self._seconds = 0.0

    class Picked(Message):
        """A part of the bar, or its name, was clicked."""

        def __init__(self, verdict: str) -> None:
            super().__init__()
            self.verdict = verdict

    def show(self, shares: tuple[Share, ...], period: str, seconds: float = 0.0) -> None:
        """`seconds`: how long that was, where the legend is to tell seconds too."""
        self._shares, self._period, self._seconds = shares, period, seconds
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        rows = [title(self.appearance, "Where capacity went", width, self._period)]
        shares = by_verdict(self._shares)
        if not shares:
            return [*rows, Row().put(" nothing to account for yet", "dim").line()]
        legend = self._legend(shares, width)
        if len(legend) > height - 2:  # which resource is less than which verdict
            legend = self._legend(shares, width, resources=False)[: height - 2]
        bar_lines = max(1, min(2, height - 1 - len(legend)))
        rows.extend(self._bar(shares, width, index == 0) for index in range(bar_lines))
        return rows + legend

    def legend_lines(self, shares: Sequence[Share], width: int) -> int:
        """Lines that the whole legend takes at this width."""
        return len(self._legend(by_verdict(shares), width))

    def on_click(self, event: Click) -> None:
        """The verdict whose colour the clicked cell has."""
        line = self._lines[event.y] if 0 < event.y < len(self._lines) else ()
        colour = _style_at(line, event.x).rpartition(" on ")[2]
        for share in by_verdict(self._shares):
            if verdict_look(share.verdict).colour == colour and share.fraction >= SEEN:
                self.post_message(self.Picked(share.verdict))
                return

    def _bar(self, shares: Sequence[Share], width: int, labelled: bool) -> StyledLine:
        row = Row().put(" ")
        for share, cells in parts(shares, width - 2):
            appearance = verdict_look(share.verdict)
            hatch = appearance.hatch
            fill = f"shade-{appearance.colour} on {appearance.colour}"
            if not self.appearance.palette.colour:
                fill = "text"
                hatch = self.appearance.glyphs.bar_full if hatch == " " else hatch
            text = f"{appearance.letter} {percent(share.fraction)}"
            front = "bright" if appearance.colour == "faint" else "ink"
            if not labelled or cells < 3:
                if labelled and cells:
                    row.put(appearance.letter, f"bold {front} on {appearance.colour}")
                    cells -= 1
                row.put(hatch * cells, fill)
                continue
            label = f" {text} " if cells >= len(text) + 2 else f" {appearance.letter} "
            row.put(label, f"bold {front} on {appearance.colour}")
            row.put(hatch * (cells - len(label)), fill)
        return row.line()

    def _legend(
        self, shares: Sequence[Share], width: int, resources: bool = True
    ) -> list[StyledLine]:
        rows: list[StyledLine] = []
        row = Row().put(" ")
        for share in shares:
            if share.fraction < SEEN:
                continue
            appearance = verdict_look(share.verdict)
            name = phrase(share.verdict)
            named = resources and share.resource and share.verdict != "working"
            where = f" {share.resource}" if named else ""
            part = percent(share.fraction)
            if self._seconds:
                part += f" {duration(share.fraction * self._seconds)}"
            need = 4 + width_of(name) + width_of(where) + 1 + len(part)
            if row.used > 1 and row.used + need > width:
                rows.append(row.line())
                row = Row().put(" ")
            front = "bright" if appearance.colour == "faint" else "ink"
            row.put(f" {appearance.letter} ", f"bold {front} on {appearance.colour}").put(" ")
            row.put(name, "text").put(where, "dim").put(f" {part}", "bold bright").put("   ")
        rows.append(row.line())
        return rows


def _style_at(line: StyledLine, x: int) -> str:
    used = 0
    for text, style in line:
        used += width_of(text)
        if x < used:
            return style
    return ""
