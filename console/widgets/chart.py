"""Charts of one sample a column, as cells: pure functions from numbers to (glyph, style)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import ceil, log2, log10

from console.paint import StyledLine, join_cells
from console.theme import Glyphs

Cell = tuple[str, str]
_EMPTY = (" ", "text")


def resample(values: Sequence[float], width: int) -> list[float]:
    """`values` in `width` columns: the peak where several fall together, repeated where few."""
    size = len(values)
    if size == 0 or width <= 0:
        return []
    if size == width:
        return list(values)
    if size < width:
        return [values[column * size // width] for column in range(width)]
    edges = [column * size // width for column in range(width + 1)]
    return [
        max(values[start:end]) if end - start > 1 else values[start]
        for start, end in pairwise(edges)
    ]


def latest(values: Sequence[float], width: int) -> list[float]:
    """As `resample`, but keeps the last value as it is: it is the one in the text beside."""
    columns = resample(values, width)
    if columns:
        columns[-1] = values[-1]
    return columns


def sparkline(values: Sequence[float], width: int, top: float, glyphs: Glyphs) -> str:
    """One line of eighth blocks for counts.

    A value above 0.05 draws at least one step, a smaller one draws nothing.
    """
    if not values or width <= 0:
        return " " * width
    steps = len(glyphs.sparks) - 1
    scale = steps / top if top > 0 else 0.0
    return "".join(
        glyphs.sparks[max(1, min(steps, round(value * scale)))]
        if value > 0.05
        else glyphs.sparks[0]
        for value in latest(values, width)
    )


def log_sparkline(values: Sequence[float], width: int, top: float, glyphs: Glyphs) -> str:
    """One line of eighth blocks for times: each step stands for twice as long.

    So a short time is seen beside one a hundred times as long. 0 draws nothing.
    """
    steps = len(glyphs.sparks) - 1
    return "".join(
        glyphs.sparks[max(1, min(steps, round(steps - log2(max(1.0, top / value)))))]
        if value > 0
        else glyphs.sparks[0]
        for value in resample(values, width)
    ).ljust(max(0, width))


SHORTEST_BAR_SECONDS = 0.01
CELLS_PER_DECADE = 3
WAIT_BAR_CELLS = 15
"""Five powers of ten: of 1,000 s and more a bar is full."""


def wait_bar(seconds: float | None, glyphs: Glyphs) -> str:
    """A wait as a bar on a log scale: a cell from 10 ms on, three more for ten times as long."""
    if seconds is None or seconds < SHORTEST_BAR_SECONDS:
        return ""
    cells = round(CELLS_PER_DECADE * log10(seconds / SHORTEST_BAR_SECONDS))
    return glyphs.bar_full * max(1, min(cells, WAIT_BAR_CELLS))


def ceiling_chart(
    limits: Sequence[float],
    in_flight: Sequence[float],
    cooling: Sequence[bool],
    rate_limited: Sequence[int],
    top: float,
    width: int,
    height: int,
    glyphs: Glyphs,
) -> list[StyledLine]:
    """The limit as a stepped line over what is in flight as an area.

    A cooldown tints its columns and fills them above the limit; a 429 is marked in the top row.
    `height` rows, from the top; the value `top` is the upper edge of the first row.
    """
    line = latest(limits, width)
    area = latest(in_flight, width)
    cold = resample([float(flag) for flag in cooling], width)
    marks = resample([float(times) for times in rate_limited], width)
    scale = height / top if top > 0 else 0.0
    columns = [
        _ceiling_column(area[x], line[x], cold[x] > 0, marks[x] > 0, scale, height, glyphs)
        for x in range(width)
    ]
    return [join_cells(cells) for cells in zip(*columns, strict=True)]


@lru_cache(4096)
def _ceiling_column(
    in_flight: float,
    limit: float,
    cold: bool,
    marked: bool,
    scale: float,
    height: int,
    glyphs: Glyphs,
) -> tuple[Cell, ...]:
    """One column from the top down. Kept: the same columns move on from frame to frame."""
    steps = len(glyphs.sparks) - 1
    ground = "cool" if cold else "bg"
    area, limit = min(in_flight * scale, height), limit * scale
    full = int(area)
    column: list[Cell] = [(glyphs.sparks[-1], f"area on {ground}")] * full
    part = round((area - full) * steps)
    if full < height and part > 0:
        column.append((glyphs.sparks[part], f"area on {ground}"))
    rest = height - len(column)
    column.extend([(" ", f"text on {ground}")] * rest)
    if limit > 0:
        row = min(height - 1, ceil(limit - 0.0001) - 1)
        level = limit - row
        if level > 0.67:
            glyph = glyphs.limit_high
        else:
            glyph = glyphs.limit_mid if level > 0.34 else glyphs.limit_low
        filled = area - row
        under = "area" if filled >= 0.5 and filled >= level - 0.2 else ground
        if cold:
            first = max(row + 1, height - rest)
            column[first:] = [(glyphs.cooling, f"faint on {ground}")] * (height - first)
        column[row] = (glyph, f"bold orange on {under}")
    if marked:
        column[-1] = (glyphs.rate_limited, f"bold vermillion on {ground}")
    return tuple(reversed(column))


def stacked_chart(
    series: Sequence[tuple[str, Sequence[float]]],
    top: float,
    width: int,
    height: int,
    glyphs: Glyphs,
    letters: tuple[str, ...] = (),
) -> list[StyledLine]:
    """Series (colour, values) one upon the other.

    A cell that holds the border of two shows the lower one as an eighth block over the other's
    colour. With `letters`, each cell is the letter of its series instead.
    """
    resampled = [latest(values, width) for _, values in series]
    if not all(resampled):
        return [()] * height
    colours = tuple(colour for colour, _ in series)
    scale = height / top if top > 0 else 0.0
    columns = [
        _stacked_column(values, colours, scale, height, glyphs, letters)
        for values in zip(*resampled, strict=True)
    ]
    return [join_cells(cells) for cells in zip(*columns, strict=True)]


@lru_cache(4096)
def _stacked_column(
    values: tuple[float, ...],
    colours: tuple[str, ...],
    scale: float,
    height: int,
    glyphs: Glyphs,
    letters: tuple[str, ...],
) -> tuple[Cell, ...]:
    """One column from the top down. Kept: the same columns move on from frame to frame."""
    column: list[Cell] = []
    edges: list[tuple[float, int]] = []
    lower = upper = 0.0
    for index, value in enumerate(values):
        if value > 0:
            upper = min(float(height), upper + value * scale)
            edges.append((upper, index))
    for edge, index in edges:
        if letters:
            until = round(edge) or 1
            column.extend([(letters[index], colours[index])] * (until - len(column)))
            continue
        whole = int(edge)
        if len(column) < whole:
            if len(column) < lower:
                column.append(_stacked_cell(edges, len(column), colours, glyphs))
            column.extend([(glyphs.sparks[-1], colours[index])] * (whole - len(column)))
        lower = edge
    if not letters and len(column) < upper - 0.06:
        column.append(_stacked_cell(edges, len(column), colours, glyphs))
    column.extend([_EMPTY] * (height - len(column)))
    return tuple(reversed(column))


def _stacked_cell(
    edges: Sequence[tuple[float, int]], base: int, colours: Sequence[str], glyphs: Glyphs
) -> Cell:
    """The cell of row `base`: the lowest layer in it, and the largest of those above."""
    inside: list[tuple[float, int]] = []
    lower = float(base)
    for edge, index in edges:
        if edge - lower > 0.06:
            inside.append((min(edge, base + 1.0) - lower, index))
        lower = max(lower, edge)
        if lower >= base + 1:
            break
    if not inside:
        return _EMPTY
    steps = len(glyphs.sparks) - 1
    share, first = inside[0]
    if len(inside) == 1 or not glyphs.stacked:
        share = min(1.0, lower - base)
        return glyphs.sparks[max(1, round(share * steps))], colours[first]
    _, second = max(inside[1:])
    glyph = glyphs.sparks[max(1, min(steps - 1, round(share * steps)))]
    return glyph, f"{colours[first]} on {colours[second]}"


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5, 10, 15, 30 s, 1, 2, 5 min … that gives at most `most` ticks."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900):
        if span / step <= most:
            return step
    step = 1800.0
    while span / step > most:
        step *= 2
    return step
