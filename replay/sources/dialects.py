"""Whose lines are these? The dialect of a file by its first good line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from replay.sources.broken_lines import BROKEN
from replay.sources.data_designer.run import STARTED
from replay.sources.data_designer.wire import decode
from replay.sources.dialect import Dialect
from replay.sources.foreign_lines import DataDesignerLines
from replay.sources.line_reader import LineReader, count_in_file
from replay.sources.own_lines import OwnFileLines
from replay.sources.sanitize import BYTE_ORDER_MARK, mended_line

Producer = Literal["headgate", "data_designer"]


class _Peek(msgspec.Struct):
    stream: str | None = None
    event_kind: str | None = None


def producer_of(line: bytes) -> Producer | None:
    """Whose line this is, by its fields; None where it is no line of a recording."""
    try:
        peek = msgspec.json.decode(line.removeprefix(BYTE_ORDER_MARK), type=_Peek)
    except BROKEN:
        mended = mended_line(line)
        if mended is None:
            return None
        try:
            peek = msgspec.json.decode(mended.line, type=_Peek)
        except BROKEN:
            return None
    if peek.stream is not None:
        return "headgate"
    return "data_designer" if peek.event_kind is not None else None


def last_run_id(path: Path) -> str | None:
    """The id of the last run in a file of several of Data Designer; None for one or none."""
    needle = f'"{STARTED}"'.encode()
    if count_in_file(path, needle, 2) < 2:
        return None
    run_id = None
    reader = LineReader(path, growing=False, on_restart=lambda why: None)
    while not reader.at_end:
        for _, line in reader.read(1_000):
            if needle in line:
                try:
                    correlation = decode(line).captured_correlation
                except BROKEN:
                    continue
                run_id = correlation.run_id if correlation is not None else run_id
    reader.close()
    return run_id


def dialect_of(line: bytes, path: Path, name: str) -> Dialect:
    """The dialect of a file by its first good line; `name` is for a run that has none.

    Raises `msgspec.ValidationError` where the line is of no recording.
    """
    producer = producer_of(line)
    if producer is None:
        raise msgspec.ValidationError("neither an event of headgate nor of Data Designer")
    if producer == "headgate":
        return OwnFileLines(path, name)
    return DataDesignerLines(name, last_run_id(path))
