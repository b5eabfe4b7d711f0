"""`headgate sql`."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.terminal import text_width
from engine.errors import UserError

if TYPE_CHECKING:
    from replay.recording.query import RecordingQuery

TABLE_ROWS = 1_000


@click.command()
@click.argument("recording", type=RUN)
@click.argument("query", required=False)
@click.option("--views", is_flag=True, help="Describe the views and their columns, and leave.")
@click.option(
    "--where",
    metavar="FILTER",
    help="With the name of a view in place of a query: only rows that match, like "
    "'column:judge wait>2s'.",
)
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout, all rows.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout, all rows.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    help=f"At most so many rows, 0 for all. Default: {TABLE_ROWS:,} in a table, else all.",
)
@click.option(
    "--for-spreadsheet",
    is_flag=True,
    help="With --csv: put ' before text that a spreadsheet would run as a formula.",
)
def sql(
    recording: str,
    query: str | None,
    views: bool,
    where: str | None,
    as_csv: bool,
    as_json: bool,
    limit: int | None,
    for_spreadsheet: bool,
) -> int:
    """Ask RECORDING something in SQL, read-only; QUERY "-" is read from stdin, and the name of a
    view alone shows that view.

    Views: tasks, requests, spending, leases, ceilings, stalls, blame, series, events, run. A query
    reaches the recording and nothing else: no file, no network.
    """
    from replay.recording.query import QueryProcess, RecordingQuery
    from replay.runs.materialize import materialize

    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    if for_spreadsheet and not as_csv:
        raise click.UsageError("--for-spreadsheet is for --csv.")
    if query is None and not views:
        raise click.UsageError(
            'Give a query, like "SELECT * FROM stalls"; --views describes what can be asked.'
        )
    if query == "-":
        query = query_on_stdin()
    query = whole_query(query, where)
    with (
        QueryProcess() as process,  # starts while the recording is looked for
        materialize(recording, lambda sentence: click.echo(sentence, err=True)) as path,
    ):
        recording_query = RecordingQuery(path, process)
        if views or query is None:
            click.echo(describe_views())
        else:
            answer(recording_query, query, as_csv, as_json, limit, for_spreadsheet)
    return exit_codes.OK


def whole_query(query: str | None, where: str | None) -> str | None:
    """A view for its name, and of it what a filter chooses.

    Raises `click.UsageError` where there is a filter and nothing that it can filter.
    """
    from console.cli.where import condition
    from replay.recording.filters import subject_of
    from replay.recording.views import ALL_VIEWS

    name = (query or "").strip().lower()
    view = next((view for view in ALL_VIEWS if view.name == name), None)
    if where is None:
        return query if view is None else f'SELECT * FROM "{view.name}"'
    subject = None if view is None else subject_of(view.name)
    if view is None or subject is None:
        raise click.UsageError("--where goes with events, leases or stalls in place of a query.")
    return f'SELECT * FROM "{view.name}" WHERE {condition(subject, where)}'


def query_on_stdin() -> str:
    """Raises `UserError` where nothing can be read there, or nothing that is text."""
    try:
        return sys.stdin.read()
    except OSError as error:
        raise UserError(f"the query can't be read from stdin: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError("the query on stdin is not text in UTF-8") from error


def answer(
    recording_query: RecordingQuery,
    query: str,
    as_csv: bool,
    as_json: bool,
    limit: int | None,
    for_spreadsheet: bool,
) -> None:
    """Writes the rows of one query on stdout, as a table, CSV or JSON."""
    from console.cli.table_output import write_csv, write_json, write_table

    row_limit = TABLE_ROWS if limit is None and not (as_csv or as_json) else (limit or None)
    columns, rows = recording_query.run(query)
    if as_csv:
        more = write_csv(columns, rows, row_limit, for_spreadsheet)
    elif as_json:
        more = write_json(columns, rows, row_limit)
    else:
        more = write_table(columns, rows, row_limit, text_width())
    if more:
        click.echo(f"Only the first {row_limit:,} rows are shown; --limit 0 shows all.", err=True)


def describe_views() -> str:
    """Every view with its columns: name, type, unit and meaning."""
    from replay.recording.views import ALL_VIEWS, CONVENTIONS

    parts = [textwrap.fill(CONVENTIONS, 80)]
    for view in ALL_VIEWS:
        lines = [f"\n{view.name}: {view.description}"]
        for column in view.columns:
            head = f"  {column.name:<19} {column.type.lower():<9} {column.unit:<13} "
            lines += textwrap.wrap(f"{head}{column.meaning}", 80, subsequent_indent=" " * len(head))
        parts.append("\n".join(lines))
    parts.append(
        "\nThe tables of the file are there too, as recording.events, recording.leases, ...:"
        "\ntheir columns may change between versions."
    )
    return "\n".join(parts)
