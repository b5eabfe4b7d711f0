"""The title line that every panel begins with."""

from __future__ import annotations

from console.paint import Row, StyledLine, fit, width_of
from console.theme import Appearance


def title(appearance: Appearance, name: str, width: int, note: str = "") -> StyledLine:
    """` Name ───────────── note `"""
    row = Row().put(f" {name} ", "bold text")
    note = fit(note, min(width_of(note), max(0, width - row.used - 2)))
    end = width - 1 - (width_of(note) + 1 if note else 0)
    row.to(max(row.used, end), "faint", appearance.glyphs.rule)
    if note:
        row.put(f" {note}", "dim")
    return row.line()
