"""`ContentSearch`: does a recording hold a canary, or anything shaped like a key?

A *canary* is a text that somebody put into a prompt, a completion or a key, to see whether it is
written to the recording. The report says where a hit is, and never repeats what it is.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from replay.recording.connections import reading_error
from replay.recording.opening import connect_for_reading
from replay.sources.line_reader import content_of
from replay.sources.sanitize import clean_text
from replay.verify.rules import Position, RuleBook

SHORTEST_CANARY = 4
BLOCK_BYTES = 1 << 20
OVERLAP_BYTES = 1 << 12
"""Searched twice, so that a hit across two blocks is not missed."""
MAX_FILE_BYTES = 1 << 30
"""Bytes of files that are searched, after inflating."""
INFLATED_BYTES = 128 << 20
USUAL_RATIO = 30
"""At most `INFLATED_BYTES` bytes of blobs are searched, and `USUAL_RATIO` more for each byte that
is stored: what a recorder compresses shrinks less, a bomb shrinks more."""
ROWS_AT_ONCE = 256
_TEXT_TYPES = ("VARCHAR", "JSON", "STRUCT", "MAP", "VARIANT", "ENUM")

# Name -> (what every match begins with, the pattern). The beginning alone is looked for first.
KEY_SHAPES: dict[str, tuple[str, str]] = {
    "an OpenAI or Anthropic key": ("sk-", r"\bsk-[A-Za-z0-9_-]{20,}"),
    "an AWS access key": ("AKIA", r"\bAKIA[0-9A-Z]{16}\b"),
    "a temporary AWS access key": ("ASIA", r"\bASIA[0-9A-Z]{16}\b"),
    "a GitHub token": ("gh", r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    "a GitHub fine-grained token": ("github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{40,}"),
    "a GitLab token": ("glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "a Slack token": ("xox", r"\bxox[abposr]-[A-Za-z0-9-]{10,}"),
    "a Google API key": ("AIza", r"\bAIza[0-9A-Za-z_-]{35}"),
    "an NVIDIA key": ("nvapi-", r"\bnvapi-[A-Za-z0-9_-]{20,}"),
    "a Hugging Face token": ("hf_", r"\bhf_[A-Za-z0-9]{30,}"),
    "a Groq key": ("gsk_", r"\bgsk_[A-Za-z0-9]{40,}"),
    "an xAI key": ("xai-", r"\bxai-[A-Za-z0-9]{40,}"),
    "a Replicate token": ("r8_", r"\br8_[A-Za-z0-9]{30,}"),
    "a private key": ("-----BEGIN", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a signed web token": (
        "eyJ",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+",
    ),
    "a bearer token": ("Bearer ", r"\bBearer [A-Za-z0-9._~+/-]{20,}"),
}
_SHAPES = {
    name: (start.encode(), re.compile(pattern.encode()))
    for name, (start, pattern) in KEY_SHAPES.items()
}


class ContentSearch:
    """Searches text for canaries, in every way JSON may write them, and for shapes of keys."""

    def __init__(self, book: RuleBook, canaries: Sequence[str]) -> None:
        """Raises `ValueError` for a canary that is too short to mean anything."""
        for canary in canaries:
            if len(canary) < SHORTEST_CANARY:
                raise ValueError(f"a canary needs at least {SHORTEST_CANARY} characters")
        self._book = book
        self._canaries = tuple(
            (number, _spellings(canary)) for number, canary in enumerate(canaries, 1)
        )
        self.bytes_read = 0
        self.inflated_bytes = 0
        """Size of what was read from blobs, after inflating."""
        self._stored_bytes = 0
        """Size of the same blobs as they are stored."""
        self._stopped = False
        """A blob of the column was not searched to its end."""

    def in_file(self, descriptor: int, name: str) -> None:
        """Search the raw bytes of an open file, so that fields which no reader keeps are searched.

        Closes the descriptor.
        """
        with open(descriptor, "rb") as file:
            self._in_blocks(self._file_blocks(content_of(file).read), name)
        if self.bytes_read >= MAX_FILE_BYTES:
            self._book.mark_unchecked("content", f"{name} was read for {MAX_FILE_BYTES} bytes only")

    def in_database(self, path: Path) -> None:
        """Search every text and every blob of every table.

        Raises:
            SourceError: The recording can't be read.
        """
        try:
            with connect_for_reading(path) as connection:
                for table, column, kind in connection.execute(
                    "SELECT table_name, column_name, data_type FROM duckdb_columns()"
                    " WHERE NOT internal AND database_name = current_catalog()"
                ).fetchall():
                    if kind == "BLOB":
                        self._in_blobs(connection, table, column)
                    elif any(text in kind for text in _TEXT_TYPES):
                        self._in_texts(connection, table, column, kind)
        except duckdb.Error as error:
            raise reading_error(error, str(path)) from error

    def _file_blocks(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        while self.bytes_read < MAX_FILE_BYTES and (block := _next_block(read)):
            self.bytes_read += len(block)
            yield block

    def _in_blocks(self, blocks: Iterable[bytes], where: str, ordinal: int | None = None) -> None:
        """Search consecutive blocks of one text, and report each kind of hit once.

        `where` is shown to people: a file, or a table and column.
        """
        seen: set[str] = set()
        before = b""
        for block in blocks:
            self._book.looked_at["content"] += 1
            text = before + block
            for hit in self._hits(text):
                if hit not in seen:
                    seen.add(hit)
                    self._report(hit, where, ordinal)
            before = text[-OVERLAP_BYTES:]

    def _in_blobs(self, connection: duckdb.DuckDBPyConnection, table: str, column: str) -> None:
        where = f"{table}.{column}"
        self._stopped = False
        for ordinal, parts in _blobs(connection, table, column):
            self._in_blocks(self._blob_blocks(parts), where, ordinal)
            if self._stopped:
                self._book.mark_unchecked(
                    "content", f"{where} was read in part: it inflates too far"
                )
                return

    def _blob_blocks(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """The content of a blob that is kept in `parts`, inflated where it is compressed.

        Blocks have at most `BLOCK_BYTES` bytes while it inflates. What stands behind the end of the
        compressed data, or is no compressed data at all, comes as it is.
        """
        inflater = zlib.decompressobj()
        compressed = True
        for part in parts:
            self._stored_bytes += len(part)
            rest = part
            while compressed:
                limit = INFLATED_BYTES + USUAL_RATIO * self._stored_bytes
                if self.inflated_bytes >= limit:
                    self._stopped = True
                    return
                try:
                    block = inflater.decompress(rest, BLOCK_BYTES)
                except zlib.error:
                    compressed = False
                    break
                rest = inflater.unconsumed_tail
                if block:
                    self.inflated_bytes += len(block)
                    yield block
                if inflater.eof:
                    compressed, rest = False, inflater.unused_data
                elif not rest and len(block) < BLOCK_BYTES:
                    break
            if rest:
                self.inflated_bytes += len(rest)
                yield rest

    def _in_texts(
        self, connection: duckdb.DuckDBPyConnection, table: str, column: str, kind: str
    ) -> None:
        where = f"{table}.{column}"
        name = f'"{column}"' if kind == "VARCHAR" else f'CAST("{column}" AS VARCHAR)'
        self._book.looked_at["content"] += 1
        ordinal = _ordinal_column(connection, table)
        for hit, condition, values in self._conditions(name):
            rows = connection.execute(
                f'SELECT {ordinal} FROM "{table}" WHERE {condition} ORDER BY 1', list(values)
            )
            for (number,) in _fetched(rows):
                self._report(hit, where, number)

    def _report(self, hit: str, where: str, ordinal: int | None) -> None:
        self._book.report(
            "content",
            f"{hit} in {where}",
            f"{hit} stands in {where}",
            position=None if ordinal is None else Position(ordinal),
        )

    def _conditions(self, name: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for number, spellings in self._canaries:
            texts = tuple(spelling.decode() for spelling in spellings)
            yield (
                f"canary {number}",
                " OR ".join(f"contains({name}, ?)" for _ in texts),
                texts,
            )
        for shape, (start, pattern) in KEY_SHAPES.items():
            yield shape, f"contains({name}, ?) AND regexp_matches({name}, ?)", (start, pattern)

    def _hits(self, data: bytes) -> Iterator[str]:
        for number, spellings in self._canaries:
            if any(spelling in data for spelling in spellings):
                yield f"canary {number}"
        for shape, (start, pattern) in _SHAPES.items():
            if start in data and pattern.search(data) is not None:
                yield shape


def _spellings(canary: str) -> tuple[bytes, ...]:
    """As it is, as JSON writes it, with and without escapes, and as foreign text is cleaned."""
    written = set()
    for text in (canary, clean_text(canary)):
        written |= {text, msgspec.json.encode(text)[1:-1].decode(), json.dumps(text)[1:-1]}
    return tuple(sorted(spelling.encode("utf-8", "surrogatepass") for spelling in written))


def _next_block(read: Callable[[int], bytes]) -> bytes:
    try:
        return read(BLOCK_BYTES)
    except OSError:
        return b""


def _blobs(
    connection: duckdb.DuckDBPyConnection, table: str, column: str
) -> Iterator[tuple[int | None, Iterable[bytes]]]:
    """Each blob of a column as its ordinal, where the table has one, and its parts in order.

    A large keyframe is kept in parts, which are joined here: apart they can't be inflated. The
    parts of a blob must be used before the next blob is asked for.
    """
    if table == "keyframe_parts":
        rows = connection.execute("SELECT ordinal, data FROM keyframe_parts ORDER BY ordinal, part")
        for ordinal, group in groupby(_fetched(rows), key=itemgetter(0)):
            yield ordinal, (data for _, data in group if data is not None)
        return
    ordinal_column = _ordinal_column(connection, table)
    rows = connection.execute(
        f'SELECT {ordinal_column}, "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL'
    )
    for ordinal, data in _fetched(rows):
        yield ordinal, (data,)


def _ordinal_column(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """SQL for the ordinal of a row, NULL where the table has none."""
    row = connection.execute(
        "SELECT count(*) FROM duckdb_columns() WHERE table_name = ? AND column_name = 'ordinal'"
        " AND database_name = current_catalog()",
        [table],
    ).fetchone()
    return "ordinal" if row is not None and row[0] else "NULL"


def _fetched(rows: duckdb.DuckDBPyConnection) -> Iterable[tuple[Any, ...]]:
    while batch := rows.fetchmany(ROWS_AT_ONCE):
        yield from batch
