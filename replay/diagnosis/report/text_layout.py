"""Layout of text in the cells of a terminal: how wide it is, cut, padded and wrapped.

Chinese, Japanese and Korean characters and most emoji take two cells, combining marks none.
"""

from __future__ import annotations

import textwrap
import unicodedata
from functools import lru_cache

_NO_BREAK = "\N{NO-BREAK SPACE}"


def cells(text: str) -> int:
    """How many cells `text` takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


@lru_cache(4096)
def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def head(text: str, width: int) -> str:
    """The longest beginning of `text` that takes at most `width` cells."""
    if text.isascii():
        return text[: max(0, width)]
    used = 0
    for index, char in enumerate(text):
        used += _width(char)
        if used > width:
            return text[:index]
    return text


def cut(text: str, width: int, mark: str = "~") -> str:
    """`text`, its end replaced by `mark` where it takes more than `width` cells."""
    return text if cells(text) <= width else head(text, width - 1) + mark


def left(text: str, width: int) -> str:
    """`text` at the left of `width` cells."""
    return text + " " * (width - cells(text))


def right(text: str, width: int) -> str:
    """`text` at the right of `width` cells."""
    return " " * (width - cells(text)) + text


def wrap(
    text: str,
    width: int,
    first: str = "",
    rest: str | None = None,
    *,
    max_lines: int | None = None,
    mark: str = "…",
) -> list[str]:
    """Wrap text; a percentage stays in one piece, and only a word longer than a line is broken.

    Args:
        text: One paragraph.
        width: Cells of a line.
        first: Indent of the first line.
        rest: Indent of the other lines; None indents them like the first.
        max_lines: Lines at most; None for as many as it takes.
        mark: Replaces what `max_lines` cuts off.
    """
    if width <= 0:
        return []
    rest = first if rest is None else rest
    text = text.replace(" %", f"{_NO_BREAK}%")
    if text.replace(_NO_BREAK, "").isascii() and first.isascii() and rest.isascii():
        lines = textwrap.wrap(
            text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )
    else:
        lines = _wrap_wide(text, width, first, rest)
    if max_lines is not None and len(lines) > max_lines:
        last = " ".join([lines[max_lines - 1], *map(str.strip, lines[max_lines:])])
        lines[max_lines - 1 :] = [cut(last, width, mark)]
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _wrap_wide(text: str, width: int, first: str, rest: str) -> list[str]:
    lines: list[str] = []
    indent, line = first, ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cells(indent) + cells(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(indent + line)
            indent = rest
        while cells(indent) + cells(word) > width:
            part = head(word, width - cells(indent)) or word[:1]
            lines.append(indent + part)
            indent, word = rest, word[len(part) :]
        line = word
    return [*lines, indent + line] if line else lines
