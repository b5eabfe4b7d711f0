"""`Decompressed`: the bytes of a gzip or Zstandard file, as far as they can be had."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import IO, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC_BYTES = 4
"""So many at the beginning of a file say how it is compressed."""
COMPARED = 256
"""Last bytes of a file that was read, by which it is known again."""
_COMPRESSED_CHUNK = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_TAIL = b"\x2a\x4d\x18"
"""Behind a byte from 0x50 to 0x5f: a Zstandard frame without data."""
_CHECKSUM_WORDS = ("data check", "length check", "checksum")
_ERRORS = (zlib.error, zstd.ZstdError)


class _Frame(Protocol):
    """One gzip member or Zstandard frame, decompressed step by step."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipMember:
    """zlib's object with the interface of the newer decompressors."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        plain = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self.needs_input = len(plain) < max_length and not self._inflate.unconsumed_tail
        return plain


def compression_of(head: bytes) -> str | None:
    """`gzip` or `Zstandard` by the first bytes of a file; None where it is neither."""
    if head.startswith(_GZIP_MAGIC):
        return "gzip"
    skippable = head[1:4] == _SKIPPABLE_TAIL and head[0] >> 4 == 5
    return "Zstandard" if skippable or head.startswith(_ZSTD_MAGIC) else None


def may_become_compressed(head: bytes) -> bool:
    """Do so few bytes leave open whether a file is compressed?"""
    return len(head) < MAGIC_BYTES and any(
        magic.startswith(head) for magic in (_GZIP_MAGIC, _ZSTD_MAGIC)
    )


class Decompressed:
    """Reads a compressed file member by member; where the file grows, it reads on.

    A decoder that fails gives nothing of what it was fed with in that call. So the frame is then
    decoded again, the last part byte by byte, and all that stands before the damage comes out.
    """

    def __init__(self, file: IO[bytes], kind: str) -> None:
        self.problem = ""
        """Why nothing more can come of the file; empty while more may come."""
        self.torn = True
        """The data breaks off inside a frame: the last line need not be whole."""
        self.last = b""
        """The bytes before the position, the last so many."""
        self._file = file
        self._kind = kind
        self._new_frame: Callable[[], _Frame] = (
            _GzipMember if kind == "gzip" else zstd.ZstdDecompressor
        )
        self._frame: _Frame = self._new_frame()
        self._frame_start = 0
        self._fed = 0
        """Offset in the file behind what the decoders were fed with."""
        self._fed_before = 0
        self._produced = 0
        self._skip = 0
        self._bytewise_from: int | None = None
        self._begun_at: int | None = None
        """Where a frame may begin whose first bytes are not all there."""

    @property
    def position(self) -> int:
        """Bytes of the file that were read."""
        return self._fed

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none where there are none now, or behind a problem."""
        while not self.problem:
            if self._frame.eof and not self._next_frame():
                break
            fresh = b""
            if self._frame.needs_input:
                fresh = self._feed()
                if not fresh:
                    break
            try:
                plain = self._frame.decompress(fresh, size)
            except _ERRORS as error:
                self._fail(error)
                continue
            skipped = min(self._skip, len(plain))
            self._skip -= skipped
            self._produced += len(plain) - skipped
            if len(plain) > skipped:
                return plain[skipped:]
        return b""

    def finish(self) -> None:
        """Nothing will be added to the file: what is not whole now is a problem."""
        if self.problem:
            return
        if not self._frame.eof:
            self.problem = f"the {self._kind} data ends too early, at byte {self._fed:,}"
        elif self._begun_at is not None:
            self._tell_foreign(self._begun_at)

    def _feed(self) -> bytes:
        size = _COMPRESSED_CHUNK
        if self._bytewise_from is not None:
            size = min(size, max(1, self._bytewise_from - self._fed))
        fresh = self._file.read(size)
        self._fed_before = self._fed
        self._fed += len(fresh)
        self.last = (self.last + fresh)[-COMPARED:]
        return fresh

    def _fail(self, error: Exception) -> None:
        if self._bytewise_from is None:
            self._bytewise_from = self._fed_before
            self._skip = self._produced
            self._start_frame(self._frame_start)
        elif any(word in str(error) for word in _CHECKSUM_WORDS):
            self.torn = False
            self.problem = (
                f"the checksum of the {self._kind} data is wrong, at byte {self._fed:,}: lines"
                " before it may be damaged"
            )
        else:
            self.problem = f"the {self._kind} data is damaged at byte {self._fed:,}"

    def _next_frame(self) -> bool:
        """Begin the frame behind the one that is over. False where there is none (yet)."""
        start = self._fed - len(self._frame.unused_data)
        self._file.seek(start)
        while (head := self._file.read(_COMPRESSED_CHUNK)) and not head.strip(b"\0"):
            start += len(head)  # padding, as tape archives have it
        start += len(head) - len(head.lstrip(b"\0"))
        self._file.seek(start)
        head = self._file.read(MAGIC_BYTES)
        if compression_of(head) == self._kind:
            self._start_frame(start)
            self._produced, self._bytewise_from = 0, None
            return True
        if head and may_become_compressed(head):
            self._begun_at = start
        elif head:
            self._tell_foreign(start)
        self._file.seek(self._fed)
        return False

    def _tell_foreign(self, start: int) -> None:
        self.torn = False
        self.problem = f"from byte {start:,} on the file is not {self._kind}"

    def _start_frame(self, start: int) -> None:
        self._file.seek(start)
        self._frame = self._new_frame()
        self._frame_start = self._fed = self._fed_before = start
        self.last = b""
        self._begun_at = None
