"""The views as files: Parquet or CSV, one a view."""

from __future__ import annotations

from typing import IO

import pyarrow.parquet as pq

from replay.export.plain import csv_chunks
from replay.recording.query import RecordingQuery
from replay.recording.views import VIEWS

TABLES = (*(view.name for view in VIEWS), "run")
_ORDER = {
    "tasks": "first_ordinal",
    "requests": "first_ordinal",
    "leases": "acquired_ordinal",
    "series": "t, series, key",
    "blame": "t, scope, task_column, row_group, resource, verdict",
}
"""The others are in order as they are."""


def write_parquet(asked: RecordingQuery, table: str, file: IO[bytes]) -> None:
    schema, batches = asked.batches(_query(table))
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_csv(asked: RecordingQuery, table: str, file: IO[bytes], safe_cells: bool = False) -> None:
    """Text without control characters; a list is JSON. `safe_cells` as `csv_chunks` has it."""
    columns, rows = asked.run(_query(table))
    for chunk in csv_chunks([column.name for column in columns], rows, safe_cells=safe_cells):
        file.write(chunk.encode())


def _query(table: str) -> str:
    order = _ORDER.get(table)
    return f'SELECT * FROM "{table}"' + (f" ORDER BY {order}" if order else "")
