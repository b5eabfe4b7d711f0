"""`headgate watch` and `headgate replay`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.run_names import RUN
from console.cli.terminal import is_interactive, own_name, require_size

if TYPE_CHECKING:
    from console.outcome import StartView

headless_option = click.option(
    "--headless", is_flag=True, help="No console: a line now and then, a summary at the end."
)
once_option = click.option("--once", is_flag=True, help="One snapshot of the present, then leave.")
ascii_option = click.option(
    "--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only."
)

slow_option = click.option(
    "--slow", is_flag=True, help="Draw every two seconds only: for thin links."
)


@click.command()
@click.argument("target", type=RUN, required=False)
@headless_option
@once_option
@ascii_option
@click.option(
    "--otel",
    is_flag=True,
    help="Export the run's metrics by OpenTelemetry meanwhile, where the OTEL_* variables say.",
)
@slow_option
def watch(
    target: str | None,
    headless: bool,
    once: bool,
    ascii_only: bool,
    otel: bool,
    slow: bool,
) -> int:
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
    if otel:
        from console.cli.otel.follow import exported

        context: AbstractContextManager[None] = exported(target, os.environ)
    else:
        context = nullcontext()
    with context:
        return view(target, headless, once, ascii_only, growing=True, slow=slow)


@click.command()
@click.argument("recording", type=RUN)
@headless_option
@once_option
@ascii_option
@slow_option
@click.option(
    "--at",
    metavar="T",
    help="Open paused there, or print what was so then: 1:23.5, 17:39:50, 50% or #1234.",
)
@click.option("--screen", help="The screen to open with: overview, queue, stalls, events, ...")
@click.option("--where", metavar="FILTER", help="A filter for the rows of that screen.")
@click.option(
    "--open", "focus", metavar="THING", help="Enter task:ID, call:ID, row:17 or tokens at once."
)
def replay(
    recording: str,
    headless: bool,
    once: bool,
    ascii_only: bool,
    slow: bool,
    at: str | None,
    screen: str | None,
    where: str | None,
    focus: str | None,
) -> int:
    """Replay RECORDING: a run folder, a .duckdb, or JSON Lines (.jsonl, also
    compressed as .gz or .zst)."""
    start = start_view(at, screen, where, focus)
    return view(recording, headless, once, ascii_only, growing=False, start=start, slow=slow)


def start_view(
    at: str | None, screen: str | None, where: str | None, thing: str | None = None
) -> StartView | None:
    """Raises `click.UsageError` where an option can't be understood."""
    from console.cli.where import predicate
    from console.controls import SCREENS
    from console.focus_names import EXAMPLES as FOCUS_EXAMPLES
    from console.focus_names import parse_focus
    from console.goto import EXAMPLES, parse_target
    from console.outcome import StartView
    from replay.recording.filters import ERRORS, EVENTS, LEASES, QUEUE, STALLS

    if at is None and screen is None and where is None and thing is None:
        return None
    names = [control.brief.lower() for control in SCREENS if control.action.startswith("app.go(")]
    screen = (screen or "overview").lower()
    if screen not in names:
        raise click.UsageError(f"There is no screen {screen}; there are {', '.join(names)}.")
    if where is not None:
        subjects = {s.name: s for s in (EVENTS, LEASES, STALLS, ERRORS)} | {"queue": QUEUE}
        subject = subjects.get(screen)
        if subject is None:
            raise click.UsageError(f"--where is for --screen {', '.join(subjects)}.")
        predicate(subject, where)
    target = None if at is None else parse_target(at)
    if at is not None and target is None:
        raise click.UsageError(f"--at: {at} is no time and no event; write {EXAMPLES}.")
    focus = None if thing is None else parse_focus(thing)
    if thing is not None and focus is None:
        raise click.UsageError(f"--open: {thing} names nothing to open; write {FOCUS_EXAMPLES}.")
    return StartView(screen, target, where or "", focus)


def view(
    target: str,
    headless: bool,
    once: bool,
    ascii_only: bool,
    *,
    growing: bool,
    start: StartView | None = None,
    slow: bool = False,
) -> int:
    """Shows a run or a folder of runs, in the console or as lines. Returns the exit code."""
    from console.cli.presenter import ConsoleOptions, show_once, show_runs, show_terminal
    from replay.runs.catalogue import is_folder_of_runs

    if headless or once or not is_interactive():
        at = None if start is None else start.target
        show_once(target, growing=growing, once=once, at=at)
        return exit_codes.OK
    require_size()
    if is_folder_of_runs(Path(target)):
        show_runs(Path(target), ascii_only=ascii_only)
        return exit_codes.OK
    options = ConsoleOptions(ascii_only, growing=growing, start=start, slow=slow)
    show_terminal(target, options)
    return exit_codes.OK
