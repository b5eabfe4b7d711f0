"""AIMD ceilings, one small multiple per request resource; lanes below tell of its calls."""

from __future__ import annotations

from collections.abc import Sequence

from console.formatting import ceiling_facts, cooldown_left, count, duration, words
from console.paint import Row, StyledLine, cut_line, fit_tail, width_of
from console.theme import Appearance
from console.widgets.axis import time_axis
from console.widgets.chart import ceiling_chart, latest, log_sparkline, sparkline
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
_GUTTER, _LANE_GUTTER = 5, 15
"""Columns left of a chart; with the names of lanes and the highest value of each."""
_LEAST_LANES = 60
"""Columns from which on lanes have their names in full."""
_LEAST_DRAWN = 4
"""Lines of a chart that lanes leave it."""
_SCALE = "latency: each step up is twice as long"
UNTOLD = "how long calls took is not in this recording"

_CAUSES = {"rate_limited": ", a 429", "carried": " got through", "ramp": ", start-up ramp"}
"""Why a ceiling moved, where its name says too little."""


def short_names(resources: Sequence[str]) -> list[str]:
    """Without the domain, where provider and model alone tell them apart."""
    brief = [resource.rpartition("/")[0] or resource for resource in resources]
    return brief if len(set(brief)) == len(brief) else list(resources)


class CeilingPanel(LineWidget):
    """Compact lines where there is little room, charts where there is more."""

    def __init__(self, appearance: Appearance, *, calls: bool = False) -> None:
        """`calls`: with lanes for what became of the calls, below each chart."""
        super().__init__(appearance, id="ceilings")
        self._calls = calls
        self._frame: Frame | None = None
        self._period = ""

    def show(self, frame: Frame, period: str) -> None:
        self._frame, self._period = frame, period
        self.redraw()

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        frame = self._frame
        note = self._period
        known = frame is not None and bool(frame.ceilings)
        if self._calls and known and width >= len(_SCALE) + len(note) + 30:
            note = f"{_SCALE}; {note}"
        rows: list[StyledLine] = [title(self.appearance, "Request ceilings", width, note)]
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
        gutter = _LANE_GUTTER if self._calls and width >= _LEAST_LANES else _GUTTER
        inner = width - gutter - 2
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
        lanes = self._lanes(row, gutter, inner, height - 2 - spare - _LEAST_DRAWN)
        if not lanes and height >= 6:
            lanes = [self._waiting(row, gutter, inner)]
        top = float(max(ceiling.effective_max, 1, *map(int, row.in_flight or (0,))))
        drawn = ceiling_chart(
            row.limits,
            row.in_flight,
            row.cooling,
            row.rate_limited,
            top,
            inner,
            height - 2 - spare - len(lanes),
            glyphs,
        )
        for index, line in enumerate(drawn):
            label = f"{top:.0f}" if index == 0 else "0" if index == len(drawn) - 1 else ""
            left = Row().put(label, "dim", gutter - 1, ">").put(glyphs.now, "faint").line()
            rows.append(left + line)
        rows += lanes
        if len(rows) < height:
            rows.append(time_axis(frame, inner, gutter, self.appearance))
        rows.extend(() for _ in range(height - len(rows)))
        return rows

    def _waiting(self, row: CeilingRow, gutter: int, width: int) -> StyledLine:
        most = max(row.waiters, default=0.0)
        spark = sparkline(row.waiters, width, max(most, 1.0), self.appearance.glyphs)
        return self._lane("waiting", "wait", count(round(most)), gutter, spark, "purple")

    def _lanes(self, row: CeilingRow, gutter: int, width: int, room: int) -> list[StyledLine]:
        """Who waits, how long calls took, and which came to nothing, in at most `room` lines."""
        if not self._calls or room < 1:
            return []
        glyphs = self.appearance.glyphs
        slowest = max(row.latency_p95, default=0.0)
        lanes: list[tuple[int, StyledLine]] = [(0, self._waiting(row, gutter, width))]
        for rank, name, brief, values in (
            (3, "latency", "mean", row.latency or ()),
            (1, "p95", "p95", row.latency_p95),
        ):
            highest = duration(max(values, default=0.0)) if any(values) else "–"
            spark, style = log_sparkline(values, width, slowest, glyphs), "sky"
            if row.latency is None:
                highest, spark, style = "–", UNTOLD[:width], "dim"
            lanes.append((rank, self._lane(name, brief, highest, gutter, spark, style)))
        for rank, name, brief, times in (
            (2, "failed", "fail", row.failed),
            (4, "429s", "429s", row.rate_limited),
        ):
            most = max(times, default=0)
            spark = sparkline(times, width, max(most, 1.0), glyphs)
            lanes.append((rank, self._lane(name, brief, count(most), gutter, spark, "vermillion")))
        return [lane for rank, lane in lanes if rank < room]

    def _lane(
        self, name: str, brief: str, highest: str, gutter: int, spark: str, style: str
    ) -> StyledLine:
        """Its name, the highest value in view where there is room for it, and the values."""
        row = Row()
        if gutter == _LANE_GUTTER:
            row.put(f" {name}", "dim").put(highest, "text", gutter - 1 - row.used, ">")
        else:
            row.put(brief, "dim", gutter - 1, ">")
        return row.put(self.appearance.glyphs.now, "faint").put(spark, style).line()

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
