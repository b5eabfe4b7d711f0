"""Frames of an append-only file: length, checksum, bytes. A frame that was cut off is not one."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from struct import Struct

_HEAD = Struct("<II")
MAX_FRAME_BYTES = 1 << 30


def frame(payload: bytes) -> bytes:
    """The bytes with their length and checksum before them, as they are appended."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read_frames(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Offset behind each frame, and its payload, up to the first that is not whole. A hole, which
    reads as zeros, holds no frame."""
    view = memoryview(data)
    while offset + _HEAD.size <= len(view):
        length, checksum = _HEAD.unpack_from(view, offset)
        end = offset + _HEAD.size + length
        if not 0 < length <= MAX_FRAME_BYTES or end > len(view):
            return
        payload = bytes(view[offset + _HEAD.size : end])
        if zlib.crc32(payload) != checksum:
            return
        yield end, payload
        offset = end
