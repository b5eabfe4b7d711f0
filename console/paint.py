"""Styled lines, and the only conversion of strings to Rich segments.

Names, messages and payloads are untrusted: every character that could control a terminal is
replaced, nothing is interpreted as markup, and every line is exactly as wide as requested.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, takewhile
from operator import itemgetter

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.strip import Strip

from console.theme import Palette
from replay.sources.sanitize import printable

StyledLine = tuple[tuple[str, str], ...]
"""One line: (text, style name) from left to right."""

_VARIATION = re.compile("[\ufe00-\ufe0f]")
_style_of = itemgetter(1)
_TO_ASCII = str.maketrans(
    {
        # Textual draws its borders and scroll bars with these, in part or in full.
        **{chr(code): "+" for code in range(0x2500, 0x2580)},
        **{chr(code): "#" for code in range(0x2580, 0x25A0)},
        **dict.fromkeys("─━┄┅┈┉╌╍═╴╶╸╺", "-"),
        **dict.fromkeys("│┃┆┇┊┋╎╏║╵╷╹╻▏▎▍▌▕▐", "|"),
        **dict.fromkeys("▁▂▔", " "),
        "\N{RIGHT-POINTING MAGNIFYING GLASS}": "> ",
        "\N{NO-BREAK SPACE}": " ",
        "•": "*",
        "●": "*",
        "·": "|",
        "×": "x",
        "…": "~",
        "–": "-",
        "—": "-",
        "→": ">",
        "←": "<",
        "↑": "^",
        "↓": "v",
        "¼": "0.25",
        "½": "0.5",
        "░": ":",
        "█": "#",
        "─": "-",
        "│": "|",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
    }
)


@lru_cache(8192)
def measured(text: str) -> tuple[str, int]:
    """`text` without control, format, private and unassigned characters; its width in cells."""
    text = printable(text)
    if text.isascii():
        return text, len(text)
    text = _VARIATION.sub("", text)
    return text, cell_len(text)


def clean(text: str) -> str:
    """The text with every character replaced that could control a terminal."""
    return measured(text)[0]


def to_ascii(text: str) -> str:
    """`text` in ASCII; a character without an ASCII form becomes as many `?` as it has cells."""
    if text.isascii():
        return text
    text = measured(text)[0].translate(_TO_ASCII)
    return "".join(char if char.isascii() else "?" * cell_len(char) for char in text)


def width_of(text: str) -> int:
    """Number of terminal cells that the text takes."""
    return len(text) if text.isascii() else measured(text)[1]


def fit(text: str, width: int, align: str = "<") -> str:
    """`text` in exactly `width` cells: cut with `…`, or padded on the side `align` leaves free."""
    if width <= 0:
        return ""
    text, length = measured(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width > 1 else "…"
    if align == ">":
        return " " * (width - length) + text
    return text + " " * (width - length)


def fit_tail(text: str, width: int) -> str:
    """Like `fit`, but keeps the end, where long names mostly differ."""
    text, length = measured(text)
    if length <= width or width <= 1:
        return fit(text, width)
    if text.isascii():
        return "…" + text[length - width + 1 :]
    start = 0
    while length > width - 1:
        length -= cell_len(text[start])
        start += 1
    return fit("…" + text[start:], width)


class Row:
    """Builds one styled line from left to right."""

    __slots__ = ("_parts", "used")

    def __init__(self) -> None:
        self._parts: list[tuple[str, str]] = []
        self.used = 0

    def put(
        self, text: str, style: str = "text", width: int | None = None, align: str = "<"
    ) -> Row:
        if width is None:
            text, width = measured(text)
        else:
            text = fit(text, width, align)
        if text:
            self._parts.append((text, style))
            self.used += width
        return self

    def to(self, column: int, style: str = "text", fill: str = " ") -> Row:
        """Fill up to `column`."""
        if column > self.used:
            self._parts.append((fill * (column - self.used), style))
            self.used = column
        return self

    def line(self) -> StyledLine:
        return tuple(self._parts)


def cut_line(line: StyledLine, width: int) -> StyledLine:
    """A line of at most `width` cells, cut with `…`."""
    if sum(width_of(text) for text, _ in line) <= width:
        return line
    kept = Row()
    for text, style in line:
        room = width - kept.used
        if width_of(text) >= room:
            kept.put(fit(f"{text}…", room), style)
            break
        kept.put(text, style)
    return kept.line()


def join_cells(cells: Sequence[tuple[str, str]]) -> StyledLine:
    """Single cells joined where the style stays the same."""
    return tuple(
        ("".join([text for text, _ in group]), style) for style, group in groupby(cells, _style_of)
    )


def changed_span(old: StyledLine, new: StyledLine, width: int) -> tuple[int, int]:
    """The cells from the first to behind the last in which two lines differ, both cut at `width`
    and filled up alike."""
    texts = ["".join([text for text, _ in line]) for line in (old, new)]
    narrow = all(text.isascii() or _are_narrow(frozenset(text)) for text in texts)
    totals = [len(text) if narrow else width_of(text) for text in texts]
    start = _alike(old, new, 1, narrow)
    if totals[0] != totals[1] or totals[1] > width:
        return min(start, width), width
    return start, max(start, totals[1] - _alike(old, new, -1, narrow))


@lru_cache(4096)
def _are_narrow(characters: frozenset[str]) -> bool:
    """Whether each of them takes one cell."""
    return all(measured(character) == (character, 1) for character in characters)


def _alike(old: StyledLine, new: StyledLine, direction: int, narrow: bool) -> int:
    """Cells that two lines have in common from the left (1) or from the right (-1); `narrow`: each
    of their characters takes one."""
    cells = 0
    for (before, style), (after, other) in zip(old[::direction], new[::direction], strict=False):
        if before == after and style == other:
            cells += len(before) if narrow else width_of(before)
            continue
        if style == other and narrow:
            pairs = zip(before[::direction], after[::direction], strict=False)
            cells += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        break
    return cells


class AsciiFilter(LineFilter):
    """Converts what Textual draws itself to ASCII: palette, inputs, borders and scroll bars."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]


def to_strip(
    line: StyledLine, width: int, palette: Palette, ascii_only: bool, ground: str
) -> Strip:
    """A strip of exactly `width` cells, filled up in the style `ground`."""
    segments: list[Segment] = []
    used = 0
    for raw, style in line:
        text, length = measured(to_ascii(raw) if ascii_only else raw)
        if used + length > width:
            text = set_cell_size(text, width - used)
            length = width - used
        if length:
            segments.append(Segment(text, palette[style]))
            used += length
        if used >= width:
            break
    if used < width:
        segments.append(Segment(" " * (width - used), palette[ground]))
    return Strip(segments, width)
