"""Two runs side by side as lines: what each was, how they differ, and their courses overlaid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from console.formatting import count, duration, percent, short
from console.paint import Row, StyledLine, cut_line, fit
from console.theme import Appearance, verdict_look
from console.widgets.blame_bar import parts
from console.widgets.chart import nice_step, resample
from console.widgets.panel import title
from replay.diagnosis.report.shares import Share
from replay.diagnosis.report.text_layout import wrap
from replay.diagnosis.verdicts import clock, phrase
from replay.metrics.compare import Comparison, Side
from replay.metrics.compare_text import WORDS, change_text, meaning, name_text, number_text
from replay.metrics.difference import Difference
from replay.metrics.overlay import QUEUE, Course

_STYLES = {
    "better": "bold green",
    "worse": "bold vermillion",
    "seems_better": "green",
    "seems_worse": "vermillion",
    "different": "bright",
    "too_close": "dim",
    "same": "dim",
    "unknown": "dim",
}
_CHART, _LEAST_CHART_WIDTH = 8, 30
_A, _B = "sky", "orange"


def compare_lines(
    comparison: Comparison,
    appearance: Appearance,
    width: int,
    by_progress: bool,
    differing_only: bool,
) -> list[StyledLine]:
    """All there is to read, the most important first."""
    lines: list[StyledLine] = []
    sides = (comparison.a, comparison.b)
    for letter, colour, side, course in zip("AB", (_A, _B), sides, comparison.courses, strict=True):
        lines.append(cut_line(_side(letter, colour, side, course), width))
    lines += [Row().put(f" {line}", "dim").line() for line in wrap(meaning(comparison), width - 2)]
    lines.append(())
    lines += _outcome(comparison, appearance, width)
    lines += _blame(comparison, appearance, width)
    lines += _settings(comparison, appearance, width)
    lines += _courses(comparison, appearance, width, by_progress)
    lines += _table("Metrics", comparison.metrics, appearance, width, differing_only)
    lines += _table("Ceilings", comparison.ceilings, appearance, width, differing_only)
    return lines


def _side(letter: str, colour: str, side: Side, course: Course | None) -> StyledLine:
    row = Row().put(f" {letter} ", f"bold ink on {colour}").put(f" {side.title} ", "bold bright")
    good = side.outcome in (None, "success")
    row.put(side.outcome or "", "green" if good else "bold vermillion")
    if course is not None:
        dropped = course.rows_dropped
        row.put(f"  {count(course.rows_done)} rows in {duration(course.seconds)}", "text")
        if dropped:
            row.put(f", {count(dropped)} dropped", "bold vermillion")
    elif side.runs > 1:
        row.put(f"  {side.runs} runs", "text")
    return row.put(f"  {side.target}", "dim").line()


def _outcome(comparison: Comparison, appearance: Appearance, width: int) -> Iterator[StyledLine]:
    """What counts first: how it ended, how long it took, how fast it was."""
    yield title(appearance, "Outcome", width, "B against A")
    a, b = comparison.courses
    name = 22
    if a is not None and b is not None:
        for label, left, right in (
            ("rows done", float(a.rows_done), float(b.rows_done)),
            ("rows dropped", float(a.rows_dropped), float(b.rows_dropped)),
            ("rows a second", a.rows_per_second, b.rows_per_second),
        ):
            row = Row().put(f" {label}", "text", name)
            for value in (left, right):
                text = "–" if value is None else short(value) if value % 1 else count(int(value))
                row.put(text, "bright", 12, ">")
            if left and right is not None:
                row.put(f"{100 * (right / left - 1):+.1f} %", "text", 12, ">")
            yield cut_line(row.line(), width)
    for difference in comparison.metrics:
        if difference.name == "wall_time":
            yield _difference(difference, "wall time", name, width)
    yield ()


def _blame(comparison: Comparison, appearance: Appearance, width: int) -> Iterator[StyledLine]:
    """One bar for each, and what changed most."""
    rows = [row for row in comparison.verdict_shares if row.a is not None and row.b is not None]
    if not rows:
        return
    yield title(appearance, "Where capacity went", width)
    for letter, colour in (("A", _A), ("B", _B)):
        bar = Row().put(f" {letter} ", f"bold ink on {colour}").put(" ")
        shares = [Share(row.name, (row.a if letter == "A" else row.b) or 0.0) for row in rows]
        for share, cells in parts(shares, width - 6):
            look = verdict_look(share.verdict)
            front = "bright" if look.colour == "faint" else "ink"
            label = f"{look.letter} {percent(share.fraction)}"
            label = label if cells > len(label) else look.letter[:cells]
            bar.put(fit(label, cells) if cells else "", f"bold {front} on {look.colour}")
        yield bar.line()
    changed = sorted(rows, key=lambda row: -abs(row.change or 0.0))
    for row in changed[:6]:
        look = verdict_look(row.name)
        front = "bright" if look.colour == "faint" else "ink"
        line = Row().put(" ").put(f" {look.letter} ", f"bold {front} on {look.colour}").put(" ")
        line.put(phrase(row.name), "text", 28)
        line.put(percent(row.a or 0.0), "bright", 7, ">").put(
            percent(row.b or 0.0), "bright", 8, ">"
        )
        line.put(change_text(row), "text", 13, ">")
        line.put(f"  {WORDS[row.judgement]}", _STYLES[row.judgement])
        yield cut_line(line.line(), width)
    yield ()


def _settings(comparison: Comparison, appearance: Appearance, width: int) -> Iterator[StyledLine]:
    yield title(appearance, "Settings that differ", width, count(len(comparison.settings)))
    if not comparison.settings:
        yield Row().put(" none that both tell", "dim").line()
    name = max(16, min(44, width // 2))
    for setting in comparison.settings:
        row = Row().put(f" {setting.name}", "text", name).put(" ")
        row.put(setting.a or "–", _A).put(" → ", "dim").put(setting.b or "–", _B)
        yield cut_line(row.line(), width)
    yield ()


def _courses(
    comparison: Comparison, appearance: Appearance, width: int, by_progress: bool
) -> Iterator[StyledLine]:
    """Queue depth and ceilings of both, one over the other."""
    a, b = comparison.courses
    if a is None or b is None or width < _LEAST_CHART_WIDTH:
        return
    seconds = max(a.seconds, b.seconds)
    names = [QUEUE, *(name for name in {**a.series, **b.series} if name != QUEUE)]
    for name in names:
        sides = [
            None
            if name not in course.series
            else course.by_progress(name)
            if by_progress
            else course.over(name, seconds)
            for course in (a, b)
        ]
        along = "by progress" if by_progress else "from the start"
        yield title(appearance, "Queued tasks" if name == QUEUE else name, width, along)
        yield from _overlay(sides, appearance, width)
        yield _axis(None if by_progress else seconds, appearance, width)
    yield ()


def _overlay(
    sides: Sequence[Sequence[float] | None], appearance: Appearance, width: int
) -> Iterator[StyledLine]:
    """A as an area, B as a line of its letter; told apart without colour too."""
    inner = width - 8
    top = max((max(values) for values in sides if values), default=0.0) or 1.0
    area = resample(sides[0] or [0.0], inner)
    line = resample(sides[1], inner) if sides[1] is not None else None
    glyphs = appearance.glyphs
    for level in range(_CHART, 0, -1):
        label = short(top) if level == _CHART else "0" if level == 1 else ""
        row = Row().put(label, "dim", 6, ">").put(glyphs.now, "faint")
        for column in range(inner):
            height = area[column] / top * _CHART
            filled = height >= level - 0.5
            mark = line is not None and max(1, round(line[column] / top * _CHART)) == level
            ground = " on area" if filled and appearance.palette.colour else ""
            if mark:
                row.put("B", f"bold {_B}{ground}")
            else:
                row.put(glyphs.bar_begun if filled else " ", f"{_A}{ground}")
        yield row.line()


def _axis(seconds: float | None, appearance: Appearance, width: int) -> StyledLine:
    row, inner = Row().put(" " * 7), width - 8
    whole = 100.0 if seconds is None else max(seconds, 0.001)
    step = 20.0 if seconds is None else nice_step(whole, max(1, inner // 12))
    tick = 0.0
    while (column := 7 + round(tick / whole * inner)) < width - 8:
        row.to(column).put(appearance.glyphs.tick, "faint")
        row.put(f"{tick:.0f} %" if seconds is None else clock(tick, tenths=step < 1), "dim")
        tick += step
    return row.line()


def _table(
    name: str,
    rows: Sequence[Difference],
    appearance: Appearance,
    width: int,
    differing_only: bool,
) -> Iterator[StyledLine]:
    known = [row for row in rows if row.a is not None and row.b is not None]
    if not known:
        return
    shown = [row for row in known if row.judgement not in ("same", "too_close")]
    rest = len(known) - len(shown)
    note = f"{rest} the same or too close to tell" if rest else ""
    yield title(appearance, name, width, note)
    room = max(20, min(40, width - 44))
    about = ""
    for row in shown if differing_only else known:
        resource, _, fact = row.name.rpartition(": ")
        if resource and resource != about:
            about = resource
            yield cut_line(Row().put(f" {resource}", "bright").line(), width)
        label = f"  {fact}" if resource else name_text(row).replace("_", " ")
        yield _difference(row, label, room, width)
    yield ()


def _difference(row: Difference, label: str, room: int, width: int) -> StyledLine:
    line = Row().put(f" {label}", "text", room)
    for value in (row.a, row.b):
        line.put(number_text(value, row.unit), "bright", 12, ">")
    line.put(change_text(row) if row.change is not None else "", "text", 12, ">")
    noise = ", beyond noise" if row.noise == "beyond" else ""
    line.put(f"  {WORDS[row.judgement]}{noise}", _STYLES[row.judgement])
    return cut_line(line.line(), width)
