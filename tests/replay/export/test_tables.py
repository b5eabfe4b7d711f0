"""The views as files hold what a query finds."""

from __future__ import annotations

import csv
import io

import pyarrow.parquet as pq
import pytest

from replay.export.tables import TABLES, write_csv, write_parquet
from replay.recording.query import RecordingQuery


@pytest.mark.parametrize("table", ["tasks", "stalls", "events", "run"])
def test_parquet_is_the_view(asked: RecordingQuery, table: str) -> None:
    file = io.BytesIO()
    write_parquet(asked, table, file)
    found = pq.read_table(file).to_pylist()
    columns, rows = asked.run(f"SELECT * FROM {table}")
    names = [column.name for column in columns]
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


def test_csv_has_every_row_of_every_view(asked: RecordingQuery) -> None:
    for table in TABLES:
        file = io.BytesIO()
        write_csv(asked, table, file)
        found = list(csv.DictReader(io.StringIO(file.getvalue().decode())))
        columns, rows = asked.run(f"SELECT * FROM {table}")
        assert len(found) == len(list(rows))
        if found:
            assert list(found[0]) == [column.name for column in columns]
