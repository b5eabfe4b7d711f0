"""The dataset as a whole: its rows in order, its manifest, and what was dropped."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.errors import UserError
from engine.rows.dataset import (
    Dataset,
    DatasetColumn,
    Manifest,
    read_manifest,
    write_dropped,
    write_lines,
    write_manifest,
    write_rows,
)
from engine.rows.kept_cells import DroppedRow
from engine.rows.parquet import RowGroupWriter, RowNumbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = RowGroupWriter(tmp_path / "dataset", ["a", "b"])
    writer.write(1, [{"a": 4, "b": {"x": [1]}}], RowNumbers(3, 3, (3, 5)))
    writer.write(0, [{"a": n, "b": "text"} for n in (0, 2)], RowNumbers(0, 3, (1,)))
    return tmp_path / "dataset"


def test_rows_have_their_numbers(folder: Path) -> None:
    dataset = Dataset(folder)
    assert [number for number, _ in dataset.rows()] == [0, 2, 4]
    assert [values for _, values in dataset.rows([1])] == [{"a": 4, "b": {"x": [1]}}]
    assert [(file.row_group, file.rows) for file in dataset.files()] == [(0, 2), (1, 1)]
    dataset.close()


def test_a_file_that_does_not_say_which_rows_it_holds(tmp_path: Path) -> None:
    RowGroupWriter(tmp_path, ["a"]).write(0, [{"a": 1}, {"a": 2}])
    assert [number for number, _ in Dataset(tmp_path).rows()] == [0, 1]


def test_damage_is_one_sentence(folder: Path) -> None:
    (folder / "row-group-000001.parquet").write_bytes(b"PAR1 nothing of use PAR1")
    with pytest.raises(UserError, match=r"row-group-000001\.parquet: it is damaged"):
        list(Dataset(folder).rows())


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no dataset"):
        Dataset(tmp_path / "none")


def test_the_sidecar_of_dropped_rows(folder: Path) -> None:
    dropped = [DroppedRow(5, "b", "HTTP400", "bad_request", 1), DroppedRow(1, "b", "E", "", 5)]
    write_dropped(folder, [*dropped, dropped[0]])
    assert pq.read_table(folder.parent / "dropped.parquet").to_pylist() == [
        {"row": 1, "column": "b", "error_type": "E", "class": "", "attempts": 5},
        {"row": 5, "column": "b", "error_type": "HTTP400", "class": "bad_request", "attempts": 1},
    ]
    write_dropped(folder, [])
    assert not (folder.parent / "dropped.parquet").exists()
    assert Dataset(folder).row_groups == (0, 1)


def test_the_manifest(folder: Path) -> None:
    files = tuple(Dataset(folder).files())
    columns = (DatasetColumn("a", "sampler", "batch"), DatasetColumn("b", "llm_text", "cell"))
    manifest = Manifest("id", "w", 3, 6, columns, "success", True, 3, 3, 1, files)
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert json.loads((folder.parent / "manifest.json").read_text())["files"][1]["rows"] == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"files": 3}'])
def test_what_is_no_manifest(folder: Path, content: bytes) -> None:
    (folder.parent / "manifest.json").write_bytes(content)
    assert read_manifest(folder) is None


def test_all_rows_in_one_file(folder: Path) -> None:
    write_rows(folder, "jsonl")
    lines = (folder.parent / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"a": 0, "b": "text"},
        {"a": 2, "b": "text"},
        {"a": 4, "b": {"x": [1]}},
    ]
    assert pq.read_table(folder).num_rows == 3  # readers of Parquet take the folder as it is
    write_rows(folder, "csv")
    assert (folder.parent / "rows.csv").read_text() == 'a,b\n0,text\n2,text\n4,"{""x"": [1]}"\n'


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("  @cmd", "'  @cmd"),
        ("-2", "'-2"),
        (-2, "-2"),
        ("\ttab", "'\ttab"),
        ("a\nb", '"a\nb"'),
        (None, '""'),
        (b"\xff", "�"),
        (True, "True"),
    ],
)
def test_no_cell_begins_as_a_formula(value: Any, cell: str) -> None:
    file = io.BytesIO()
    write_lines(file, [{"x": value}], "csv")
    assert file.getvalue().decode() == f"x\n{cell}\n"
