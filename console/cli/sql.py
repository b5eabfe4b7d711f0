"""`headgate sql`."""

from __future__ import annotations

import sys
import textwrap
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from console.cli import exits
from console.cli.terminal import text_width
from engine.errors import UserError

if TYPE_CHECKING:
    from replay.recording.query import RecordingQuery

TABLE_ROWS = 1_000


@click.command()
@click.argument("recording")
@click.argument("query", required=False)
@click.option("--views", is_flag=True, help="Describe the views and their columns, and leave.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout, all rows.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout, all rows.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    help=f"At most so many rows, 0 for all. Default: {TABLE_ROWS:,} in a table, else all.",
)
def sql(
    recording: str, query: str | None, views: bool, as_csv: bool, as_json: bool, limit: int | None
) -> int:
    """Ask RECORDING something in SQL, read-only; QUERY "-" is read from stdin.

    Views: tasks, requests, leases, ceilings, stalls, blame, series, events, run. A query reaches
    the recording and nothing else: no file, no network.
    """
    from replay.recording.query import RecordingQuery
    from replay.recording.whole import whole_recording

    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    if query is None and not views:
        raise click.UsageError(
            'Give a query, like "SELECT * FROM stalls"; --views describes what can be asked.'
        )
    if query == "-":
        query = query_on_stdin()
    with whole_recording(recording, lambda sentence: click.echo(sentence, err=True)) as path:
        asked = RecordingQuery(path)
        try:
            if views or query is None:
                click.echo(describe_views(asked))
                return exits.OK
            answer(asked, query, as_csv, as_json, limit)
        finally:
            asked.close()
    return exits.OK


def query_on_stdin() -> str:
    """Raises `UserError` where nothing can be read there, or nothing that is text."""
    try:
        return sys.stdin.read()
    except OSError as error:
        raise UserError(f"the query can't be read from stdin: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError("the query on stdin is not text in UTF-8") from error


def answer(
    asked: RecordingQuery, query: str, as_csv: bool, as_json: bool, limit: int | None
) -> None:
    from console.cli.rows import write_csv, write_json, write_table

    rows = TABLE_ROWS if limit is None and not (as_csv or as_json) else (limit or None)
    width = text_width()

    def ask() -> bool:
        columns, found = asked.run(query)
        if as_csv or as_json:
            return (write_csv if as_csv else write_json)(columns, found, rows)
        return write_table(columns, found, rows, width)

    if interruptible(ask, asked.interrupt):
        click.echo(f"Only the first {rows:,} rows are shown; --limit 0 shows all.", err=True)


def interruptible(work: Callable[[], bool], interrupt: Callable[[], None]) -> bool:
    """Do `work` in a thread, so that Ctrl+C ends it at once. Raises what it raises."""
    results: list[bool] = []
    problems: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            problems.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=run, name="query", daemon=True).start()
        done.wait()
    except KeyboardInterrupt:
        interrupt()
        done.wait()
        raise
    if problems:
        raise problems[0]
    return results[0]


def describe_views(asked: RecordingQuery) -> str:
    """Every view with its columns: name, type, unit, meaning."""
    from replay.recording.views import RUN_COLUMNS, UNITS, VIEWS

    parts = [textwrap.fill(UNITS, 80)]
    described = [(view.name, view.holds, view.columns) for view in VIEWS]
    described.append(("run", "one row: what was recorded", RUN_COLUMNS))
    for name, holds, columns in described:
        types = {column.name: column.type for column in asked.run(f'SELECT * FROM "{name}"')[0]}
        lines = [f"\n{name}: {holds}"]
        for column in columns:
            kind = types[column.name].lower()
            head = f"  {column.name:<19} {kind:<9} {column.unit:<13} "
            lines += textwrap.wrap(f"{head}{column.meaning}", 80, subsequent_indent=" " * len(head))
        parts.append("\n".join(lines))
    parts.append(
        "\nThe tables of the file are there too, as recording.events, recording.leases, ...:"
        "\ntheir columns may change between versions."
    )
    return "\n".join(parts)
