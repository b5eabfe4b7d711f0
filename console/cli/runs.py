"""`headgate runs`."""

from __future__ import annotations

import json
import time

import click

from console.cli.say import say
from console.cli.terminal import own_name


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
def runs(as_json: bool) -> None:
    """List the runs of this user, newest first."""
    from engine.events.run_folder import RunFolder, list_runs

    rows: list[dict[str, str | int | None]] = []
    for path, record in list_runs():
        if record is None:
            continue
        gone = record.state == "running" and not RunFolder(path).producer_lives
        state = "lost" if gone else record.state
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.wall_start))
        rows.append(
            {
                "id": record.run_id,
                "name": record.name,
                "state": state,
                "outcome": record.outcome,
                "started": f"{started} UTC",
                "rows_done": record.rows_done,
                "rows_dropped": record.rows_dropped,
                "records": record.records,
                "folder": str(path),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(f"No runs yet. Start one with: {own_name()} demo", err=True)
        return
    for row in rows:
        done = "-" if row["rows_done"] is None else f"{row['rows_done']}/{row['records']}"
        shown = row["outcome"] or row["state"]
        say(f"{row['started']}  {shown:<9}  {done:>11} rows  {row['name']:<20}  {row['folder']}")
