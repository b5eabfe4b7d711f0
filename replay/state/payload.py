"""Reading values out of payloads that another program wrote: a usable value or nothing."""

from __future__ import annotations

import math
import sys
from typing import Annotated, Any

from msgspec import Meta

LARGEST = 2**53
"""Beyond this a count is no count (and does not fit every store)."""
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""A field that no decoder fills with NaN or an infinity."""


def number(value: Any) -> float | None:
    """A finite number, else None."""
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is int and -LARGEST <= value <= LARGEST:
        return float(value)
    return None


def count(value: Any) -> int | None:
    """A whole number from 0, else None."""
    if type(value) is int and 0 <= value <= LARGEST:
        return value
    return None


def text(value: Any) -> str | None:
    """A non-empty string, else None."""
    return value if type(value) is str and value else None


def mapping(value: Any) -> dict[str, Any]:
    """A mapping, else an empty one. Not a copy."""
    return value if type(value) is dict else {}


def amounts(value: Any) -> dict[str, int]:
    """The positive counts of a mapping by name, as a new mapping."""
    if type(value) is not dict:
        return {}
    return {
        name: amount
        for name, amount in value.items()
        if type(amount) is int and 0 < amount <= LARGEST and type(name) is str
    }
