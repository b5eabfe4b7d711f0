from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from engine.errors import UserError
from engine.workflow.columns.permutation import shuffled_index
from tests.effort import effort
from tests.engine.workflow.columns.cells import batch, generator, workflow

CITIES = [("Lyon", 1), ("Riga", 2), ("Oslo", 3), ("Cork", 4), ("Pisa", 5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "workflow"
    (inside / "data").mkdir(parents=True)
    lines = ["name,number", *(f"{name},{number}" for name, number in CITIES)]
    (inside / "cities.csv").write_text("\n".join(lines) + "\n")
    rows = [{"name": name, "number": number} for name, number in CITIES]
    (inside / "cities.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), inside / "data" / "cities.parquet")
    (tmp_path / "secret.csv").write_text("name\nsecret\n")
    return inside


def taken(folder: Path, rows: range, seed: int = 1, **parts: Any) -> list[Any]:
    column = {"type": "seed", "path": "cities.csv", "field": "name", **parts}
    return batch(generator(column, folder=folder), rows, seed=seed)


NAMES = [name for name, _ in CITIES]


@pytest.mark.parametrize("path", ["cities.csv", "cities.jsonl", "data/cities.parquet"])
def test_lines_come_in_their_order_and_again(folder: Path, path: str) -> None:
    assert taken(folder, range(12), path=path) == (NAMES * 3)[:12]
    whole = taken(folder, range(2), path=path, field=None)
    assert whole == [{"name": "Lyon", "number": 1}, {"name": "Riga", "number": 2}]


def test_a_shuffle_takes_each_line_once_in_each_turn(folder: Path) -> None:
    values = taken(folder, range(15), order="shuffled")
    turns = [values[:5], values[5:10], values[10:]]
    assert all(sorted(turn) == sorted(NAMES) for turn in turns)
    assert len({tuple(turn) for turn in [NAMES, *turns]}) > 2
    assert taken(folder, range(15), order="shuffled") == values
    assert taken(folder, range(15), order="shuffled", seed=2) != values
    # Whatever the size of the row groups.
    assert taken(folder, range(4, 9), order="shuffled") == values[4:9]


def test_a_sample_takes_any_line_each_time(folder: Path) -> None:
    values = taken(folder, range(1000), order="sampled")
    counts = Counter(values)
    assert set(counts) == set(NAMES)
    assert all(130 < count < 270 for count in counts.values())
    assert taken(folder, range(500, 510), order="sampled") == values[500:510]


def test_parts_have_every_line_once(folder: Path) -> None:
    parts = [
        taken(folder, range(count), partition={"index": index, "of": 3})
        for index, count in enumerate((1, 2, 2))
    ]
    assert parts == [["Lyon"], ["Riga", "Oslo"], ["Cork", "Pisa"]]
    with pytest.raises(UserError, match="has no lines in this partition"):
        taken(folder, range(1), partition={"index": 0, "of": 9})
    with pytest.raises(ValidationError, match="index must be below 3"):
        taken(folder, range(1), partition={"index": 3, "of": 3})


def test_columns_of_one_file_take_the_same_line(folder: Path) -> None:
    for order in ("shuffled", "sampled"):
        names = taken(folder, range(50), order=order)
        column = {"type": "seed", "path": "cities.csv", "field": "number", "order": order}
        numbers = batch(generator(column, folder=folder), range(50))
        assert list(zip(names, numbers, strict=True)) == [
            (name, dict(CITIES)[name]) for name in names
        ]


def test_sql_says_what_is_taken(folder: Path) -> None:
    sql = "SELECT upper(name) AS shout FROM seed WHERE number > 2 ORDER BY number DESC"
    assert taken(folder, range(4), sql=sql, field="shout") == ["PISA", "CORK", "OSLO", "PISA"]


def test_unusual_values_are_plain(folder: Path) -> None:
    sql = "SELECT DATE '2024-02-29' AS day, 1.50::DECIMAL(4, 2) AS price, [1, 2] AS list FROM seed"
    [line] = taken(folder, range(1), sql=sql, field=None)
    assert line == {"day": "2024-02-29", "price": "1.50", "list": [1, 2]}


@pytest.mark.parametrize(
    "source",
    [
        "read_csv('../secret.csv')",
        "read_csv('{outside}/secret.csv')",
        "'{outside}/secret.csv'",
        "read_text('/etc/passwd')",
        "read_csv('cities.csv')",
        "read_blob('{outside}/*')",
        "glob('{outside}/*')",
        "read_csv('http://127.0.0.1:9/x.csv')",
        "duckdb_secrets()",
        "sniff_csv('{outside}/secret.csv')",
        "parquet_metadata('{outside}/secret.csv')",
    ],
)
def test_sql_reaches_no_other_file(folder: Path, source: str) -> None:
    sql = f"SELECT * FROM {source.format(outside=folder.parent)}"
    with pytest.raises(UserError, match=r'column "x", (sql|path): it reaches for a file'):
        taken(folder, range(1), sql=sql, field=None)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "ATTACH 'other.db'",
        "COPY (SELECT 1) TO 'file.csv'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "CREATE TABLE a AS SELECT 1",
        "SELEC 1",
    ],
)
def test_sql_is_one_select(sql: str) -> None:
    with pytest.raises(ValidationError, match="the SQL of a seed can't be used"):
        workflow({"name": "x", "type": "seed", "path": "a.csv", "sql": sql})


def test_python_s_variables_are_no_tables(folder: Path) -> None:
    with pytest.raises(UserError, match=r'column "x", sql: .*NAMES'):
        taken(folder, range(1), sql="SELECT * FROM NAMES", field=None)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../secret.csv", "leads out of the workflow's folder"),
        ("/etc/passwd", "leads out of the workflow's folder"),
        ("link.csv", "leads out of the workflow's folder"),
        ("gone.csv", "there is no such file"),
        ("data", "it is no file"),
        ("cities.xlsx", r"must end in \.csv"),
        ("broken.parquet", "can't be read"),
        ("empty.csv", "(can't be read|has no lines)"),
    ],
)
def test_a_file_that_can_t_be_taken_is_told(folder: Path, path: str, says: str) -> None:
    os.symlink(folder.parent / "secret.csv", folder / "link.csv")
    for name in ("cities.xlsx", "broken.parquet"):
        (folder / name).write_text("private words")
    (folder / "empty.csv").write_text("name\n")
    with pytest.raises(UserError, match=says) as caught:
        taken(folder, range(1), path=path)
    assert str(caught.value).startswith('column "x", path: ')
    assert "private" not in str(caught.value)


def test_a_field_that_is_missing_is_told_with_those_that_are_there(folder: Path) -> None:
    with pytest.raises(UserError, match=r'there is no "nam" in cities.csv; it has name, number'):
        taken(folder, range(1), field="nam")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 1000, effort(5000, 100_000)])
def test_a_shuffle_is_a_permutation(count: int) -> None:
    places = [shuffled_index(index, count, "key") for index in range(count)]
    assert sorted(places) == list(range(count))
    if count > 60:
        assert sum(index == place for index, place in enumerate(places)) < 10
        assert places != [shuffled_index(index, count, "other") for index in range(count)]
