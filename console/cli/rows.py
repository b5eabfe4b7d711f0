"""`headgate rows`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.terminal import own_name, text_width

if TYPE_CHECKING:
    from engine.rows.dataset import Dataset
    from replay.recording.filters.subjects import Predicate

TABLE_ROWS = 20
MOST_CHARACTERS = 20_000
"""Of one value."""
MOST_TASKS_NAMED = 50


@click.command()
@click.argument("run", type=RUN)
@click.option("--row", type=click.IntRange(0), help="Only this row, with whole values.")
@click.option("--columns", help="Only these, with commas between them.")
@click.option("--where", "where_text", metavar="FILTER", help="As in the console: topic:tides n>9.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    help=f"At most so many rows, 0 for all. Default: {TABLE_ROWS} in a table, else all.",
)
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout; no cell begins as a formula.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="JSON Lines on stdout.")
def rows(
    run: str,
    row: int | None,
    columns: str | None,
    where_text: str | None,
    limit: int | None,
    as_csv: bool,
    as_jsonl: bool,
) -> int:
    """Look at the rows that RUN has made so far.

    The number of a row is that of its tasks: row 17 was made by question/17, answer/17 and so on.
    """
    from engine.rows.dataset import Dataset

    if as_csv and as_jsonl:
        raise click.UsageError("Give --csv or --jsonl, not both.")
    folder = _dataset_of(run)
    dataset = Dataset(folder)
    try:
        if row is not None:
            return _show_row(dataset, run, row, _names(columns))
        _show_rows(dataset, columns, where_text, limit, as_csv, as_jsonl)
    finally:
        dataset.close()
    return exit_codes.OK


def _dataset_of(run: str) -> Path:
    """Raises `UserError` where there is no such run."""
    from engine.errors import UserError
    from replay.runs.open import runs_named
    from replay.sources.sanitize import clean_text

    path = Path(run)
    if path.is_dir():
        return path / "dataset" if (path / "dataset").is_dir() else path
    known = [entry.path for entry in runs_named(run)]
    if len(known) != 1:
        problem = f"{len(known)} runs are called" if known else "there is no run"
        raise UserError(f"{problem} {clean_text(run)}; {own_name()} runs lists them")
    return known[0] / "dataset"


def _names(columns: str | None) -> list[str] | None:
    return None if columns is None else [name.strip() for name in columns.split(",")]


def _show_row(dataset: Dataset, run: str, row: int, names: list[str] | None) -> int:
    from engine.errors import UserError
    from replay.diagnosis.report.text_layout import wrap
    from replay.export.plain import plain_text
    from replay.sources.sanitize import clean_text

    for row_group in dataset.row_groups:
        numbers = dataset.numbers(row_group)
        if not numbers.first <= row < numbers.first + numbers.size:
            continue
        if row in numbers.missing:
            raise UserError(
                f"row {row} is not in the dataset: it was dropped, or is not finished; "
                f"{own_name()} why {run} says what failed"
            )
        values = next(values for number, values in dataset.rows([row_group]) if number == row)
        shown = _checked(names, values) or list(values)
        width = text_width() or 100
        for name in shown:
            click.echo(clean_text(name))
            text = values[name]
            lines = (text if isinstance(text, str) else plain_text(text))[:MOST_CHARACTERS]
            for line in lines.split("\n"):
                click.echo("\n".join(wrap(clean_text(line), width, "  ", "  ")) or "")
        tasks = [f"{clean_text(name)}/{row}" for name in _cell_columns(dataset, values)]
        if tasks:
            click.echo(f"Tasks: {', '.join(tasks[:MOST_TASKS_NAMED])}", err=True)
            click.echo(f"Their life: {own_name()} why {run} --task {tasks[-1]}", err=True)
            click.echo(f"In the console: {own_name()} replay {run} --open row:{row}", err=True)
        return exit_codes.OK
    raise UserError(f"there is no row {row} in the dataset yet")


def _cell_columns(dataset: Dataset, values: dict[str, Any]) -> list[str]:
    """The columns of which each row has a task of its own, in the order in which they are made."""
    manifest = dataset.manifest()
    if manifest is None:
        return list(values)
    return [column.name for column in manifest.columns if column.task_type == "cell"]


def _show_rows(
    dataset: Dataset,
    columns: str | None,
    where_text: str | None,
    limit: int | None,
    as_csv: bool,
    as_jsonl: bool,
) -> None:
    from console.cli.table_output import write_table
    from engine.rows.dataset import write_lines
    from replay.recording.query_protocol import ResultColumn

    numbered_rows = dataset.rows()
    first = next(numbered_rows, None)
    if first is None:
        click.echo("The dataset holds no row yet.", err=True)
        return
    names = _checked(_names(columns), first[1]) or list(first[1])
    matches = _predicate(where_text, first[1])
    chosen = (
        (number, values)
        for number, values in itertools.chain([first], numbered_rows)
        if matches({"row": number, **values})
    )
    if as_csv or as_jsonl:
        objects = ({name: values.get(name) for name in names} for _, values in chosen)
        file = sys.stdout.buffer
        write_lines(file, itertools.islice(objects, limit or None), "csv" if as_csv else "jsonl")
        return
    shown = TABLE_ROWS if limit is None else limit or None
    header = [ResultColumn("row", "BIGINT")]
    header += [ResultColumn(name, _kind_of(first[1][name])) for name in names]
    lines = ([number, *(_bounded(values.get(name)) for name in names)] for number, values in chosen)
    if write_table(header, lines, shown, text_width()):
        click.echo(
            f"Only the first {shown:,} rows are shown; --limit 0 shows all, --row N one of them.",
            err=True,
        )


def _checked(names: list[str] | None, values: dict[str, Any]) -> list[str] | None:
    from replay.sources.sanitize import clean_text

    for name in names or ():
        if name not in values:
            known = clean_text(", ".join(values))
            raise click.UsageError(f"--columns: there is no column {name}; there are {known}.")
    return names


def _predicate(text: str | None, values: dict[str, Any]) -> Predicate:
    from console.cli.where import predicate
    from replay.recording.filters import Field, Subject

    if text is None:
        return lambda row: True
    fields = [Field("row", "row", "number")]
    fields += [
        Field(name.lower(), name, "number" if _kind_of(value) != "VARCHAR" else "text")
        for name, value in values.items()
        if name != "row"
    ]
    return predicate(Subject("rows", "rows", tuple(fields)), text)


def _kind_of(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "DOUBLE" if number else "VARCHAR"


def _bounded(value: Any) -> Any:
    return value[:MOST_CHARACTERS] if isinstance(value, str) else value
