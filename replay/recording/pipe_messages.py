"""Messages on the pipe between two processes of ours: eight bytes of length, then that many."""

from __future__ import annotations

from typing import IO

_LENGTH_BYTES = 8


def write_message(pipe: IO[bytes], data: bytes) -> None:
    """Raises `BrokenPipeError` where nobody reads."""
    _write(pipe, len(data).to_bytes(_LENGTH_BYTES, "big"))
    _write(pipe, data)


def read_message(pipe: IO[bytes]) -> bytes | None:
    """None if the pipe ends before, or where it does not fit into memory."""
    try:
        length = _read(pipe, _LENGTH_BYTES)
        return None if length is None else _read(pipe, int.from_bytes(length, "big"))
    except MemoryError:
        return None


def _read(pipe: IO[bytes], size: int) -> bytes | None:
    """None if the pipe ends before."""
    data = bytearray(size)
    room = memoryview(data)
    while room:
        count = pipe.readinto(room)  # type: ignore[attr-defined]
        if not count:
            return None
        room = room[count:]
    return bytes(data)


def _write(pipe: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]
