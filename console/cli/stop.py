"""`headgate stop`."""

from __future__ import annotations

import time

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.terminal import own_name

POLL_SECONDS = 0.1


@click.command()
@click.argument("run", type=RUN)
@click.option("--wait", is_flag=True, help="Come back when the run has ended.")
def stop(run: str, wait: bool) -> int:
    """Ask RUN to stop, as Ctrl+C where it was started would.

    Its running tasks may finish; a second time aborts them. RUN is a run folder, or a run by its
    id, its name, an end of its id, or `latest`, which is here the newest run that goes on.
    """
    from pathlib import Path

    from engine.errors import UserError
    from engine.events.run_folder import RUN_JSON, RunFolder
    from replay.runs.catalogue import list_entries
    from replay.runs.open import LATEST, runs_named
    from replay.runs.stop import stop_run
    from replay.sources.sanitize import clean_text

    path = Path(run)
    if not (path / RUN_JSON).exists():
        if run == LATEST:
            paths = [entry.path for entry in list_entries() if entry.live][:1]
            if not paths:
                raise UserError("no run goes on: there is nothing to stop")
        else:
            paths = [known.path for known in runs_named(run)]
        if not paths:
            raise UserError(f"there is no run {run}; {own_name()} runs lists them")
        if len(paths) > 1:
            listed = ", ".join(known.run_id for known in runs_named(run)[:3])
            raise UserError(f"{len(paths)} runs are called {run}; give more of the id: {listed}")
        path = paths[0]
    name = clean_text(stop_run(path))
    click.echo(
        f"Asked {name} to stop: running tasks may finish; the same command again aborts them.",
        err=True,
    )
    folder = RunFolder(path)
    while wait and folder.producer_lives:
        time.sleep(POLL_SECONDS)
    folder.close()
    return exit_codes.OK
