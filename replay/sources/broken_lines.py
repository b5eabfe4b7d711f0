"""Lines that can't be used: which errors mean that, and how they are told."""

from __future__ import annotations

import msgspec

from engine.events import SCHEMA_VERSION, JournalHeader
from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
PROBLEM_LENGTH = 160


def problem_of(error: Exception) -> str:
    """What is wrong with a line, for people."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return clean_text(str(error)[:PROBLEM_LENGTH])


def check_schema(header: JournalHeader, name: str) -> None:
    """Raises `SourceError` where the lines of a file or folder are newer than this reader."""
    if header.run.schema_version > SCHEMA_VERSION:
        raise SourceError(
            f"{clean_text(name)} was written by a newer headgate (schema "
            f"{header.run.schema_version}; this one reads up to {SCHEMA_VERSION})."
        )
