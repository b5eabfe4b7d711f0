"""The dataset of a run as a whole: its rows in order, its manifest, and what was dropped.

dataset/row-group-NNNNNN.parquet   the rows of a row group
dropped.parquet                    why the rows that are missing are missing; absent where none is
manifest.json                      what there is
rows.jsonl, rows.csv               all rows in one file, where that was asked for

`dataset/` holds rows alone, so that a reader of Parquet may be given the folder; the other files
stand beside it.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from engine.errors import UserError
from engine.events.run_folder import DROPPED, MANIFEST
from engine.events.safe_files import open_folder, open_regular, read_small
from engine.rows.kept_cells import DroppedRow
from engine.rows.parquet import RowNumbers, file_name, read_rows, row_numbers

RowFormat = Literal["parquet", "jsonl", "csv"]
_MAX_MANIFEST_BYTES = 256 << 20
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")


class DatasetFile(msgspec.Struct, frozen=True):
    """The file of one row group."""

    name: str
    row_group: int
    rows: int
    """Rows in it."""
    bytes: int


class DatasetColumn(msgspec.Struct, frozen=True):
    """A column of a dataset, as its manifest lists it."""

    name: str
    type: str
    """As in the workflow."""
    task_type: str
    """`cell` for a task per row, `batch` for one per row group."""


class Manifest(msgspec.Struct, frozen=True):
    """`manifest.json`: what a dataset is, and whether it is complete."""

    run_id: str
    workflow: str
    seed: int
    records: int
    columns: tuple[DatasetColumn, ...]
    outcome: str
    complete: bool
    """Every record is in a file, or dropped."""
    rows: int
    dropped: int
    resumes: int
    files: tuple[DatasetFile, ...]
    version: int = 1


class Dataset:
    """The files of a dataset, opened one at a time. Raises `UserError` where there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._fd = open_folder(folder)
            names = sorted(os.listdir(self._fd))
        except OSError as error:
            raise UserError(f"there is no dataset in {folder}: {error.strerror}") from None
        self.row_groups = tuple(
            number for name in names if (number := _row_group_of(name)) is not None
        )

    def close(self) -> None:
        os.close(self._fd)

    def manifest(self) -> Manifest | None:
        return read_manifest(self._folder)

    def files(self) -> Iterator[DatasetFile]:
        for row_group in self.row_groups:
            name = file_name(row_group)
            size = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_size
            yield DatasetFile(name, row_group, self.numbers(row_group).rows, size)

    def numbers(self, row_group: int) -> RowNumbers:
        """Which rows a file holds. Raises `UserError` where it can't be read."""
        return row_numbers(self._fd, self._folder, row_group)

    def rows(self, row_groups: Sequence[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows with their numbers, in order. Raises `UserError` where a file can't be read."""
        for row_group in self.row_groups if row_groups is None else row_groups:
            numbers = self.numbers(row_group)
            yield from zip(numbers, read_rows(self._fd, self._folder, row_group), strict=True)


def read_manifest(folder: Path) -> Manifest | None:
    """None where there is none, or one that can't be read."""
    try:
        data = read_small(folder.parent / MANIFEST, limit=_MAX_MANIFEST_BYTES)
        return msgspec.json.decode(data, type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Raises `OSError`."""
    content = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
    _replace(folder.parent, MANIFEST, lambda file: file.write(content))


def write_dropped(folder: Path, dropped: Iterable[DroppedRow]) -> None:
    """Write the sidecar, or remove it where nothing was dropped. Raises `OSError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(set(dropped))
    if not rows:
        with suppress(FileNotFoundError):
            (folder.parent / DROPPED).unlink()
        return
    schema = pa.schema(
        [
            ("row", pa.int64()),
            ("column", pa.string()),
            ("error_type", pa.string()),
            ("class", pa.string()),
            ("attempts", pa.int64()),
        ]
    )
    columns = [list(values) for values in zip(*rows, strict=True)]
    table = pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
    _replace(folder.parent, DROPPED, lambda file: pq.write_table(table, file))


def write_rows(folder: Path, row_format: RowFormat) -> None:
    """All rows in one file, in their order; nothing for `parquet`. Raises `OSError` and
    `UserError`."""
    if row_format == "parquet":
        return
    dataset = Dataset(folder)
    try:
        rows = (values for _, values in dataset.rows())
        _replace(
            folder.parent, f"rows.{row_format}", lambda file: write_lines(file, rows, row_format)
        )
    finally:
        dataset.close()


def write_lines(
    file: IO[bytes], rows: Iterable[Mapping[str, Any]], row_format: Literal["jsonl", "csv"]
) -> None:
    """Rows as JSON Lines, or as CSV in which no cell begins as a formula of a spreadsheet does."""
    if row_format == "jsonl":
        for row in rows:
            text = json.dumps(row, ensure_ascii=False, default=_text)
            file.write(text.encode("utf-8", "replace") + b"\n")
        return
    lines = _Lines(file)
    writer = csv.writer(lines, lineterminator="\n")
    names: list[str] | None = None
    for row in rows:
        if names is None:
            names = list(row)
            writer.writerow([_cell(name) for name in names])
        writer.writerow([_cell(row.get(name)) for name in names])


class _Lines:
    """What `csv` writes to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "replace"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    text = _text(value)
    if isinstance(value, str) and text.lstrip(" ").startswith(_FORMULA_BEGINS):
        return f"'{text}"
    return text


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _row_group_of(name: str) -> int | None:
    stem = name.removeprefix("row-group-").removesuffix(".parquet")
    return int(stem) if stem.isdecimal() and name == file_name(int(stem)) else None


def _replace(folder: Path, name: str, write: Any) -> None:
    """The file is there as a whole, or as it was."""
    fd = open_folder(folder)
    unfinished = f"{name}.tmp"
    try:
        with suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(open_regular(unfinished, flags, dir_fd=fd), "wb") as file:
            write(file)
        os.replace(unfinished, name, src_dir_fd=fd, dst_dir_fd=fd)
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=fd)
        raise
    finally:
        os.close(fd)
