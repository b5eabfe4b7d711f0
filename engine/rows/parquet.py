"""`RowGroupWriter`: writes finished rows to Parquet."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from engine.errors import UserError
from engine.events.safe_files import UnsafeFile, check_regular, open_folder, open_regular

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN = (str, int, float, bool, bytes)
_KIND = b"headgate.kind"
_JSON_KIND = b"json"
_NUMBERS = b"headgate.rows"
_MAX_FILE_BYTES = 8 << 30
_NESTED = {_KIND: _JSON_KIND}
"""Metadata of a column whose texts are nested values as JSON."""
_JSON = (dict, list, tuple, bool, int, float)


class RowNumbers(NamedTuple):
    """Numbers of the rows in a file: those from `first` on, but the missing ones."""

    first: int
    size: int
    """With the missing ones."""
    missing: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return self.size - len(self.missing)

    def __iter__(self) -> Iterator[int]:
        missing = frozenset(self.missing)
        return (n for n in range(self.first, self.first + self.size) if n not in missing)

    def encoded(self) -> bytes:
        return json.dumps([self.first, self.size, list(self.missing)]).encode()


class RowGroupWriter:
    """Writes one file per row group into `folder`, each whole or not at all.

    The folder is held open, so that files still go into it when it is renamed.
    """

    def __init__(self, folder: Path, columns: list[str]) -> None:
        """Create the folder. Raises `UserError` if that, or writing into it, is not permitted."""
        self._folder = folder
        self._columns = columns
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            self._fd = open_folder(folder)
        except OSError as error:
            raise self._unwritable(error) from None
        weakref.finalize(self, os.close, self._fd)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=self._fd):
            raise UserError(f"can't write into {folder}: no permission")

    def write(
        self,
        row_group: int,
        rows: Sequence[Mapping[str, Any]],
        numbers: RowNumbers | None = None,
    ) -> Path:
        """Write a row group. Blocks.

        Args:
            row_group: Its index.
            rows: Its rows; a column that is missing from a row is null.
            numbers: The numbers of the rows, for whoever reads the file.

        Returns:
            The file.

        Raises:
            UserError: The file can't be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields, arrays = [], []
        for column in self._columns:
            values = [row.get(column) for row in rows]
            array = arrow_column(values)
            arrays.append(array)
            kind = _NESTED if _nested(values) else None
            fields.append(pa.field(column, array.type, metadata=kind))
        metadata = None if numbers is None else {_NUMBERS: numbers.encoded()}
        table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata))
        name = file_name(row_group)
        unfinished = f"{name}.tmp"
        fd = self._fd
        try:
            # Remove what an earlier attempt left, and do not write through a link of that name.
            with suppress(FileNotFoundError):
                os.unlink(unfinished, dir_fd=fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(open_regular(unfinished, flags, dir_fd=fd), "wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, name, src_dir_fd=fd, dst_dir_fd=fd)
            os.fsync(fd)
        except OSError as error:
            with suppress(OSError):
                os.unlink(unfinished, dir_fd=fd)
            raise self._unwritable(error) from None
        return self._folder / name

    def has(self, row_group: int) -> bool:
        """Whether the file of a row group is there."""
        try:
            check_regular(file_name(row_group), dir_fd=self._fd)
        except OSError:
            return False
        return True

    def read(self, row_group: int) -> list[dict[str, Any]]:
        """As `read_rows`, of a row group that was written."""
        return read_rows(self._fd, self._folder, row_group)

    def _unwritable(self, error: OSError) -> UserError:
        # Arrow's message repeats the whole call; the system's reason is enough.
        reason = os.strerror(error.errno) if error.errno else str(error)
        if isinstance(error, UnsafeFile) and error.strerror:
            reason = error.strerror
        return UserError(f"can't write into {self._folder}: {reason}")


def row_numbers(folder_fd: int, folder: Path, row_group: int) -> RowNumbers:
    """Which rows the file of a row group holds; counted from 0 where it does not say so.

    Raises:
        UserError: The file can't be read.
    """
    import pyarrow.parquet as pq

    with _readable(folder_fd, folder, row_group) as file:
        parquet = pq.ParquetFile(file)
        encoded = (parquet.schema_arrow.metadata or {}).get(_NUMBERS)
        rows = parquet.metadata.num_rows
    try:
        first, count, missing = json.loads(encoded or b"null")
        numbers = RowNumbers(int(first), int(count), tuple(map(int, missing)))
    except (TypeError, ValueError):
        return RowNumbers(0, rows)
    return numbers if numbers.rows == rows else RowNumbers(0, rows)


def read_rows(folder_fd: int, folder: Path, row_group: int) -> list[dict[str, Any]]:
    """The rows of a row group. Nested values are read as such; values of several types that share
    a column are read as the text that they were written as.

    Raises:
        UserError: The file can't be read.
    """
    import pyarrow.parquet as pq

    with _readable(folder_fd, folder, row_group) as file:
        parquet = pq.ParquetFile(file)
        size = sum(
            parquet.metadata.row_group(n).total_byte_size
            for n in range(parquet.metadata.num_row_groups)
        )
        if size > _MAX_FILE_BYTES:
            raise UserError(f"{folder / file_name(row_group)} holds too much to be read at once")
        table = parquet.read()
    columns = {}
    for field in table.schema:
        values = table.column(field.name).to_pylist()
        if (field.metadata or {}).get(_KIND) == _JSON_KIND:
            values = [_from_json(value) for value in values]
        columns[field.name] = values
    return [{name: values[n] for name, values in columns.items()} for n in range(table.num_rows)]


@contextmanager
def _readable(folder_fd: int, folder: Path, row_group: int) -> Iterator[IO[bytes]]:
    import pyarrow as pa

    name = file_name(row_group)
    try:
        with open(open_regular(name, dir_fd=folder_fd), "rb") as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.errno else "it is damaged"
        raise UserError(f"can't read {folder / name}: {reason}") from None


def _from_json(value: Any) -> Any:
    try:
        return None if value is None else json.loads(value)
    except (ValueError, RecursionError):
        return value


def file_name(row_group: int) -> str:
    """File name of a finished row group."""
    return f"row-group-{row_group:06d}.parquet"


def _nested(values: Sequence[Any]) -> bool:
    """Whether JSON gives these values back as they are."""
    present = [value for value in values if value is not None]
    return bool(present) and all(type(value) in (dict, list) for value in present)


def arrow_column(values: Sequence[Any]) -> pa.Array:
    """Values of one plain type as that type; anything else as text, nested values as JSON.

    A column of nulls is text as well, so that its type does not depend on which rows are null.
    """
    import pyarrow as pa

    present = [value for value in values if value is not None]
    # Arrow would convert text to bytes in a column that has both.
    alike = len({isinstance(value, bytes) for value in present}) == 1
    if alike and all(isinstance(value, _PLAIN) for value in present):
        try:
            return pa.array(values)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            pass  # mixed types, lone surrogates, or integers beyond 64 bits
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    text = _json(value) if isinstance(value, _JSON) else str(value)
    return text.encode("utf-8", "replace").decode("utf-8")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # keys that JSON has no form for, or a cycle
        return str(value)
