"""Rows of a query on stdout: a table for people, CSV and JSON for programs.

Text comes from outside: in a table and in CSV, control characters and direction overrides become
U+FFFD; JSON escapes them, and loses nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import click

from replay.diagnosis.report.text_layout import cells, cut, left, right, wrap
from replay.export.plain import csv_chunks, json_chunks, plain_text
from replay.recording.query_protocol import ResultColumn
from replay.sources.sanitize import clean_text

CELL_WIDTH = 60
ROWS_AT_ONCE = 1_000
_NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL")


def write_table(
    columns: Sequence[ResultColumn],
    rows: Iterator[Sequence[Any]],
    limit: int | None,
    width: int | None = None,
) -> bool:
    """Aligned columns; long cells are cut. True where there were more than `limit` rows.

    Where the columns need more than `width`, each row is a paragraph with a line for each column,
    and nothing is cut.
    """
    taken = 0
    numbers = [any(word in column.type for word in _NUMBERS) for column in columns]
    widths: list[int] | None = None
    while True:
        at_once = ROWS_AT_ONCE if limit is None else min(ROWS_AT_ONCE, limit - taken)
        chunk = [[_cell(value) for value in row] for row in itertools.islice(rows, at_once)]
        if widths is None:
            names = [clean_text(column.name) for column in columns]
            widths = [
                min(CELL_WIDTH, max(map(cells, [name, *(row[nth] for row in chunk)])))
                for nth, name in enumerate(names)
            ]
            paragraphs = width is not None and sum(widths) + 2 * (len(widths) - 1) > width
            if not paragraphs:
                click.echo(_line(names, widths, numbers))
                click.echo("  ".join("-" * wide for wide in widths))
        for nth, row in enumerate(chunk, taken + 1):
            if paragraphs:
                click.echo(_paragraph(nth, names, row, width or 0))
            else:
                click.echo(_line(row, widths, numbers))
        taken += len(chunk)
        if len(chunk) < at_once or not chunk:
            break
        if taken == limit:
            break
    more = limit is not None and taken == limit and next(rows, None) is not None
    if not more:
        click.echo(f"{taken:,} row{'' if taken == 1 else 's'}", err=True)
    return more


def write_csv(
    columns: Sequence[ResultColumn],
    rows: Iterator[Sequence[Any]],
    limit: int | None,
    for_spreadsheet: bool = False,
) -> bool:
    """Writes at most `limit` rows as CSV. Returns whether there were more."""
    return _write(partial(csv_chunks, for_spreadsheet=for_spreadsheet), columns, rows, limit)


def write_json(
    columns: Sequence[ResultColumn], rows: Iterator[Sequence[Any]], limit: int | None
) -> bool:
    """Writes at most `limit` rows as JSON. Returns whether there were more."""
    return _write(json_chunks, columns, rows, limit)


def _write(
    chunks: Callable[[Sequence[str], Iterator[Sequence[Any]]], Iterator[str]],
    columns: Sequence[ResultColumn],
    rows: Iterator[Sequence[Any]],
    limit: int | None,
) -> bool:
    names = [column.name for column in columns]
    for chunk in chunks(names, itertools.islice(rows, limit)):
        click.echo(chunk, nl=False)
    return limit is not None and next(rows, None) is not None


def _line(row: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    parts = []
    for cell, width, number in zip(row, widths, numbers, strict=True):
        cell = cut(cell, width, "…")
        parts.append(right(cell, width) if number else left(cell, width))
    return "  ".join(parts).rstrip()


def _paragraph(nth: int, names: Sequence[str], row: Sequence[str], width: int) -> str:
    wide = max(map(cells, names), default=0) + 4
    lines = [f"row {nth:,}"]
    for name, cell in zip(names, row, strict=True):
        head = left(f"  {name}", wide)
        room = max(wide + 20, width)
        lines.extend(wrap(cell, room, head, " " * wide) or [head.rstrip()])
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds")
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:,.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.3g}"
    return plain_text(value)
