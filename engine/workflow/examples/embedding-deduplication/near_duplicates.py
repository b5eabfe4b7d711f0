"""Marks rows whose embedding lies close to that of an earlier row."""

from __future__ import annotations

import math
from typing import Any

CLOSENESS = 0.95
"""Cosine from which on two rows say the same."""


def marks(rows: list[dict[str, Any]]) -> list[bool]:
    """Whether each row is a near duplicate of an earlier one that is kept."""
    kept: list[list[float]] = []
    marked = []
    for row in rows:
        vector = _unit(row["vector"])
        duplicate = any(_dot(vector, other) >= CLOSENESS for other in kept)
        marked.append(duplicate)
        if not duplicate:
            kept.append(vector)
    return marked


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(_dot(vector, vector)) or 1.0
    return [number / length for number in vector]


def _dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))
