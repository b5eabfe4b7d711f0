"""The time axis below a chart: ticks, the cursor, and the stretch that is marked."""

from __future__ import annotations

from math import ceil

from console.paint import Row, StyledLine, join_cells
from console.theme import Appearance
from console.widgets.chart import nice_step
from replay.diagnosis.verdicts import clock
from replay.playback.frame import Frame

_TICK_CELLS = 14


def span_of(frame: Frame) -> tuple[float, float]:
    """The time that the series of a frame cover, in time of the producer."""
    times = frame.sample_times
    if len(times) < 2:
        return frame.at, frame.at
    step = (times[-1] - times[0]) / (len(times) - 1)
    return times[0] - step, times[-1]


def column_time(frame: Frame, column: int, width: int) -> float | None:
    """The time at the left edge of a column of a chart that is `width` cells wide."""
    left, right = span_of(frame)
    if not 0 <= column <= width or width <= 0:
        return None
    return left + (right - left) * column / width


def time_axis(frame: Frame, width: int, indent: int, appearance: Appearance) -> StyledLine:
    """Run time below a chart of `width` cells that begins at column `indent`."""
    left, right = span_of(frame)
    span = right - left
    if span <= 0 or width < 8:
        return ()
    glyphs = appearance.glyphs
    scale = width / span
    cells: list[tuple[str, str]] = [(" ", "dim")] * width
    step = nice_step(span, max(1, width // _TICK_CELLS))
    tick = ceil((left - frame.t0) / step) * step
    while (column := round((tick + frame.t0 - left) * scale)) < width:
        if tick >= 0:
            text = glyphs.tick + clock(tick, tenths=step < 1)
            if column + len(text) <= width:
                cells[column : column + len(text)] = [(glyphs.tick, "faint")] + [
                    (char, "dim") for char in text[1:]
                ]
        tick += step
    stretch = frame.stretch
    if stretch is not None:
        first = max(0, int((stretch.start - left) * scale))
        last = min(width, max(first + 1, round((stretch.end - left) * scale)))
        cells[first:last] = [(char, "bold ink on sky") for char, _ in cells[first:last]]
    if frame.edge is not None:
        here = round((frame.at - left) * scale)
        if 0 <= here < width:
            cells[here] = (glyphs.now, "bold bright")
    return Row().put(" " * indent).line() + join_cells(cells)
