"""Shows an open run: in the console, or as lines where there is no terminal."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from console.cli import exits
from console.cli.exits import ConsoleEnded
from console.cli.launch import Launched, exit_code_of
from console.cli.terminal import own_name
from console.headless import status_line, summary
from engine.events.run_folder import RunFolder
from replay.frame import Frame, Want
from replay.session import Session

LINE_SECONDS = 2.0
POLL_SECONDS = 0.1
SETTLE_SECONDS = 1.0
"""So long one snapshot waits for events that wait for earlier ones."""
_STOPPING = "Stopping: running tasks may finish; Ctrl+C again aborts them."


def show_terminal(
    target: str | Path,
    *,
    ask: bool = False,
    output: Path | None = None,
    ascii_only: bool,
    growing: bool | None = None,
) -> Literal["quit", "stop"]:
    """Open the console on `target` until the user leaves it.

    What is watched (`growing`) is followed, a replay begins at its first event. `ask`: on leaving,
    does the run go on? `output`: what its script prints. Raises SourceError, and
    ConsoleEnded where it was not the user who left.
    """
    session = Session.open(target, growing=growing)
    from console.app import ConsoleApp

    app = ConsoleApp(
        session,
        title=str(target),
        on_quit="ask" if ask else "leave",
        output=output,
        ascii_only=ascii_only,
        follow=growing is not False,
    )
    try:
        outcome = app.run_in_terminal()
    finally:
        session.close()
    live = growing is not False and app.run_goes_on
    back = f"{own_name()} {'watch' if live else 'replay'} {shlex.quote(str(target))}"
    if app.failure is not None:
        rest = "the run goes on" if live else "the recording is as it was"
        raise ConsoleEnded(
            "the console failed, which is a bug in headgate: please report the lines above; "
            f"{rest}, come back with: {back}",
            exits.BUG,
        ) from app.failure
    if app.ended_by is not None:
        signal.raise_signal(app.ended_by)  # to whoever heeded it before the console opened
        raise ConsoleEnded(f"the terminal was closed; come back with: {back}", 128 + app.ended_by)
    return outcome


def show_headless(launched: Launched) -> int:
    """Lines on stderr while the run goes on, the summary on stdout, the run's exit code.

    SIGTERM stops the run as Ctrl+C does: whoever ends this command means the run.
    """
    session = Session.open(launched.folder.path)
    try:
        with asked_to_stop() as asked:
            stops = 0
            next_line = time.monotonic() + LINE_SECONDS
            while launched.engine.poll() is None:
                session.refresh()
                if time.monotonic() >= next_line:
                    next_line += LINE_SECONDS
                    click.echo(status_line(session.frame(Want())), err=True)
                if len(asked) > stops:
                    stops += 1
                    launched.stop()
                    click.echo(_STOPPING if stops == 1 else "Aborting.", err=True)
                if not session.behind:
                    time.sleep(POLL_SECONDS)
    finally:
        session.close()
    launched.wait_for_recorder()
    show_summary(launched.folder)
    return exit_code_of(launched.folder)


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """Signals that came to stop this process, noted instead of raised: an exception in the middle
    of a query or a fold would leave them in no known state. What is ignored stays ignored."""
    asked: list[int] = []
    heeded = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [signal.signal(number, lambda came, _: asked.append(came)) for number in heeded]
    try:
        yield asked
    finally:
        for number, handler in zip(heeded, before, strict=True):
            signal.signal(number, handler)


def show_summary(folder: RunFolder) -> None:
    """The finished run in a few lines, on stdout."""
    click.echo(summary(_last_frame(folder.path)))
    click.echo(f"Recording  {folder.path}\nReplay     {own_name()} replay {folder.path}")
    click.echo(f"Diagnosis  {own_name()} why {folder.path}")


def show_once(target: str | Path, *, growing: bool, once: bool) -> None:
    """`watch` and `replay` without a terminal: one summary, or lines while the run lives."""
    session = Session.open(target, growing=growing)
    try:
        frame = _read_all(session)
        until = time.monotonic() + SETTLE_SECONDS
        while once and session.holds_back and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            frame = _read_all(session)
        while growing and not once and frame.liveness in ("live", "waiting"):
            click.echo(status_line(frame), err=True)
            time.sleep(LINE_SECONDS)
            frame = _read_all(session)
        click.echo(summary(frame))
    finally:
        session.close()


def _last_frame(target: Path) -> Frame:
    session = Session.open(target)
    try:
        return _read_all(session)
    finally:
        session.close()


def _read_all(session: Session) -> Frame:
    read_all(session)
    return session.frame(Want())


def read_all(session: Session) -> None:
    """Everything that is there now."""
    session.refresh(budget_seconds=1.0)
    while session.behind:
        session.refresh(budget_seconds=1.0)
