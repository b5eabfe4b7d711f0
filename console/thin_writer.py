"""`ThinWriter`: the same picture with fewer bytes.

Rich writes every piece of text as a whole style before it and a reset behind it, and Textual writes
a line from its first change to its last. A thin link carries most of both for nothing. This follows
what the terminal shows, and writes the cells and the parts of styles that differ from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rich.cells import cell_len

_TOKEN = re.compile(
    r"\x1b\[(?P<style>[0-9;]*)m"
    r"|(?P<move>\x1b\[[0-9;]*H)"
    r"|(?P<other>\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b)"
    r"|(?P<text>[^\x1b]+)"
)
_FOREGROUND, _BACKGROUND = re.compile("3[0-79]|9[0-7]"), re.compile("4[0-79]|10[0-7]")
_EXTENDED = {"5": 1, "2": 3}
"""After 38 or 48: how many numbers follow the kind of a colour."""

_CHEAP_CELLS = 2
"""So few unchanged cells are rather written again than skipped."""
_HARMLESS = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[\?(?:25|2026|1000|1002|1003|1006)[hl]"
)
"""They leave cells and cursor alone: titles, shapes of the pointer, synchronized output."""

_Style = tuple[frozenset[str], str, str]
"""Attributes, foreground, background."""
_PLAIN: _Style = (frozenset(), "", "")
_STYLES: dict[_Style, _Style] = {_PLAIN: _PLAIN}
"""Equal styles are one object."""


class ThinWriter:
    """Follows one terminal. Whatever it does not know to leave cells alone makes it start anew."""

    def __init__(self) -> None:
        self._wanted: _Style = _PLAIN
        self._set: _Style | None = None
        """None: somebody else may have written."""
        self._lines: dict[int, tuple[list[str], list[_Style]]] = {}
        """What is known to be shown: line -> characters and styles by column, "" for unknown."""
        self._at: tuple[int, int] | None = None
        """Where text goes; None: wherever the terminal's cursor is."""
        self._cursor: tuple[int, int] | None = None

    def forget(self) -> None:
        """Somebody else writes to the terminal from now on, or has."""
        self._wanted, self._set = _PLAIN, None
        self._forget_cells()

    def shorten(self, text: str) -> str:
        """What shows the same as `text`, which holds whole escape sequences."""
        if "\n" in text:  # a whole screen: after a resize, of which nothing else tells here
            self._forget_cells()
        return "".join(self._parts(text))

    def _forget_cells(self) -> None:
        self._lines.clear()
        self._at = self._cursor = None

    def _parts(self, text: str) -> Iterator[str]:
        for token in _TOKEN.finditer(text):
            if token["style"] is not None:
                self._wanted = _after(self._wanted, token["style"])
            elif token["move"] is not None:
                line, _, column = token["move"][2:-1].partition(";")
                self._at = int(line or 1), int(column or 1)
            elif token["text"] is not None:
                yield from self._cells(token["text"])
            else:
                yield self._move()
                yield self._change()
                yield token[0]
                if not _HARMLESS.fullmatch(token[0]):
                    self._forget_cells()
        yield self._move()

    def _cells(self, text: str) -> Iterator[str]:
        if self._at is None or not text.isprintable() or cell_len(text) != len(text):
            yield self._move()
            yield self._change()
            yield text
            self._forget_cells()
            return
        y, x = self._at
        style, size = self._wanted, len(text)
        shown, styles = self._lines.setdefault(y, ([], []))
        if len(shown) < x + size:
            missing = x + size - len(shown)
            shown += [""] * missing
            styles += [_PLAIN] * missing
        until = x + size
        same_style = [known is style for known in styles[x:until]]
        if all(same_style):
            if "".join(shown[x:until]) == text:
                self._at = y, until
                return
            changed = [known != new for known, new in zip(shown[x:until], text, strict=True)]
        else:
            changed = [
                not same or known != new
                for same, known, new in zip(same_style, shown[x:until], text, strict=True)
            ]
        first = 0
        while first < size:
            if not changed[first]:
                first += 1
                continue
            last = first + 1
            while True in changed[last : last + _CHEAP_CELLS]:
                last += changed[last:].index(True) + 1
            self._at = y, x + first
            yield self._move()
            yield self._change()
            yield text[first:last]
            self._cursor = y, x + last
            first = last
        shown[x:until] = text
        styles[x:until] = [style] * size
        self._at = y, until

    def _move(self) -> str:
        """The cursor to where text goes."""
        before, after = self._cursor, self._at
        if before == after or after is None:
            return ""
        self._cursor = after
        y, x = after
        if before is not None and before[0] == y and x - before[1] > 0:
            return f"\x1b[{x - before[1]}C"
        return f"\x1b[{y};{x}H"

    def _change(self) -> str:
        before, after = self._set, self._wanted
        if before == after:
            return ""
        self._set = after
        return _difference(before, after)


@lru_cache(4096)
def _difference(before: _Style | None, after: _Style) -> str:
    attributes, foreground, background = after
    kept = (
        before is not None
        and before[0] <= attributes
        and (foreground or not before[1])
        and (background or not before[2])
    )
    if before is None or not kept:
        codes = ["0", *sorted(attributes), foreground, background]
    else:
        codes = sorted(attributes - before[0])
        codes += [foreground] * (foreground != before[1])
        codes += [background] * (background != before[2])
    return f"\x1b[{';'.join(filter(None, codes))}m"


@lru_cache(4096)
def _after(style: _Style, sequence: str) -> _Style:
    """The style behind one SGR sequence."""
    attributes, foreground, background = style
    codes = iter(sequence.split(";"))
    for code in codes:
        if code in ("", "0"):
            attributes, foreground, background = _PLAIN
        elif code in ("38", "48"):
            kind = next(codes, "")
            rest = [next(codes, "") for _ in range(_EXTENDED.get(kind, 0))]
            colour = ";".join((code, kind, *rest))
            if code == "38":
                foreground = colour
            else:
                background = colour
        elif _FOREGROUND.fullmatch(code):
            foreground = "" if code == "39" else code
        elif _BACKGROUND.fullmatch(code):
            background = "" if code == "49" else code
        else:
            attributes |= {code}
    return _STYLES.setdefault(
        (attributes, foreground, background), (attributes, foreground, background)
    )
