"""`StyleWriter`: the same text with fewer bytes of style.

Rich writes every piece of text as a whole style before it and a reset behind it. Mostly the next
piece has the same background, and a thin link carries both for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"\x1b\[(?P<style>[0-9;]*)m"
    r"|(?P<move>\x1b\[[0-9;]*H)"
    r"|(?P<other>\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b)"
    r"|(?P<text>[^\x1b]+)"
)
_FOREGROUND, _BACKGROUND = re.compile("3[0-79]|9[0-7]"), re.compile("4[0-79]|10[0-7]")
_EXTENDED = {"5": 1, "2": 3}
"""After 38 or 48: how many numbers follow the kind of a colour."""

_Style = tuple[frozenset[str], str, str]
"""Attributes, foreground, background."""
_PLAIN: _Style = (frozenset(), "", "")


class StyleWriter:
    """Follows what style the terminal has, and changes only what the next text needs."""

    def __init__(self) -> None:
        self._wanted: _Style = _PLAIN
        self._set: _Style | None = None
        """None: somebody else may have written."""

    def forget(self) -> None:
        """Somebody else writes to the terminal from now on, or has."""
        self._wanted, self._set = _PLAIN, None

    def shorten(self, text: str) -> str:
        """What shows the same as `text`, which holds whole escape sequences."""
        return "".join(self._parts(text))

    def _parts(self, text: str) -> Iterator[str]:
        for token in _TOKEN.finditer(text):
            if token["style"] is not None:
                self._wanted = _after(self._wanted, token["style"])
            elif token["move"] is not None:
                yield token["move"]
            else:
                yield self._change()
                yield token[0]

    def _change(self) -> str:
        before, after = self._set, self._wanted
        if before == after:
            return ""
        self._set = after
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
    return attributes, foreground, background
