"""`ThinWriter`: the same picture with fewer bytes.

Rich writes every piece of text as a whole style before it and a reset behind it, and Textual writes
a line from its first change to its last. A thin link carries most of both for nothing. This follows
what the terminal shows, and writes the cells and the parts of styles that differ from it.
"""

from __future__ import annotations

import re
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

_RUN = re.compile(rb"\x01+(?:\x00\x01+)*")
"""Changed cells; a single one between them that is not is rather written again than skipped."""
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
        self._runs: dict[_Style, list[tuple[int, str]]] = {}
        """What is to be written of the line of `_at`: column and text by style."""
        self._reach = 0
        """Behind the last column that was taken of that line."""
        self._out: list[str] = []

    def forget(self) -> None:
        """Somebody else writes to the terminal from now on, or has."""
        self._wanted, self._set = _PLAIN, None
        self._forget_cells()

    def shorten(self, text: str) -> str:
        """What shows the same as `text`, which holds whole escape sequences."""
        if "\n" in text:  # a whole screen: after a resize, of which nothing else tells here
            self._forget_cells()
        self._follow(text)
        written, self._out = "".join(self._out), []
        return written

    def _forget_cells(self) -> None:
        self._lines.clear()
        self._at = self._cursor = None

    def _follow(self, text: str) -> None:
        for token in _TOKEN.finditer(text):
            kind, part = token.lastgroup, token[0]
            if kind == "style":
                self._wanted = _after(self._wanted, token["style"])
            elif kind == "move":
                line, _, column = part[2:-1].partition(";")
                at = int(line or 1), int(column or 1)
                if self._at is None or at[0] != self._at[0]:
                    self._write_line()
                self._at = at
            elif kind == "text":
                self._take(part)
            else:
                self._write(part)
                if not _HARMLESS.fullmatch(part):
                    self._forget_cells()
        self._write_line()
        self._out.append(self._move(self._at))

    def _write(self, text: str) -> None:
        """As it is, in its place."""
        self._write_line()
        self._out += (self._move(self._at), self._change(self._wanted), text)

    def _take(self, text: str) -> None:
        """Text at a known place: what of it differs from what is shown is to be written."""
        if self._at is None or not text.isprintable() or cell_len(text) != len(text):
            self._write(text)
            self._forget_cells()
            return
        y, x = self._at
        if x < self._reach:  # over what is to be written: that first
            self._write_line()
        style, size = self._wanted, len(text)
        until = self._reach = x + size
        self._at = y, until
        shown, styles = self._lines.setdefault(y, ([], []))
        if len(shown) < until:
            missing = until - len(shown)
            shown += [""] * missing
            styles += [_PLAIN] * missing
        before, looks = shown[x:until], styles[x:until]
        alike = looks.count(style)
        if alike == 0:
            self._runs.setdefault(style, []).append((x, text))
            shown[x:until], styles[x:until] = text, [style] * size
            return
        if alike == size:
            if "".join(before) == text:
                return
            changed = [known != new for known, new in zip(before, text, strict=True)]
        else:
            changed = [
                look is not style or known != new
                for look, known, new in zip(looks, before, text, strict=True)
            ]
        runs = self._runs.setdefault(style, [])
        for run in _RUN.finditer(bytes(changed)):
            first, last = run.span()
            runs.append((x + first, text[first:last]))
        shown[x:until] = text
        styles[x:until] = [style] * size

    def _write_line(self) -> None:
        """What is to be written of a line, one style after the other: to move the cursor takes
        fewer bytes than to change the style."""
        self._reach = 0
        if not self._runs or self._at is None:
            return
        y, out = self._at[0], self._out
        begun = self._runs.pop(self._set, None) if self._set is not None else None
        styles = list(self._runs.items())
        if begun is not None and self._set is not None:
            styles.insert(0, (self._set, begun))
        for style, runs in styles:
            for x, text in runs:
                out.append(self._move((y, x)))
                out.append(self._change(style))
                out.append(text)
                self._cursor = y, x + len(text)
        self._runs = {}

    def _move(self, after: tuple[int, int] | None) -> str:
        """The cursor to a place."""
        before = self._cursor
        if before == after or after is None:
            return ""
        self._cursor = after
        y, x = after
        if before is not None and before[0] == y and x - before[1] > 0:
            return f"\x1b[{x - before[1]}C"
        return f"\x1b[{y};{x}H"

    def _change(self, after: _Style) -> str:
        before = self._set
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
