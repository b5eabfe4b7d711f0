"""`headgate export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes

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
@click.argument("recording")
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
@click.option("--force", is_flag=True, help="Replace files that are there.")
def export(
    recording: str,
    kind: str,
    out: Path | None,
    tables: tuple[str, ...],
    for_spreadsheet: bool,
    force: bool,
) -> int:
    """Write RECORDING in another form, for other programs or people.

    perfetto: a Chrome trace, for ui.perfetto.dev. jsonl: the events, one a line; headgate opens
    that again. parquet, csv: the views of headgate sql, a file each. markdown: a report with
    pictures beside it. svg: the pictures alone.
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
    place = out if out is not None else Path(default_name(recording) + SUFFIXES[kind])
    wanted = tables or TABLES
    if place == STDOUT and (kind == "markdown" or (kind in ("parquet", "csv") and len(wanted) > 1)):
        raise click.UsageError(f"{kind} makes several files: name a place for them with --out.")
    with materialize(recording, lambda sentence: click.echo(sentence, err=True)) as path:
        asked = RecordingQuery(path)
        try:
            written = write(asked, path, kind, place, wanted, force, for_spreadsheet)
        finally:
            asked.close()
    for one in written:
        if one != STDOUT:
            click.echo(f"Wrote {one} ({one.stat().st_size:,} bytes)", err=True)
    return exit_codes.OK


def write(
    asked: RecordingQuery,
    path: Path,
    kind: str,
    place: Path,
    tables: tuple[str, ...],
    force: bool,
    for_spreadsheet: bool,
) -> list[Path]:
    """Everything is refused before anything is written. Returns the files."""
    from replay.export.charts import PICTURES
    from replay.export.lines import write_lines
    from replay.export.markdown import render_report
    from replay.export.output import new_file, new_folder, refuse_existing
    from replay.export.svg import document
    from replay.export.tables import write_csv, write_parquet
    from replay.export.trace import write_trace
    from replay.recording.reader import open_recording

    if kind in ("parquet", "csv") and (place == STDOUT or place.suffix == f".{kind}"):
        files = {place: tables[0]}
        if len(tables) > 1:
            raise click.UsageError(f"One file holds one view: name it with --table, not {place}.")
    elif kind in ("parquet", "csv"):
        new_folder(place)
        files = {place / f"{table}.{kind}": table for table in tables}
    elif kind == "markdown":
        files = {place.with_name(f"{place.stem}.{name}.svg"): name for name in PICTURES}
        files[place] = "report"
    else:
        files = {place: kind}
    refuse_existing(list(files), force)
    for one, what in files.items():
        with new_file(one, force) as file:
            if kind == "perfetto":
                write_trace(asked, file)
            elif kind == "svg":
                file.write(document([draw(asked) for draw in PICTURES.values()]).encode())
            elif kind == "csv":
                write_csv(asked, what, file, for_spreadsheet=for_spreadsheet)
            elif kind == "parquet":
                write_parquet(asked, what, file)
            elif what in PICTURES:
                file.write(document([PICTURES[what](asked)]).encode())
            else:
                reader = open_recording(path)
                try:
                    if kind == "jsonl":
                        write_lines(reader, file)
                    else:
                        pictures = {name: one.name for one, name in files.items()}
                        file.write(render_report(reader, asked, pictures).encode())
                finally:
                    reader.close()
    return list(files)


def default_name(recording: str) -> str:
    """The folder of a run, or the name of a file without what it is."""
    path = Path(recording).resolve()
    name = path.parent.name if path.name == "recording.duckdb" else path.name
    name = re.sub(r"(\.jsonl)?(\.gz|\.zst)?$|\.duckdb$", "", name)
    return re.sub(r"[^\w.+-]+", "-", name).strip("-") or "run"
