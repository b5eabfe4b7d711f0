"""Shows a run of our own, in the console or as lines, and sums it up at its end."""

from __future__ import annotations

import contextlib
import shlex
import signal
import time

import click

from console.cli import exit_codes
from console.cli.exit_codes import ConsoleEnded
from console.cli.presenter import (
    LINE_SECONDS,
    POLL_SECONDS,
    ConsoleOptions,
    last_frame,
    show_terminal,
)
from console.cli.run.launch import Launched
from console.cli.run.stopping import Stopping
from console.cli.stop_requests import StopRequests
from console.cli.terminal import own_name
from console.headless import status_line, summary
from replay.playback.frame import Want
from replay.playback.session import Session
from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text


def show_console(launched: Launched, requests: StopRequests, *, ascii_only: bool) -> int:
    """Open the console on a run of our own, and print a summary once both have ended.

    SIGINT and SIGTERM stop the run, as without a console. The run goes on where the user leaves
    it so, where the terminal is closed, and where the console fails.

    Returns:
        The exit code.
    """

    def on_forced_exit(number: int) -> None:
        if number != signal.SIGHUP:
            launched.stop()

    stops = 0
    try:
        with requests.raised():
            outcome = show_terminal(
                launched.folder.path,
                ConsoleOptions(ascii_only, ask=True, on_forced_exit=on_forced_exit),
            )
        stops += outcome == "stop"
    except KeyboardInterrupt:
        outcome = "stop"
    except ConsoleEnded:  # its sentence says that the run goes on
        raise
    except Exception:
        _tell_going_on(launched)
        raise
    if outcome == "quit" and launched.running:
        _tell_going_on(launched)
        return exit_codes.OK
    stopping = Stopping(launched, tell)
    while launched.running:
        stopping.advance(stops + len(requests))
        launched.wait(POLL_SECONDS)
    return _conclude(launched, requests)


def show_headless(launched: Launched, requests: StopRequests) -> int:
    """Print a line on stderr now and then while the run goes on, and a summary on stdout.

    SIGTERM stops the run as Ctrl+C does.

    Returns:
        The exit code.
    """
    _print_lines(launched, requests)
    return _conclude(launched, requests)


def _print_lines(launched: Launched, requests: StopRequests) -> None:
    """Until the engine has ended."""
    session = Session.open(launched.folder.path, history=False)
    try:
        stopping = Stopping(launched, tell)
        next_line = time.monotonic() + LINE_SECONDS
        while launched.running:
            session.refresh()
            if time.monotonic() >= next_line:
                next_line += LINE_SECONDS
                tell(status_line(session.frame(Want()), session.lag_seconds))
            stopping.advance(len(requests))
            launched.wait(0 if session.behind else POLL_SECONDS)
    except Exception:
        _tell_going_on(launched)
        raise
    finally:
        session.close()


def tell(sentence: str) -> None:
    """Print a line on stderr; where that fails, the run goes on all the same."""
    with contextlib.suppress(OSError):
        click.echo(clean_text(sentence), err=True)


def _tell_going_on(launched: Launched) -> None:
    if launched.running:
        tell(f"The run goes on. Come back with: {own_name()} watch {launched.folder.path}")


def _conclude(launched: Launched, requests: StopRequests) -> int:
    """Wait for the recording after the engine's end, print the summary, return the exit code."""
    while launched.wait(0):
        pass
    path = launched.folder.path
    later = f"Its journal is kept in {path}, and imported when that is opened."
    if launched.await_recorder(requests):
        try:
            with requests.raised(handled=len(requests)):
                click.echo(summary(last_frame(path)))
        except KeyboardInterrupt:
            tell(later)
        except SourceError as error:
            tell(str(error))
    else:
        tell(later)
    if launched.message:
        click.echo(f"Reason     {clean_text(launched.message)}")
    for note in launched.notes:
        click.echo(f"Note       {clean_text(note)}")
    code = launched.exit_code(requests)
    unfinished = code != exit_codes.OK and launched.outcome != "success"
    if unfinished and launched.workflow is not None:
        workflow = shlex.quote(str(launched.workflow))
        resume = f"{own_name()} run {workflow} --resume {shlex.quote(str(path))}"
        click.echo(f"Resume     {clean_text(resume)}")
    click.echo(f"Recording  {path}\nReplay     {own_name()} replay {path}")
    click.echo(f"Diagnosis  {own_name()} why {path}")
    return code
