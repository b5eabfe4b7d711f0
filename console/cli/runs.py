"""`headgate runs`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.stdout import print_text
from console.cli.terminal import own_name

if TYPE_CHECKING:
    from engine.events.run_index import KnownRun
    from engine.events.run_record import RunState

_NAME_CELLS = 20
_LONGEST_NAME_CELLS = 40
_LONGEST_REASON_CELLS = 100
_NEED_A_REASON = frozenset({"failed", "stopped"})

Row = dict[str, str | int | None]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.option(
    "--forget",
    "forgotten",
    multiple=True,
    metavar="RUN",
    help="Take this run, by its id or its folder, off the list. Its folder stays as it is. May be "
    "given several times.",
)
@click.option(
    "--forget-missing",
    is_flag=True,
    help="Take all runs off the list whose folders are not there now.",
)
@click.option(
    "--where", metavar="FILTER", help="Only runs that match: dropped>0, name:demo, state:lost."
)
def runs(as_json: bool, forgotten: tuple[str, ...], forget_missing: bool, where: str | None) -> int:
    """List the runs of this user, newest first.

    A run whose folder is not there now, moved or on a disk that is away, is listed as away. It is
    found again when its folder is opened under its new name; nothing is forgotten unasked.
    """
    from engine.events.run_index import list_runs

    if forgotten or forget_missing:
        return _forget(forgotten, forget_missing)
    known = list_runs()
    if where is not None:
        from console.cli.where import predicate
        from replay.recording.filters import RUNS
        from replay.runs.catalogue import list_entries

        matches, now = predicate(RUNS, where), time.time()
        pointers = {entry.pointer for entry in list_entries(now=now) if matches(entry.row(now))}
        known = [run for run in known if run.pointer in pointers]
    rows = [_row(run) for run in known]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return exit_codes.OK
    if not rows and where is not None:
        click.echo(f"No run matches {where}.", err=True)
    elif not rows:
        click.echo(f"No runs yet. Start one with: {own_name()} demo", err=True)
    for row in rows:
        print_text(_line(row))
    return exit_codes.OK


def _forget(named: tuple[str, ...], missing: bool) -> int:
    """Take runs off the list, after all of them have been found in it."""
    from pathlib import Path

    from engine.errors import UserError
    from engine.events.run_index import forget, list_runs
    from replay.runs.open import runs_named

    known = list_runs()
    chosen = [run for run in known if missing and run.where == "away"]
    for name in named:
        path = Path(name).absolute()
        matches = [run for run in known if run.path == path] or runs_named(name)
        if not matches:
            raise UserError(f"There is no run {name} in the list; {own_name()} runs shows it.")
        if len(matches) > 1:
            raise UserError(f"{len(matches)} runs are called {name}; give more of the id.")
        chosen += matches
    for run in {run.pointer: run for run in chosen}.values():
        try:
            forget(run)
        except OSError as error:
            raise UserError(f"{run.pointer} can't be removed: {error.strerror}.") from error
        print_text(
            f"Forgot {_plain(run.run_id or run.name)}, its folder is left as it is: {run.path}"
        )
    if not chosen:
        click.echo("The folders of all runs are there: nothing was forgotten.", err=True)
    return exit_codes.OK


def _row(run: KnownRun) -> Row:
    from replay.state.ending import ending

    record = run.record
    row: Row = {
        "id": run.run_id,
        "name": run.name,
        "state": run.where,
        "outcome": None,
        "ending": None,
        "reason": None,
        "started": None,
        "rows_done": None,
        "rows_dropped": None,
        "records": None,
        "folder": str(run.path),
    }
    if record is None:
        return row
    started = None
    if record.wall_start is not None:
        moment = time.gmtime(record.wall_start)
        started = f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)} UTC"
    how = ending(record.outcome, record.rows_done, record.rows_dropped, record.records)
    return row | {
        "state": _state(run),
        "outcome": record.outcome,
        "ending": None if how is None else how.words,
        "reason": record.message if record.outcome in _NEED_A_REASON else None,
        "started": started,
        "rows_done": record.rows_done,
        "rows_dropped": record.rows_dropped,
        "records": record.records,
    }


def _state(run: KnownRun) -> RunState:
    from contextlib import closing

    from engine.events.run_folder import RunFolder
    from engine.events.run_record import run_state

    assert run.record is not None
    folder = RunFolder(run.path)
    with closing(folder):
        return run_state(run.record.state, folder.producer)


def _line(row: Row) -> str:
    started = row["started"] or "-"
    shown = row["outcome"] or row["state"]
    if shown == "success" and row["ending"] != "success":
        shown = "rows lost" if row["rows_done"] else "failed"
    dropped = f", {row['rows_dropped']} dropped" if row["rows_dropped"] else ""
    done = "-" if row["rows_done"] is None else f"{row['rows_done']}/{row['records'] or '-'}"
    name = _plain(str(row["name"] or row["id"] or "-"))
    rows = f"{done:>11} rows{dropped}"
    line = f"{started:<23}  {shown:<9}  {rows}  {_padded(name)}  {_plain(str(row['folder']))}"
    reason = _short(str(row["reason"] or ""))
    return f"{line}  ({reason})" if reason else line


def _short(message: str) -> str:
    """The first sentence of a message, cut to its column."""
    from rich.cells import cell_len, set_cell_size

    sentence = _plain(message).split(". ")[0].rstrip(".")
    if cell_len(sentence) <= _LONGEST_REASON_CELLS:
        return sentence
    return set_cell_size(sentence, _LONGEST_REASON_CELLS - 1) + "…"


def _plain(text: str) -> str:
    """`text` on one line, without control characters."""
    from replay.sources.sanitize import clean_text

    return clean_text(text)


def _padded(name: str) -> str:
    """`name` padded or cut to the column of names, in terminal cells."""
    from rich.cells import cell_len, set_cell_size

    cells = cell_len(name)
    if cells > _LONGEST_NAME_CELLS:
        return f"{set_cell_size(name, _LONGEST_NAME_CELLS - 1)}…"
    return name + " " * (_NAME_CELLS - cells)
