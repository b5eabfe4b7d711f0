"""AIMD ceilings, one small multiple per request resource."""

from __future__ import annotations

from collections.abc import Sequence

from console.formatting import ceiling_facts, cooldown_left, duration, words
from console.paint import Row, StyledLine, cut_line, fit_tail, width_of
from console.theme import Appearance
from console.widgets.axis import time_axis
from console.widgets.chart import ceiling_chart, latest, sparkline
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.playback.frame import CeilingRow, Frame

_FACT_STYLE = {
    "limit": "bold orange",
    "in_flight": "sky",
    "waiting": "purple",
    "cooldown": "bold vermillion",
    "reason": "dim",
}

_LEAST_HEAT = 26
"""Columns of a resource in a heat map."""
_LEAST_TREND = 6

_CAUSES = {"rate_limited": ", a 429", "carried": " got through", "ramp": ", start-up ramp"}
"""Why a ceiling moved, where its name says too little."""


def short_names(resources: Sequence[str]) -> list[str]:
    """Without the domain, where provider and model alone tell them apart."""
    brief = [resource.rpartition("/")[0] or resource for resource in resources]
    return brief if len(set(brief)) == len(brief) else list(resources)


class CeilingPanel(LineWidget):
    """Compact lines where there is little room, charts where there is more."""

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, id="ceilings")
        self._frame: Frame | None = None
        self._period = ""

    def show(self, frame: Frame, period: str) -> None:
        self._frame, self._period = frame, period
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame = self._frame
        rows: list[StyledLine] = [title(self.appearance, "Request ceilings", width, self._period)]
        if frame is None or not frame.ceilings:
            return [*rows, Row().put(" no model has been called yet", "dim").line()]
        room = height - 1
        number = len(frame.ceilings)
        columns = 1
        while room * columns // number < 6 and width // (columns + 1) >= 44:
            columns += 1
        lines = -(-number // columns)
        each = min(room // lines, 24)
        if each < 4:
            return [*rows, *self._compact(frame, width, room)]
        for first in range(0, number, columns):
            blocks = [
                self._chart(row, frame, width // columns, each)
                for row in frame.ceilings[first : first + columns]
            ]
            rows.extend(self._beside(blocks, width // columns))
        return rows

    @staticmethod
    def _beside(blocks: Sequence[Sequence[StyledLine]], width: int) -> list[StyledLine]:
        rows: list[StyledLine] = []
        for parts in zip(*blocks, strict=True):
            row = Row()
            for index, part in enumerate(parts):
                row.to(index * width)
                for text, style in part:
                    row.put(text, style)
            rows.append(row.line())
        return rows

    def _heat(self, frame: Frame, width: int, room: int) -> list[StyledLine]:
        """Many resources, several in a line: how much of each was in use, and what holds it up."""
        names = short_names([row.ceiling.resource for row in frame.ceilings])
        number = len(names)
        columns = max(1, min(-(-number // room), width // _LEAST_HEAT))
        lines = min(room, -(-number // columns))
        each = width // columns
        name = min(max(map(width_of, names)), each - _LEAST_TREND - 3)
        rows = [Row() for _ in range(lines)]
        shown = lines * columns - (lines * columns < number)
        for index, (ceiling_row, label) in enumerate(zip(frame.ceilings, names, strict=True)):
            if index >= shown:
                break
            ceiling, row = ceiling_row.ceiling, rows[index % lines]
            row.to(index // lines * each)
            held = cooldown_left(ceiling, frame.at) > 0
            style = "vermillion" if held else "purple" if ceiling.waiters else "dim"
            row.put(" ").put(fit_tail(label, name), style if style != "dim" else "bright").put(" ")
            cells = each - name - 3
            values = latest(ceiling_row.in_flight, cells)
            row.put(sparkline(values, cells, ceiling.effective_max, self.appearance.glyphs), style)
        if shown < number:
            rows[-1].to((columns - 1) * each + 1).put(f"{number - shown} more", "dim")
        return [row.line() for row in rows]

    def _compact(self, frame: Frame, width: int, room: int) -> list[StyledLine]:
        if len(frame.ceilings) > room > 0 and width >= 2 * _LEAST_HEAT:
            return self._heat(frame, width, room)
        names = short_names([row.ceiling.resource for row in frame.ceilings])
        facts = [ceiling_facts(row.ceiling, frame) for row in frame.ceilings]
        widest = max(sum(width_of(text) + 3 for _, text in line) for line in facts)
        name = max(10, min(max(map(width_of, names)) + 1, width - widest - 8))
        trend = max(0, min(24, width - name - widest - 1))
        rows: list[StyledLine] = []
        shown = frame.ceilings if len(names) <= room else frame.ceilings[: max(0, room - 1)]
        for row, label, line in zip(shown, names, facts, strict=False):
            ceiling = row.ceiling
            drawn = Row().put(" ").put(fit_tail(label, name - 1), "bright").put(" ")
            if trend >= 6:
                values = latest(row.in_flight, trend - 2)
                spark = sparkline(values, trend - 2, ceiling.effective_max, self.appearance.glyphs)
                drawn.put(spark, "sky").put("  ")
            rows.append(self._facts(drawn, line, ceiling.waiters).line())
        if len(shown) < len(names):
            rows.append(Row().put(f" {len(names) - len(shown)} more", "dim").line())
        return rows

    @staticmethod
    def _facts(
        row: Row, facts: Sequence[tuple[str, str]], waiters: int, between: str = " · "
    ) -> Row:
        for index, (what, text) in enumerate(facts):
            if index:
                row.put(between, "faint")
            idle = what == "waiting" and not waiters
            row.put(text, "dim" if idle else _FACT_STYLE[what])
        return row

    def _chart(self, row: CeilingRow, frame: Frame, width: int, height: int) -> list[StyledLine]:
        ceiling, glyphs = row.ceiling, self.appearance.glyphs
        gutter, inner = 5, width - 7
        name = Row().put(" ")
        name.put(
            fit_tail(ceiling.resource, min(width - 2, width_of(ceiling.resource))), "bold bright"
        )
        for last in self._last_change(row, frame.at):
            if width - name.used - width_of(last) > 3:
                name.to(width - width_of(last) - 2).put(last, "dim")
                break
        facts = ceiling_facts(ceiling, frame)
        tight = sum(width_of(text) + 3 for _, text in facts) > width
        summary = self._facts(Row().put(" "), facts, ceiling.waiters, "  " if tight else " · ")
        rows: list[StyledLine] = [
            cut_line(name.line(), width - 1),
            cut_line(summary.line(), width - 1),
        ]
        spare = 1 if height >= 6 else 0
        waiters = 1 if height >= 6 else 0
        top = float(max(ceiling.effective_max, 1, *map(int, row.in_flight or (0,))))
        drawn = ceiling_chart(
            row.limits,
            row.in_flight,
            row.cooling,
            row.rate_limited,
            top,
            inner,
            height - 2 - spare - waiters,
            glyphs,
        )
        for index, line in enumerate(drawn):
            label = f"{top:.0f}" if index == 0 else "0" if index == len(drawn) - 1 else ""
            left = Row().put(label, "dim", gutter - 1, ">").put(glyphs.now, "faint").line()
            rows.append(left + line)
        if waiters:
            most = max(row.waiters, default=0.0)
            trend = Row().put("wait", "dim", gutter - 1, ">").put(glyphs.now, "faint")
            trend.put(sparkline(row.waiters, inner, max(most, 1.0), glyphs), "purple")
            rows.append(trend.line())
        if len(rows) < height:
            rows.append(time_axis(frame, inner, gutter, self.appearance))
        rows.extend(() for _ in range(height - len(rows)))
        return rows

    @staticmethod
    def _last_change(row: CeilingRow, at: float) -> list[str]:
        """The last move of the ceiling, in full and, where more can be said, in brief."""
        change = row.ceiling.last_change
        if change is None or change.previous == change.current or at < change.at:
            return []
        moved = f"{change.previous} → {change.current}"
        moved += _CAUSES.get(change.cause, f", {words(change.cause)}")
        ago = f"{duration(at - change.at)} ago"
        if change.retry_after is None:
            return [f"{moved}, {ago}"]
        return [f"{moved}, retry after {duration(change.retry_after)}, {ago}", f"{moved}, {ago}"]
