"""JSON Lines in and out: the one place that turns events into bytes and back."""

from __future__ import annotations

import msgspec

from engine.events.types import JournalLine

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[JournalLine] = msgspec.json.Decoder(JournalLine)


def encode_lines(lines: list[JournalLine]) -> bytes:
    """Whole lines, each ending in a newline."""
    return _encoder.encode_lines(lines)


def decode_line(line: bytes | memoryview) -> JournalLine:
    """One line without or with its newline.

    Raises `msgspec.DecodeError` (broken JSON) or its subclass `msgspec.ValidationError`
    (JSON, but no line of a journal).
    """
    return _decoder.decode(line)
