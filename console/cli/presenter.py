"""Shows an open run: in the console, or as lines where there is no terminal."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from console.cli import exit_codes
from console.cli.exit_codes import ConsoleEnded
from console.cli.settings import user_settings
from console.cli.terminal import output_is_hung_up, own_name
from console.goto import Target, resolve
from console.headless import status_line, summary
from console.outcome import OpenRun, Outcome, StartView
from replay.playback.frame import Frame, Want
from replay.playback.session import Session
from replay.runs.catalogue import RunEntry
from replay.sources.base import SourceError

if TYPE_CHECKING:
    from console.settings import Settings

LINE_SECONDS = 2.0
POLL_SECONDS = 0.1
SETTLE_SECONDS = 1.0
"""Longest that one snapshot waits for events that are missing in between."""


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """How a console is opened on a run."""

    ascii_only: bool
    """Draw with ASCII characters only."""
    ask: bool = False
    """Ask on leaving whether the run goes on."""
    output: Path | None = None
    """The file that the run's script prints to."""
    growing: bool | None = None
    """Follow the newest event (True), or go to the end of what is there (False); None is for a run
    that this command has started."""
    on_forced_exit: Callable[[int], None] | None = None
    """Called with a signal's number before the process exits because of it without having restored
    a terminal that takes no output."""
    start: StartView | None = None
    """The view to open with."""
    slow: bool = False
    """Draw rarely, as on a thin link."""
    next_run: Callable[[], bool] | None = None
    """Whether there is another run to go on to once this one is over."""
    script_runs: Callable[[], list[RunEntry]] | None = None
    """The runs of the same script until now."""

    def applied_to(self, settings: Settings) -> Settings:
        """What the user has set, with what this command asks for."""
        return replace(
            settings,
            ascii=self.ascii_only or settings.ascii,
            slow=self.slow or settings.slow,
        )

    def for_another(self, run: OpenRun) -> ConsoleOptions:
        """For a run that was chosen in the console."""
        return ConsoleOptions(
            ascii_only=self.ascii_only,
            slow=self.slow,
            growing=run.live,
            script_runs=self.script_runs,
        )


def show_terminal(target: str | Path, options: ConsoleOptions) -> Literal["quit", "stop", "next"]:
    """Open the console on `target` until the user leaves it.

    Args:
        target: A run folder, a recording, a JSON Lines file or a run id.
        options: How it is opened.

    Returns:
        "stop" where the user wants the run to be stopped, "next" where it is over and another one
        is there.

    Raises:
        SourceError: `target` can't be read.
        ConsoleEnded: The console failed, or its terminal was closed. SIGINT and SIGTERM are
            raised again for the handler that was installed before.
    """
    outcome = _show(target, options)
    while isinstance(outcome, OpenRun):
        try:
            other = _show(outcome.path, options.for_another(outcome))
        except SourceError:
            if not options.ask:
                raise
            other = "quit"
        if options.ask and other == "quit":  # back to the run that this command has started
            other = _show(target, replace(options, start=None))
        outcome = other
    return outcome


def show_runs(within: Path | None = None, *, ascii_only: bool) -> None:
    """Open the list of runs, and from it one run after another, until the user quits.

    Args:
        within: A folder of runs in place of the index.
        ascii_only: Draw with ASCII characters only.
    """
    from functools import partial

    from console.runs_app import RunsApp
    from console.screens.runs import RunActions
    from console.settings import colour_depth
    from replay.runs.catalogue import list_entries

    options = ConsoleOptions(ascii_only)
    problem = ""
    while True:
        app = RunsApp(
            actions=RunActions(entries=partial(list_entries, within)),
            problem=problem,
            settings=options.applied_to(user_settings()),
            depth=colour_depth(os.environ),
        )
        run = app.run_in_terminal()
        if app.ended_by == signal.SIGHUP:
            raise ConsoleEnded("the terminal was closed", 128 + app.ended_by)
        if app.ended_by is not None:
            signal.raise_signal(app.ended_by)
        if app.failure is not None:
            raise ConsoleEnded(
                "the console failed, which is a bug in headgate: please report the lines above",
                exit_codes.BUG,
            ) from app.failure
        if not isinstance(run, OpenRun):
            return
        problem = ""
        try:
            while isinstance(run, OpenRun):
                run = _show(run.path, options.for_another(run))
            return
        except SourceError as error:  # the list says why it can't be opened
            problem = str(error)


