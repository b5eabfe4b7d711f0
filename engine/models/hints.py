"""When to come back, and which budget is short: what headers and bodies of providers say of it.

A hint of zero, of the past, or without meaning is no hint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from engine.models.rate_budget import Dimension, RateBudget

_DIMENSIONS: dict[str, Dimension] = {
    "requests": "requests",
    "tokens": "tokens",
    "input-tokens": "input_tokens",
    "output-tokens": "output_tokens",
}
_PREFIXES = ("x-ratelimit", "anthropic-ratelimit")
_DURATION = re.compile(
    r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_UNIT_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_IN_WORDS = re.compile(
    r"(?:try again|retry|reset|available|wait)[a-z ]{0,20}?(?:in|after|for)?\s+"
    r"((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|seconds?|secs?|minutes?|mins?|hours?|days?|[dhms])\s*)+)",
    re.IGNORECASE,
)
_WORD = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_EPOCH_SECONDS = 1e9
"""A number of this size is a time; a smaller one is a duration."""
_EPOCH_MILLISECONDS = 1e11
_MOST_SECONDS = 1e9


def retry_after_seconds(headers: Mapping[str, str], wall: float) -> float | None:
    """What `Retry-After` or `retry-after-ms` asks for, from now (`wall`, Unix seconds)."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None and milliseconds > 0:
        return _sane(milliseconds / 1000)
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return _sane(parsedate_to_datetime(value).timestamp() - wall)
    except (ValueError, OverflowError, TypeError):
        first = value.split(",")[0].strip()
        return _span(first, wall)


def reset_hint_seconds(
    headers: Mapping[str, str], body: Any, message: str, wall: float
) -> float | None:
    """What a refusal says elsewhere: `x-ratelimit-reset-*`, fields of the body, or its words."""
    resets = [b.reset_seconds for b in budgets_of(headers, wall) if not b.remaining]
    spans = [seconds for seconds in resets if seconds is not None]
    if spans:
        return max(spans)
    plain = _span(headers.get("x-ratelimit-reset"), wall)
    if plain is not None:
        return plain
    for name, value in _fields(body):
        lowered = name.lower().replace("_", "-")
        if lowered in (
            "retry-after",
            "retrydelay",
            "retry-delay",
            "reset-seconds",
            "x-ratelimit-reset",
        ):
            seconds = _span(str(value), wall)
            if seconds is not None:
                return seconds
    return seconds_in_words(message)


def seconds_in_words(message: str) -> float | None:
    """The delay in a sentence such as "Please try again in 1m2.5s"."""
    match = _IN_WORDS.search(message)
    if match is None:
        return None
    total = 0.0
    for amount, unit in _WORD.findall(match[1]):
        total += float(amount) * _seconds_of(unit.lower())
    return _sane(total)


def budgets_of(headers: Mapping[str, str], wall: float) -> tuple[RateBudget, ...]:
    """The budgets that `x-ratelimit-*` and `anthropic-ratelimit-*` tell of. Negative numbers are
    nonsense, as is a limit of 0."""
    budgets: list[RateBudget] = []
    for prefix in _PREFIXES:
        for suffix, dimension in _DIMENSIONS.items():
            if prefix == "x-ratelimit":
                names = [f"{prefix}-{what}-{suffix}" for what in ("limit", "remaining", "reset")]
            else:
                names = [f"{prefix}-{suffix}-{what}" for what in ("limit", "remaining", "reset")]
            limit, remaining, reset = (headers.get(name) for name in names)
            if limit is None and remaining is None and reset is None:
                continue
            most, left = _whole(limit), _whole(remaining)
            if most == 0:
                continue
            budgets.append(RateBudget(dimension, most, left, _span(reset, wall)))
    return tuple(budgets)


def _fields(body: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Names and scalar values of a body, down to a few levels."""
    if depth > 5:
        return
    if isinstance(body, dict):
        for name, value in body.items():
            if isinstance(value, dict | list):
                yield from _fields(value, depth + 1)
            else:
                yield str(name), value
    elif isinstance(body, list):
        for value in body[:8]:
            yield from _fields(value, depth + 1)


def _span(text: str | None, wall: float) -> float | None:
    """A duration ("6m0s", "120ms", "1.5"), or the time until an instant (Unix, RFC 3339)."""
    if text is None:
        return None
    text = text.strip()
    number = _number(text)
    if number is not None:
        if number >= _EPOCH_MILLISECONDS:
            number = number / 1000 - wall
        elif number >= _EPOCH_SECONDS:
            number -= wall
        return _sane(number)
    parts = _DURATION.fullmatch(text)
    if parts is not None and any(parts.groups()):
        total = sum(
            float(part) * unit
            for part, unit in zip(parts.groups(), _UNIT_SECONDS, strict=True)
            if part
        )
        return _sane(total)
    try:
        return _sane(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - wall)
    except (ValueError, OverflowError):
        return None


def _seconds_of(unit: str) -> float:
    if unit in ("ms", "millisecond", "milliseconds"):
        return 0.001
    return {"d": 86_400.0, "h": 3_600.0, "m": 60.0}.get(unit[0], 1.0)


def _sane(seconds: float) -> float | None:
    """None for zero, the past, and what is no number; a bound keeps arithmetic with it finite."""
    if not math.isfinite(seconds) or seconds <= 0:
        return None
    return min(seconds, _MOST_SECONDS)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return int(number) if number is not None and 0 <= number < 1e15 else None
