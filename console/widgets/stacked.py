"""Stacked series over time: blame, queue depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.formatting import percent, short
from console.paint import Row, StyledLine, width_of
from console.theme import Appearance, verdict_look
from console.widgets.axis import column_time, time_axis
from console.widgets.chart import stacked_chart
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.diagnosis.verdicts import phrase
from replay.playback.frame import Frame

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_AXIS_FROM = 6
"""Lines from which on a chart with a legend has a time axis too."""
_GROUP_COLOURS = ("sky", "orange", "green", "purple", "yellow", "blue", "vermillion", "grey")


@dataclass(frozen=True, slots=True)
class Layer:
    """One series of a stacked chart, with its place in the legend."""

    name: str
    colour: str
    values: tuple[float, ...]
    fact: str
    """Its number in the legend."""
    letter: str = ""
    """In place of the first free one of its name."""


def letters_for(names: Sequence[str]) -> list[str]:
    """A letter each, the first of its own that is still free."""
    taken: list[str] = []
    for name in names:
        choices = [char for char in name.lower() if char in _LETTERS] + list(_LETTERS)
        taken.append(next((char for char in choices if char not in taken), "?"))
    return taken


class Stacked(LineWidget):
    """Title, chart with its scale, legend. Without colour the layers are drawn as letters."""

    heading = ""
    nothing = ""
    legend = True

    def __init__(self, appearance: Appearance, id: str) -> None:
        super().__init__(appearance, id=id)
        self._frame: Frame | None = None
        self._period = ""

    def show(self, frame: Frame, period: str) -> None:
        self._frame, self._period = frame, period
        self.redraw()

    def time_at(self, x: int) -> float | None:
        return None if self._frame is None else column_time(self._frame, x - 6, self.size.width - 7)

    def layers_of(self, frame: Frame) -> list[Layer]:
        raise NotImplementedError

    def top(self, layers: Sequence[Layer]) -> tuple[float, str]:
        """Value of the upper edge, and its label."""
        raise NotImplementedError

    def draw(self, width: int, height: int) -> Sequence[StyledLine]:
        rows: list[StyledLine] = [title(self.appearance, self.heading, width, self._period)]
        layers = self.layers_of(self._frame) if self._frame else []
        if not layers:
            return [*rows, Row().put(f" {self.nothing}", "dim").line()]
        letters = [
            layer.letter or free
            for layer, free in zip(
                layers, letters_for([layer.name for layer in layers]), strict=True
            )
        ]
        plain = not self.appearance.palette.colour or self.appearance.ascii_only
        top, label = self.top(layers)
        chart = stacked_chart(
            [(layer.colour, layer.values) for layer in layers],
            top,
            width - 7,
            max(1, height - 2 - (self.legend and height >= _AXIS_FROM)),
            self.appearance.glyphs,
            tuple(letters) if plain else (),
        )
        for index, line in enumerate(chart):
            mark = label if index == 0 else "0" if index == len(chart) - 1 else ""
            edge = Row().put(mark, "dim", 5, ">").put(self.appearance.glyphs.now, "faint")
            rows.append(edge.line() + line)
        if self._frame is not None and (height >= _AXIS_FROM or not self.legend):
            rows.append(time_axis(self._frame, width - 7, 6, self.appearance))
        if not self.legend:
            return rows
        legend = Row().put("      ")
        for layer, letter in zip(layers, letters, strict=True):
            if legend.used + width_of(layer.name) + width_of(layer.fact) + 6 > width:
                break
            legend.put(f" {letter} ", f"bold ink on {layer.colour}").put(f" {layer.name}", "text")
            legend.put(f" {layer.fact}", "bold bright").put("  ")
        return [*rows, legend.line()]


class BlameOverTime(Stacked):
    """What the capacity in demand went to: full height is all of it. The bar of the whole span has
    the legend."""

    heading = "Blame over time"
    nothing = "nothing to account for yet"
    legend = False

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, "blame-over-time")

    def layers_of(self, frame: Frame) -> list[Layer]:
        layers = []
        for verdict, values in frame.blame_series:
            look = verdict_look(verdict)
            share = percent(sum(values) / max(1, len(values)))
            layers.append(Layer(phrase(verdict), look.colour, values, share, look.letter))
        return layers

    def top(self, layers: Sequence[Layer]) -> tuple[float, str]:
        return 1.0, "100%"


class QueueDepth(Stacked):
    """Queued tasks by group."""

    heading = "Queue depth"
    nothing = "nothing has queued"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, "depth")

    def layers_of(self, frame: Frame) -> list[Layer]:
        return [
            Layer(
                group.label,
                _GROUP_COLOURS[index % len(_GROUP_COLOURS)],
                values,
                short(group.queued) if group.queued >= 10_000 else str(group.queued),
            )
            for index, (group, values) in enumerate(
                zip(frame.groups, frame.queue_depth, strict=False)
            )
            if any(values)
        ]

    def top(self, layers: Sequence[Layer]) -> tuple[float, str]:
        peak = max(sum(values) for values in zip(*(layer.values for layer in layers), strict=False))
        return max(1.0, peak), short(peak) if peak >= 1000 else f"{peak:.0f}"