def _show(target: str | Path, options: ConsoleOptions) -> Outcome:
    settings = user_settings()
    session = Session.open(target, growing=options.growing)
    from console.app import ConsoleApp
    from console.settings import colour_depth

    app = ConsoleApp(
        session,
        title=str(target),
        on_quit="ask" if options.ask else "leave",
        output=options.output,
        follow=options.growing is not False,
        at_end=options.growing is False,
        start=options.start,
        settings=options.applied_to(settings),
        next_run=options.next_run,
        script_runs=options.script_runs,
        depth=colour_depth(os.environ),
    )
    app.on_forced_exit = options.on_forced_exit
    try:
        outcome = app.run_in_terminal()
    finally:
        session.close()
    live = options.growing is not False and app.run_goes_on
    back = f"{own_name()} {'watch' if live else 'replay'} {shlex.quote(str(target))}"
    if app.ended_by == signal.SIGHUP:
        rest = "the run goes on; " if live and options.ask else ""
        raise ConsoleEnded(
            f"the terminal was closed; {rest}come back with: {back}", 128 + app.ended_by
        )
    if app.ended_by is not None:
        signal.raise_signal(app.ended_by)  # to the handler that it had before the console opened
    if app.failure is not None:
        rest = "the run goes on" if live else "the recording is as it was"
        raise ConsoleEnded(
            "the console failed, which is a bug in headgate: please report the lines above; "
            f"{rest}, come back with: {back}",
            exit_codes.BUG,
        ) from app.failure
    return outcome


def show_once(target: str | Path, *, growing: bool, once: bool, at: Target | None = None) -> None:
    """Print one summary (`once`), or a line now and then while the run lives and a summary.

    Args:
        target: A run folder, a recording, a JSON Lines file or a run id.
        growing: Whether lines may still be added.
        once: Print the summary alone.
        at: The instant that the summary is of; None: the newest.

    Raises:
        SourceError: `target` can't be read, or has no such instant.
        ConsoleEnded: The terminal that the lines go to was closed; SIGHUP does not reach every
            process whose terminal it was.
    """
    session = Session.open(target, growing=growing, history=at is not None)
    try:
        if growing and not once:
            _print_lines(session)
        frame = _read_all(session)
        if at is not None:
            frame = _seek(session, frame, at)
        until = time.monotonic() + SETTLE_SECONDS
        while once and session.holds_back and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            frame = _read_all(session)
        click.echo(summary(frame))
    finally:
        session.close()


def _print_lines(session: Session) -> None:
    """Until the run has ended. A line comes in time also where reading lags behind."""
    while True:
        next_line = time.monotonic() + LINE_SECONDS
        session.refresh()
        while session.behind and time.monotonic() < next_line:
            session.refresh()
        frame = session.frame(Want())
        if frame.liveness not in ("live", "waiting"):
            return
        if output_is_hung_up():
            raise ConsoleEnded("the terminal was closed", 128 + signal.SIGHUP)
        click.echo(status_line(frame, session.lag_seconds), err=True)
        time.sleep(max(0.0, next_line - time.monotonic()))


def last_frame(target: Path) -> Frame:
    """The frame at the end of a run as far as it is known."""
    session = Session.open(target, history=False)
    try:
        return _read_all(session)
    finally:
        session.close()


def _read_all(session: Session) -> Frame:
    """All that there is now; what is said of it is of the whole run, as in a report."""
    read_all(session)
    return _whole(session)


def _seek(session: Session, frame: Frame, at: Target) -> Frame:
    """What is true at that instant, and what is to be said of the run until then."""
    destination = resolve(at, frame)
    if isinstance(destination, str):
        raise SourceError(destination)
    if destination.ordinal is not None:
        session.seek_ordinal(destination.ordinal)
    elif destination.time is not None:
        session.seek_time(destination.time)
    return _whole(session)


def _whole(session: Session) -> Frame:
    frame = session.frame(Want())
    span = max(1.0, frame.at - frame.t0 + 1.0)
    return session.frame(Want(span=span, standing=True, capacity=True))


def read_all(session: Session) -> None:
    """Read everything that the source has now."""
    session.refresh(budget_seconds=1.0)
    while session.behind:
        session.refresh(budget_seconds=1.0)
