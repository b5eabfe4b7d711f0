"""Values of a query as text, CSV and JSON, for export and the command line alike."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from replay.sources.sanitize import clean_text

ROWS_AT_ONCE = 1_000
_FORMULA_BEGINS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Of cells that spreadsheets run, in either width."""


def plain(value: Any) -> Any:
    """The value as JSON knows it; numbers that JSON lacks are None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return str(value)


def plain_text(value: Any) -> str:
    """The value on one line, without control characters and direction overrides."""
    if isinstance(value, (list, dict, tuple)):
        return json.dumps(plain(value))
    return clean_text(value if isinstance(value, str) else str(plain(value)))


def spreadsheet_text(value: Any) -> str:
    """`plain_text` that a spreadsheet takes for text: an apostrophe stands before what it would
    run as a formula. Numbers stay numbers, also those that are text."""
    text = plain_text(value)
    if isinstance(value, (int, float, Decimal)) or not text.lstrip().startswith(_FORMULA_BEGINS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_chunks(
    names: Sequence[str], rows: Iterable[Sequence[Any]], *, for_spreadsheet: bool = False
) -> Iterator[str]:
    """A header line, then a line for each row; null is empty.

    `for_spreadsheet`: no cell begins as a formula does.
    """
    text = spreadsheet_text if for_spreadsheet else plain_text
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([text(name) for name in names])
    yield _taken(buffer)
    left = iter(rows)
    while chunk := list(islice(left, ROWS_AT_ONCE)):
        for row in chunk:
            writer.writerow([None if value is None else text(value) for value in row])
        yield _taken(buffer)


def json_chunks(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """One array of objects, a row a line; all that is not ASCII is escaped."""
    opening = "[\n"
    for row in rows:
        yield opening + json.dumps(dict(zip(names, map(plain, row), strict=True)))
        opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
