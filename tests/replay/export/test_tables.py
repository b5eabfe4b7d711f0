"""The views as files hold what a query finds."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pyarrow.parquet as pq
import pytest

from replay.export.plain import csv_chunks
from replay.export.tables import TABLES, write_csv, write_parquet
from replay.recording.query import RecordingQuery


@pytest.mark.parametrize("table", ["tasks", "stalls", "events", "run"])
def test_parquet_is_the_view(query: RecordingQuery, table: str) -> None:
    file = io.BytesIO()
    write_parquet(query, table, file)
    rows_read = pq.read_table(file).to_pylist()
    columns, rows = query.run(f"SELECT * FROM {table}")
    names = [column.name for column in columns]
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    assert sorted(map(repr, rows_read)) == sorted(map(repr, expected))


def test_csv_has_every_row_of_every_view(query: RecordingQuery) -> None:
    for table in TABLES:
        file = io.BytesIO()
        write_csv(query, table, file)
        rows_read = list(csv.DictReader(io.StringIO(file.getvalue().decode())))
        columns, rows = query.run(f"SELECT * FROM {table}")
        assert len(rows_read) == len(list(rows))
        if rows_read:
            assert list(rows_read[0]) == [column.name for column in columns]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", " =", "\r@", "\uff1d"])
def test_a_spreadsheet_runs_no_cell(begin: str) -> None:
    formula = f"{begin}HYPERLINK(1)"
    rows = [[formula, "a=b", -1.5, None, -2, [formula], Decimal("-3")]]
    (head, line) = csv.reader(
        io.StringIO("".join(csv_chunks([formula, *"bcdefg"], rows, for_spreadsheet=True)))
    )
    assert head[0].startswith("'")
    assert line[0].startswith("'")
    assert line[0].endswith("HYPERLINK(1)")
    assert line[1:5] == ["a=b", "-1.5", "", "-2"]
    assert line[5].startswith("[")
    assert line[6] == "-3"


def test_unasked_a_cell_stays_as_it_is() -> None:
    assert "".join(csv_chunks(["a"], [["=1"], ["-x"]])) == "a\n=1\n-x\n"
