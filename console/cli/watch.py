"""`headgate watch` and `headgate replay`."""

from __future__ import annotations

from pathlib import Path

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.terminal import is_interactive, own_name, require_size

headless_option = click.option(
    "--headless", is_flag=True, help="No console: a line now and then, a summary at the end."
)
once_option = click.option("--once", is_flag=True, help="One snapshot of the present, then leave.")
ascii_option = click.option(
    "--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only."
)


@click.command()
@click.argument("target", type=RUN, required=False)
@headless_option
@once_option
@ascii_option
def watch(target: str | None, headless: bool, once: bool, ascii_only: bool) -> int:
    """Watch TARGET: a run folder or run id, or a scheduler_events.jsonl that grows.

    Without TARGET the newest run that goes on.
    """
    if target is None:
        from engine.errors import UserError
        from replay.runs.catalogue import list_entries

        newest = next((entry for entry in list_entries() if entry.live), None)
        if newest is None:
            raise UserError(
                f"no run goes on; {own_name()} runs lists the others, {own_name()} demo starts one"
            )
        target = str(newest.path)
    return view(target, headless, once, ascii_only, growing=True)


@click.command()
@click.argument("recording", type=RUN)
@headless_option
@once_option
@ascii_option
def replay(recording: str, headless: bool, once: bool, ascii_only: bool) -> int:
    """Replay RECORDING: a run folder, a .duckdb, or JSON Lines (.jsonl, also
    compressed as .gz or .zst)."""
    return view(recording, headless, once, ascii_only, growing=False)


def view(target: str, headless: bool, once: bool, ascii_only: bool, *, growing: bool) -> int:
    from console.cli.presenter import show_once, show_runs, show_terminal
    from replay.runs.catalogue import is_folder_of_runs

    if headless or once or not is_interactive():
        show_once(target, growing=growing, once=once)
        return exit_codes.OK
    require_size()
    if is_folder_of_runs(Path(target)):
        show_runs(Path(target), ascii_only=ascii_only)
        return exit_codes.OK
    show_terminal(target, ascii_only=ascii_only, growing=growing)
    return exit_codes.OK
