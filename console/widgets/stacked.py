"""Stacked series over time with their legend: block reasons, queue depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.formatting import percent, short, words
from console.paint import Row, StyledLine, width_of
from console.theme import Appearance, reason_colour
from console.widgets.chart import stacked_chart
from console.widgets.line_widget import LineWidget
from console.widgets.panel import title
from replay.playback.frame import Frame

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_GROUP_COLOURS = ("sky", "orange", "green", "purple", "yellow", "blue", "vermillion", "grey")


@dataclass(frozen=True, slots=True)
class Layer:
    name: str
    colour: str
    values: tuple[float, ...]
    fact: str
    """Its number in the legend."""


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

    def __init__(self, appearance: Appearance, id: str) -> None:
        super().__init__(appearance, id=id)
        self._frame: Frame | None = None
        self._period = ""

    def show(self, frame: Frame, period: str) -> None:
        self._frame, self._period = frame, period
        self.redraw()

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
        letters = letters_for([layer.name for layer in layers])
        plain = not self.appearance.palette.colour or self.appearance.ascii_only
        top, label = self.top(layers)
        chart = stacked_chart(
            [(layer.colour, layer.values) for layer in layers],
            top,
            width - 7,
            max(1, height - 2),
            self.appearance.glyphs,
            tuple(letters) if plain else (),
        )
        for index, line in enumerate(chart):
            mark = label if index == 0 else "0" if index == len(chart) - 1 else ""
            edge = Row().put(mark, "dim", 5, ">").put(self.appearance.glyphs.now, "faint")
            rows.append(edge.line() + line)
        legend = Row().put("      ")
        for layer, letter in zip(layers, letters, strict=True):
            if legend.used + width_of(layer.name) + width_of(layer.fact) + 6 > width:
                break
            legend.put(f" {letter} ", f"bold ink on {layer.colour}").put(f" {layer.name}", "text")
            legend.put(f" {layer.fact}", "bold bright").put("  ")
        return [*rows, legend.line()]


class BlockReasons(Stacked):
    """Why the queue admitted nothing: full height is the whole interval blocked."""

    heading = "Task admission blocked by"
    nothing = "never"

    def __init__(self, appearance: Appearance) -> None:
        super().__init__(appearance, "blocks")

    def layers_of(self, frame: Frame) -> list[Layer]:
        shown = [(name, values) for name, values in frame.block_reasons if any(values)]
        return [
            Layer(
                words(name), reason_colour(name, index), values, percent(sum(values) / len(values))
            )
            for index, (name, values) in enumerate(shown)
        ]

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
