from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.errors import UserError
from engine.rows.parquet import RowGroupWriter


def column(folder: Path, values: list[Any]) -> tuple[str, list[Any]]:
    """Arrow type and values of one column after a round trip."""
    path = RowGroupWriter(folder / "dataset", ["x"]).write(0, [{"x": value} for value in values])
    table = pq.read_table(path)
    return str(table.schema.field("x").type), table.column("x").to_pylist()


def test_a_row_group_is_one_file(tmp_path: Path) -> None:
    writer = RowGroupWriter(tmp_path / "deep" / "dataset", ["b", "a"])
    path = writer.write(3, [{"a": 1, "b": "x", "hidden": 9}, {"b": "y"}])
    assert path == tmp_path / "deep" / "dataset" / "row-group-000003.parquet"
    table = pq.read_table(path)
    assert table.column_names == ["b", "a"]
    assert table.to_pylist() == [{"b": "x", "a": 1}, {"b": "y", "a": None}]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_row_group_without_survivors_is_a_file_without_rows(tmp_path: Path) -> None:
    path = RowGroupWriter(tmp_path, ["a"]).write(0, [])
    assert pq.read_table(path).num_rows == 0


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    writer = RowGroupWriter(tmp_path, ["a"])
    writer.write(0, [{"a": 1}])
    assert pq.read_table(writer.write(0, [{"a": 2}])).to_pylist() == [{"a": 2}]


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([1, None, 3], "int64", [1, None, 3]),
        ([1, 2.5], "double", [1.0, 2.5]),
        ([True, False], "bool", [True, False]),
        (["a", "ü"], "string", ["a", "ü"]),
        ([b"a", b"\xff"], "binary", [b"a", b"\xff"]),
        ([None, None], "string", [None, None]),
        ([1, "a", None], "string", ["1", "a", None]),
        ([True, 1], "string", ["true", "1"]),
        ([b"a", "b"], "string", ["a", "b"]),
        ([2**70, 1], "string", [str(2**70), "1"]),
        ([{"a": 1}, {"b": [2]}], "string", ['{"a": 1}', '{"b": [2]}']),
        ([[1], "plain"], "string", ["[1]", "plain"]),
        ([{(1, 2): 3}], "string", ["{(1, 2): 3}"]),
        ([Path("a/b"), date(2024, 2, 3)], "string", ["a/b", "2024-02-03"]),
        (["\ud800", "b"], "string", ["?", "b"]),
    ],
)
def test_every_mixture_of_values_is_kept(
    values: list[Any], kind: str, read: list[Any], tmp_path: Path
) -> None:
    assert column(tmp_path, values) == (kind, read)


def test_a_folder_that_can_t_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write into .*file/dataset: Not a directory"):
        RowGroupWriter(tmp_path / "file" / "dataset", ["a"])


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = RowGroupWriter(tmp_path / "dataset", ["a"])
    blocked = tmp_path / "dataset" / "row-group-000000.parquet"
    (blocked / "in the way").mkdir(parents=True)
    with pytest.raises(UserError, match="can't write into"):
        writer.write(0, [{"a": 1}])
    assert [p.name for p in blocked.parent.iterdir()] == [blocked.name]


def test_a_folder_renamed_in_mid_run_takes_its_rows_along(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    writer = RowGroupWriter(tmp_path / "run" / "dataset", ["a"])
    writer.write(0, [{"a": 1}])
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "run" / "dataset").mkdir(parents=True)
    writer.write(1, [{"a": 2}])
    dataset = tmp_path / "moved" / "dataset"
    assert pq.read_table(dataset / "row-group-000001.parquet").to_pylist() == [{"a": 2}]
    assert len(list(dataset.iterdir())) == 2
    assert not list((tmp_path / "run" / "dataset").iterdir())


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to("theirs")
    with pytest.raises(UserError, match="symbolic link"):
        RowGroupWriter(tmp_path / "link", ["a"])
    writer = RowGroupWriter(tmp_path / "dataset", ["a"])
    for name in ("row-group-000000.parquet", "row-group-000000.parquet.tmp"):
        (tmp_path / "dataset" / name).symlink_to(tmp_path / "precious")
    path = writer.write(0, [{"a": 1}])
    assert not path.is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_rows_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = RowGroupWriter(tmp_path / "dataset", ["a"]).write(0, [{"a": 1}])
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
