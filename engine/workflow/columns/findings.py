"""`Finding`: something that a workflow permits, and that is probably not meant."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """What is probably not meant."""

    code: str
    sentence: str
    column: str | None = None


@dataclass(frozen=True)
class LintView:
    """What a column may know of its workflow for its lint."""

    records: int
    empty_values: frozenset[str]
    """Columns whose value may be empty or None."""
    used: frozenset[str]
    """Columns that another one uses."""
