"""`SeedColumn`: values of a file of the user."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from engine.errors import UserError
from engine.strict_model import StrictModel
from engine.workflow.columns.base import BaseColumn, BuildContext
from engine.workflow.columns.closed_sql import (
    MOST_SEED_SECONDS,
    SqlError,
    bounded,
    check_single_query,
    closed_connection,
    file_reader,
    first_line,
    plain,
)
from engine.workflow.columns.findings import Finding, LintView
from engine.workflow.columns.generator import (
    BatchContext,
    ColumnGenerator,
    TaskType,
    cell_random,
)
from engine.workflow.columns.permutation import shuffled_index
from engine.workflow.folder_files import OutsideFolder, file_inside

SeedOrder = Literal["ordered", "shuffled", "sampled"]


class Partition(StrictModel):
    """One part of a file, for runs that share it."""

    index: int = Field(ge=0)
    """Which part, from 0."""
    of: int = Field(ge=1)
    """How many parts there are."""

    @model_validator(mode="after")
    def _inside(self) -> Partition:
        if self.index >= self.of:
            raise ValueError(f"index must be below {self.of}: parts are counted from 0")
        return self


class SeedColumn(BaseColumn):
    """A value of a file in the workflow's folder. Columns with the same `path`, `sql`, `order` and
    `partition` take their values from the same line of it."""

    type: Literal["seed"] = "seed"
    """A value from a file."""
    path: str = Field(min_length=1)
    """A CSV, TSV, Parquet or JSON Lines file, seen from the workflow file. It must lie in the
    workflow's folder or below."""
    field: str | None = None
    """Name of the file's column; None gives the whole line, as a mapping of names to values."""
    sql: str | None = None
    """A SELECT over the table `seed`, which is the file: what is taken, and in which order. It
    reaches no other file."""
    order: SeedOrder = "ordered"
    """`ordered`: one line after the other, from the start again at the end. `shuffled`: each line
    once, in an order that depends on the seed of the run, then in another one. `sampled`: any line
    each time."""
    partition: Partition | None = None
    """The part of the lines that this run takes."""

    example: ClassVar[str] = (
        "{ name: city, type: seed, path: cities.csv, field: name, order: shuffled }"
    )

    @field_validator("sql")
    @classmethod
    def _single_select(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                check_single_query(value)
            except SqlError as error:
                raise ValueError(f"the SQL of a seed can't be used: {error}") from None
        return value

    def generator(self, build: BuildContext) -> ColumnGenerator:
        return SeedGenerator(self, build.folder, build.inline)


class SeedGenerator(ColumnGenerator):
    """The values of whole row groups, from the lines of a file of the user."""

    task_type: TaskType = "batch"

    def __init__(self, column: SeedColumn, folder: Path, inline: bool) -> None:
        """Reads the file. Raises `UserError` for what can't be read."""
        super().__init__(column.name)
        self._inline = inline
        self._order = column.order
        self.lines = SeedLines(column, folder)
        part = column.partition or Partition(index=0, of=1)
        count = self.lines.count
        self._first = part.index * count // part.of
        self.count = (part.index + 1) * count // part.of - self._first
        """Lines that this run takes."""
        if not self.count:
            empty = "has no lines" if not count else "has no lines in this partition"
            raise UserError(f'column "{column.name}", path: {column.path} {empty}')
        self._key = f"seed\x1f{column.path}\x1f{column.sql or ''}\x1f{part.index}/{part.of}"

    async def generate_batch(self, context: BatchContext) -> list[Any]:
        numbers = [self.line_of(row, context.seed) for row in context.rows]
        if self._inline:
            return self.lines.read(numbers)
        return await asyncio.to_thread(self.lines.read, numbers)

    def findings(self, view: LintView) -> Iterator[Finding]:
        if self._order != "sampled" and self.count < view.records:
            yield Finding(
                "seed_repeats",
                f'column "{self.column}" has {self.count:,} lines for {view.records:,} records: '
                "they are taken again",
                self.column,
            )

    def line_of(self, row: int, seed: int) -> int:
        """The line that a row takes its value from."""
        if self._order == "sampled":
            return self._first + cell_random(seed, self._key, row).randrange(self.count)
        turn, position = divmod(row, self.count)
        if self._order == "shuffled":
            position = shuffled_index(position, self.count, f"{seed}\x1f{turn}\x1f{self._key}")
        return self._first + position


class SeedLines:
    """The lines of a seed file, in a database of their own."""

    def __init__(self, column: SeedColumn, folder: Path) -> None:
        where = f'column "{column.name}", path'
        try:
            path = file_inside(folder, column.path)
        except OutsideFolder:
            raise UserError(f"{where}: {column.path} leads out of the workflow's folder") from None
        except OSError as error:
            raise UserError(f"{where}: {column.path}: {error.strerror}") from None
        self._connection = closed_connection([path])
        self._field = column.field
        self._load(column, path, where)

    def read(self, numbers: Sequence[int]) -> list[Any]:
        """Values of these lines, in this order."""
        cursor = self._connection.cursor()
        cursor.execute(
            "SELECT line, value FROM lines WHERE line IN (SELECT unnest(?::BIGINT[]))",
            [sorted(set(numbers))],
        )
        values = {line: plain(value) for line, value in cursor.fetchall()}
        return [values[number] for number in numbers]

    def _load(self, column: SeedColumn, path: Path, where: str) -> None:
        import duckdb

        connection = self._connection
        try:
            reader = file_reader(path)
            with bounded(connection, MOST_SEED_SECONDS):
                try:
                    connection.execute(f"CREATE VIEW seed AS SELECT * FROM {reader}")
                except duckdb.Error as error:
                    # Nothing but the file and its header can be wrong.
                    raise UserError(f"{where}: {column.path} can't be read") from error
                source = column.sql or "SELECT * FROM seed"
                try:
                    described = connection.execute(f"DESCRIBE {source}").fetchall()
                except duckdb.PermissionException:
                    raise
                except duckdb.Error as error:
                    raise UserError(f'column "{column.name}", sql: {first_line(error)}') from None
                names = [name for name, *_ in described]
                if column.field is not None and column.field not in names:
                    listed = ", ".join(names)
                    raise UserError(
                        f'column "{column.name}", field: there is no "{column.field}" in '
                        f"{column.path}; it has {listed}"
                    )
                value = "taken" if column.field is None else _column(column.field)
                connection.execute(
                    f"CREATE TABLE lines AS SELECT row_number() OVER () - 1 AS line, {value} AS "
                    f"value FROM ({source}) AS taken"
                )
                counted = connection.execute("SELECT count(*) FROM lines").fetchone()
        except SqlError as error:
            field = "sql" if column.sql else "path"
            raise UserError(f'column "{column.name}", {field}: {error}') from None
        self.count: int = counted[0] if counted is not None else 0


def _column(name: str) -> str:
    return 'taken."' + name.replace('"', '""') + '"'
