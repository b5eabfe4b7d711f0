"""The views as files: Parquet or CSV, one a view."""

from __future__ import annotations

from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from replay.export.lines import write_lines
from replay.export.plain import csv_chunks
from replay.recording.query import RecordingQuery
from replay.recording.reader import RecordingReader
from replay.recording.views import ALL_VIEWS
from replay.runs.parquet_export import LINE

TABLES = tuple(view.name for view in ALL_VIEWS)
_ORDER = {
    "tasks": "first_ordinal",
    "requests": "first_ordinal",
    "leases": "acquired_ordinal",
    "series": "t, series, key",
    "blame": "t, scope, task_column, row_group, resource, verdict",
}
"""The others are in order as they are."""


def write_parquet(
    query: RecordingQuery, table: str, file: IO[bytes], *, condition: str = ""
) -> None:
    """`condition` in SQL chooses rows of the view."""
    schema, batches = query.batches(_query(table, condition))
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


class _LineWriter:
    """Lines as rows of one column; takes whole lines, many at a time."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema

    def write(self, data: bytes) -> int:
        lines = pa.array(data.splitlines(), pa.binary())
        self._writer.write_batch(pa.RecordBatch.from_arrays([lines], schema=self._schema))
        return len(data)


def write_parquet_stream(reader: RecordingReader, file: IO[bytes]) -> None:
    """The stream itself, as JSON Lines has it, so that the export can be opened again."""
    schema = pa.schema([(LINE, pa.binary())])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        write_lines(reader, _LineWriter(writer, schema))


def write_csv(
    query: RecordingQuery,
    table: str,
    file: IO[bytes],
    *,
    for_spreadsheet: bool = False,
    condition: str = "",
) -> None:
    """Text without control characters; a list is JSON. `for_spreadsheet` as for `csv_chunks`."""
    columns, rows = query.run(_query(table, condition))
    names = [column.name for column in columns]
    for chunk in csv_chunks(names, rows, for_spreadsheet=for_spreadsheet):
        file.write(chunk.encode())


def _query(table: str, condition: str) -> str:
    order = _ORDER.get(table)
    rows = f'SELECT * FROM "{table}"' + (f" WHERE {condition}" if condition else "")
    return rows + (f" ORDER BY {order}" if order else "")
