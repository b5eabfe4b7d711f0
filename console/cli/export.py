"""`headgate export`."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.run_names import RUN

if TYPE_CHECKING:
    from replay.recording.query import RecordingQuery

SUFFIXES = {
    "perfetto": ".trace.json",
    "jsonl": ".jsonl",
    "parquet": "-parquet",
    "csv": "-csv",
    "markdown": ".md",
    "svg": ".svg",
}
STDOUT = Path("-")


@click.command()
@click.argument("recording", type=RUN)
@click.option(
    "--format", "kind", type=click.Choice(list(SUFFIXES)), required=True, help="What to write."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File, or folder for parquet and csv; '-' is stdout; .gz compresses. "
    "Default: ./<name of the run> and what the format is.",
)
@click.option(
    "--table", "tables", multiple=True, help="Parquet and CSV: only this view (may be repeated)."
)
@click.option(
    "--for-spreadsheet",
    is_flag=True,
    help="CSV: put an apostrophe before text that a spreadsheet would run as a formula.",
)
@click.option(
    "--where",
    metavar="FILTER",
    help="Parquet and CSV, of one view: only rows that match, as column:judge or wait>2s.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
def export(
    recording: str,
    kind: str,
    out: Path | None,
    tables: tuple[str, ...],
    for_spreadsheet: bool,
    where: str | None,
    force: bool,
) -> int:
    """Write RECORDING in another form, for other programs or people.

    perfetto: a Chrome trace, for ui.perfetto.dev. jsonl: the events, one per line, which headgate
    opens again. parquet, csv: the views of headgate sql, one file per view; a whole parquet export
    can be opened again. markdown: a report with pictures beside it. svg: the pictures alone.
    """
    from replay.export.tables import TABLES
    from replay.recording.query import RecordingQuery
    from replay.runs.materialize import materialize

    if tables and kind not in ("parquet", "csv"):
        raise click.UsageError("--table is for parquet and csv.")
    if for_spreadsheet and kind != "csv":
        raise click.UsageError("--for-spreadsheet is for csv.")
    for table in tables:
        if table not in TABLES:
            raise click.UsageError(f"There is no view {table!r}; there are {', '.join(TABLES)}.")
    condition = _condition(tables, where)
    target = out if out is not None else Path(default_name(recording) + SUFFIXES[kind])
    wanted = tables or TABLES
    if target == STDOUT and (
        kind == "markdown" or (kind in ("parquet", "csv") and len(wanted) > 1)
    ):
        raise click.UsageError(f"{kind} makes several files: name a place for them with --out.")
    with materialize(recording, lambda sentence: click.echo(sentence, err=True)) as path:
        query = RecordingQuery(path)
        try:
            written = write(query, path, kind, target, wanted, force, for_spreadsheet, condition)
        finally:
            query.close()
    for path in written:
        if path != STDOUT:
            click.echo(f"Wrote {path} ({path.stat().st_size:,} bytes)", err=True)
    return exit_codes.OK


def _condition(tables: tuple[str, ...], where: str | None) -> str:
    """The filter in SQL, for the one view that it is for; empty without a filter."""
    from console.cli.where import condition
    from replay.recording.filters import SUBJECTS, subject_of

    if where is None:
        return ""
    subject = subject_of(tables[0]) if len(tables) == 1 else None
    if subject is None:
        names = ", ".join(subject.view for subject in SUBJECTS if subject.view != "runs")
        raise click.UsageError(f"--where is for one view: name it with --table, of {names}.")
    return condition(subject, where)


def write(
    query: RecordingQuery,
    path: Path,
    kind: str,
    target: Path,
    tables: tuple[str, ...],
    force: bool,
    for_spreadsheet: bool,
    condition: str = "",
) -> list[Path]:
    """Write the export, after everything that can be refused has been checked.

    `condition` is an SQL condition on the one view that is written.

    Returns:
        The files that were written.
    """
    from replay.export.charts import PICTURES
    from replay.export.lines import write_lines
    from replay.export.markdown import render_report
    from replay.export.output import new_file, new_folder, refuse_existing
    from replay.export.svg import document
    from replay.export.tables import (
        TABLES,
        write_csv,
        write_parquet,
        write_parquet_stream,
    )
    from replay.export.trace import write_trace
    from replay.recording.reader import open_recording
    from replay.runs.parquet_export import STREAM_FILE

    if kind in ("parquet", "csv") and (target == STDOUT or target.suffix == f".{kind}"):
        files = {target: tables[0]}
        if len(tables) > 1:
            raise click.UsageError(f"One file holds one view: name it with --table, not {target}.")
    elif kind in ("parquet", "csv"):
        new_folder(target)
        files = {target / f"{table}.{kind}": table for table in tables}
        if kind == "parquet" and tables == TABLES:
            files[target / STREAM_FILE] = STREAM_FILE
    elif kind == "markdown":
        files = {target.with_name(f"{target.stem}.{name}.svg"): name for name in PICTURES}
        files[target] = "report"
    else:
        files = {target: kind}
    refuse_existing(list(files), force)
    for file_path, content in files.items():
        with new_file(file_path, force) as file:
            if kind == "perfetto":
                write_trace(query, file)
            elif kind == "svg":
                file.write(document([draw(query) for draw in PICTURES.values()]).encode())
            elif kind == "csv":
                write_csv(
                    query, content, file, for_spreadsheet=for_spreadsheet, condition=condition
                )
            elif kind == "parquet" and content == STREAM_FILE:
                with closing(open_recording(path)) as reader:
                    write_parquet_stream(reader, file)
            elif kind == "parquet":
                write_parquet(query, content, file, condition=condition)
            elif kind == "jsonl":
                with closing(open_recording(path)) as reader:
                    write_lines(reader, file)
            elif content in PICTURES:
                file.write(document([PICTURES[content](query)]).encode())
            elif kind == "markdown":
                pictures = {name: file_path.name for file_path, name in files.items()}
                with closing(open_recording(path)) as reader:
                    file.write(render_report(reader, query, pictures).encode())
            else:
                raise NotImplementedError(f"no exporter writes {kind}")
    return list(files)


def default_name(recording: str) -> str:
    """Name of the run's folder, or of the file without its suffixes."""
    path = Path(recording).resolve()
    name = path.parent.name if path.name == "recording.duckdb" else path.name
    name = re.sub(r"(\.jsonl)?(\.gz|\.zst)?$|\.duckdb$", "", name)
    return re.sub(r"[^\w.+-]+", "-", name).strip("-") or "run"
