"""Rows of a query on stdout: a table for people, CSV and JSON for programs.

Text comes from outside: in a table and in CSV, control characters and direction overrides become
U+FFFD; JSON escapes them, and loses nothing.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import click
from rich.cells import cell_len, set_cell_size

from replay.recording.query import ResultColumn
from replay.sources.text import clean_text

CELL_WIDTH = 60
ROWS_AT_ONCE = 1_000
_NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL")


def write_table(
    columns: Sequence[ResultColumn], rows: Iterator[Sequence[Any]], limit: int | None
) -> bool:
    """Aligned columns; long cells are cut. True where there were more than `limit` rows."""
    taken = 0
    numbers = [any(word in column.type for word in _NUMBERS) for column in columns]
    widths: list[int] | None = None
    while True:
        at_once = ROWS_AT_ONCE if limit is None else min(ROWS_AT_ONCE, limit - taken)
        chunk = [[_cell(value) for value in row] for row in itertools.islice(rows, at_once)]
        if widths is None:
            names = [clean_text(column.name) for column in columns]
            widths = [
                min(CELL_WIDTH, max(map(cell_len, [name, *(row[nth] for row in chunk)])))
                for nth, name in enumerate(names)
            ]
            click.echo(_line(names, widths, numbers))
            click.echo("  ".join("-" * width for width in widths))
        for row in chunk:
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
    columns: Sequence[ResultColumn], rows: Iterator[Sequence[Any]], limit: int | None
) -> bool:
    """A header line, then a line for each row; null is empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([clean_text(column.name) for column in columns])
    for row in itertools.islice(rows, limit):
        writer.writerow([None if value is None else _text(value) for value in row])
    return limit is not None and next(rows, None) is not None


def write_json(
    columns: Sequence[ResultColumn], rows: Iterator[Sequence[Any]], limit: int | None
) -> bool:
    """One array of objects, a row a line. Numbers that JSON lacks are null."""
    names = [column.name for column in columns]
    opening = "[\n"
    for row in itertools.islice(rows, limit):
        values = dict(zip(names, map(_plain, row), strict=True))
        click.echo(opening + json.dumps(values), nl=False)
        opening = ",\n"
    click.echo("[]" if opening == "[\n" else "\n]")
    return limit is not None and next(rows, None) is not None


def _line(cells: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    parts = []
    for cell, width, number in zip(cells, widths, numbers, strict=True):
        if cell_len(cell) > width:
            cell = set_cell_size(cell, width - 1) + "…"
        space = " " * (width - cell_len(cell))
        parts.append(space + cell if number else cell + space)
    return "  ".join(parts).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:,.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.3g}"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, (list, dict, tuple)):
        return json.dumps(_plain(value))
    return clean_text(str(_plain(value)))


def _plain(value: Any) -> Any:
    """As JSON knows it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return str(value)
