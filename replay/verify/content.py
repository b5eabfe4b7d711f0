"""Is anything in a recording that must never be: a canary, or something shaped like a key?

A *canary* is a text that somebody put into a prompt, a completion or a key, to see whether it comes
out in the recording. Neither it nor what looks like a key is ever repeated in the report.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from replay.recording.schema import connect_for_reading
from replay.sources.base import SourceError
from replay.sources.line_reader import content_of
from replay.sources.sanitize import clean_text
from replay.verify.rules import RuleBook

SHORTEST_CANARY = 4
BLOCK = 1 << 20
OVERLAP = 1 << 12
"""Bytes seen twice, so that nothing hides on the edge of two blocks."""
INFLATED_AT_MOST = 1 << 30
BLOBS_INFLATED = 128 << 20
USUAL_RATIO = 30
"""So many bytes of blobs are looked into, and so many more for each packed one: what a recorder
packs shrinks less."""
BATCH = 256

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
    """Searches text for canaries (in every way JSON may write them) and key shapes."""

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
        self._packed = self._inflated = 0

    def look(self, data: bytes, where: str, ordinal: int | None = None) -> None:
        """`where` is shown to people: a file, a table and column."""
        self._book.looked_at["content"] += 1
        for what in self._hits(data):
            self._book.report("content", f"{what} in {where}", f"{what} stands in {where}", ordinal)

    def in_file(self, descriptor: int, name: str) -> None:
        """Raw bytes of an open file, which is closed then: so that fields which no reader keeps are
        seen as well."""
        seen: set[str] = set()
        with open(descriptor, "rb") as file:
            content = content_of(file)
            before = b""
            while self.bytes_read < INFLATED_AT_MOST and (block := _next_block(content.read)):
                self.bytes_read += len(block)
                self._book.looked_at["content"] += 1
                for what in self._hits(before + block):
                    if what not in seen:
                        seen.add(what)
                        self._book.report(
                            "content", f"{what} in {name}", f"{what} stands in {name}"
                        )
                before = block[-OVERLAP:]
        if self.bytes_read >= INFLATED_AT_MOST:
            self._book.leave_out("content", f"{name} was read for {INFLATED_AT_MOST} bytes only")

    def in_database(self, path: Path) -> None:
        """Every text and every blob of every table. Raises `SourceError` where it can't be read."""
        try:
            with connect_for_reading(path) as connection:
                for table, column, kind in connection.execute(
                    "SELECT table_name, column_name, data_type FROM duckdb_columns()"
                    " WHERE NOT internal AND database_name = current_catalog()"
                ).fetchall():
                    self._in_column(connection, table, column, kind)
        except duckdb.Error as error:
            detail = (str(error).splitlines() or [type(error).__name__])[0]
            raise SourceError(f"{path} is damaged: {detail}", exit_code=4) from error

    def _in_column(
        self, connection: duckdb.DuckDBPyConnection, table: str, column: str, kind: str
    ) -> None:
        where = f"{table}.{column}"
        name = f'"{column}"'
        if kind == "BLOB":
            rows = connection.execute(f'SELECT {name} FROM "{table}" WHERE {name} IS NOT NULL')
            for (blob,) in _fetched(rows):
                if self._inflated >= BLOBS_INFLATED + USUAL_RATIO * self._packed:
                    self._book.leave_out(
                        "content", f"{where} was read in part: it inflates too far"
                    )
                    return
                data = _inflated(blob)
                self._packed += len(blob)
                self._inflated += len(data)
                self.look(data, where)
            return
        if not any(
            text in kind for text in ("VARCHAR", "JSON", "STRUCT", "MAP", "VARIANT", "ENUM")
        ):
            return
        if kind != "VARCHAR":
            name = f"CAST({name} AS VARCHAR)"
        self._book.looked_at["content"] += 1
        ordinal = _ordinal_of(connection, table)
        for what, condition, values in self._conditions(name):
            rows = connection.execute(
                f'SELECT {ordinal} FROM "{table}" WHERE {condition} ORDER BY 1', list(values)
            )
            for (number,) in _fetched(rows):
                self._book.report(
                    "content", f"{what} in {where}", f"{what} stands in {where}", number
                )

    def _conditions(self, name: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for number, spellings in self._canaries:
            texts = tuple(one.decode() for one in spellings)
            yield (
                f"canary {number}",
                " OR ".join(f"contains({name}, ?)" for _ in texts),
                texts,
            )
        for what, (start, pattern) in KEY_SHAPES.items():
            yield what, f"contains({name}, ?) AND regexp_matches({name}, ?)", (start, pattern)

    def _hits(self, data: bytes) -> Iterator[str]:
        for number, spellings in self._canaries:
            if any(one in data for one in spellings):
                yield f"canary {number}"
        for what, (start, pattern) in _SHAPES.items():
            if start in data and pattern.search(data) is not None:
                yield what


def _spellings(canary: str) -> tuple[bytes, ...]:
    """As it is, as JSON writes it, with and without escapes, and as foreign text is cleaned."""
    written = set()
    for text in (canary, clean_text(canary)):
        written |= {text, msgspec.json.encode(text)[1:-1].decode(), json.dumps(text)[1:-1]}
    return tuple(sorted(one.encode("utf-8", "surrogatepass") for one in written))


def _next_block(read: Callable[[int], bytes]) -> bytes:
    try:
        return read(BLOCK)
    except OSError:
        return b""


def _inflated(blob: bytes) -> bytes:
    """What a keyframe holds; a blob of another making as it is."""
    try:
        return zlib.decompressobj().decompress(blob, INFLATED_AT_MOST)
    except zlib.error:
        return blob


def _ordinal_of(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    row = connection.execute(
        "SELECT count(*) FROM duckdb_columns() WHERE table_name = ? AND column_name = 'ordinal'"
        " AND database_name = current_catalog()",
        [table],
    ).fetchone()
    return "ordinal" if row is not None and row[0] else "NULL"


def _fetched(rows: duckdb.DuckDBPyConnection) -> Iterable[tuple[Any, ...]]:
    while batch := rows.fetchmany(BATCH):
        yield from batch
