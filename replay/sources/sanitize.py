"""Foreign text made safe to show: no control character, escape code or direction override."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import msgspec

_unsafe = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_surrogate = re.compile("[\ud800-\udfff]")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Mended(NamedTuple):
    """A line as JSON, and what of it could not be kept."""

    line: bytes
    losses: str
    """For people; empty where nothing is lost."""


def clean_text(text: str) -> str:
    """`text` with a space for each line break or tab, and U+FFFD for each unsafe character."""
    return _unsafe.sub(_replacement, text)


def clean_lines(text: str) -> str:
    """The same for text of several lines, which stay lines."""
    return "\n".join(map(clean_text, text.split("\n")))


def printable(text: str) -> str:
    """`text` with U+FFFD for each character that is not printable.

    Stricter than `clean_text`: terminals disagree on the width of format, private and unassigned
    characters.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def harmless_json(encoded: bytes) -> bytes:
    """The same JSON, of one line or several, with escapes for all that is unsafe."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _unsafe.sub(_escape, encoded.decode()).encode()


def is_plain(lines: bytes) -> bool:
    """Is there nothing in this JSON, of one line or several, that had to be looked at closer?

    An ASCII control character can only be in a string of JSON as an escape.
    """
    return lines.isascii() and b"\\" not in lines and b"\x7f" not in lines


def clean_line(line: bytes) -> bytes:
    """The JSON of `line` with all its strings cleaned; mostly the very same bytes.

    Raises `msgspec.DecodeError`, `UnicodeDecodeError` or `RecursionError` for broken JSON.
    """
    if is_plain(line) or (b"\\" not in line and b"\x7f" not in line and not _has_unsafe(line)):
        return line
    return msgspec.json.encode(_clean(msgspec.json.decode(line)))


def mended_line(line: bytes) -> Mended | None:
    """JSON of a line that is none but for a byte order mark, numbers that JSON lacks (they become
    null) or characters that are none (they become U+FFFD); cleaned. None where more is wrong."""
    losses: dict[str, None] = {}

    def no_number(name: str) -> None:
        losses[f"{name[:20]} is read as null"] = None

    def number(digits: str) -> float | None:
        value = float(digits)
        if math.isfinite(value):
            return value
        no_number(digits)
        return None

    body = line.removeprefix(BYTE_ORDER_MARK)
    text = body.decode(errors="replace")
    if body != text.encode(errors="replace"):
        losses["bytes that are not UTF-8 are read as U+FFFD"] = None
    try:
        value = json.loads(text, parse_constant=no_number, parse_float=number)
        if _surrogate.search(json.dumps(value, ensure_ascii=False)):
            losses["half of a surrogate pair is read as U+FFFD"] = None
        return Mended(msgspec.json.encode(_clean(value)), ", ".join(losses))
    except (ValueError, OverflowError, RecursionError):
        return None


def _has_unsafe(line: bytes) -> bool:
    return _unsafe.search(line.decode().rstrip("\r\n")) is not None


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value


def _replacement(match: re.Match[str]) -> str:
    return " " if match[0] in "\n\r\t" else "\ufffd"


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}"
