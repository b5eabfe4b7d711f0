"""`headgate`: the command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import click

from console.cli import exits
from engine.errors import UserError
from engine.version import VERSION
from replay.sources.base import SourceError
from replay.sources.text import clean_text

# Command name -> module that defines it under the same name, and its one-line help.
COMMANDS = {
    "demo": (
        "console.cli.run",
        "A live run on scripted providers with a 429 storm: no key, no network.",
    ),
    "run": ("console.cli.run", "Run a workflow (Python file or YAML) and watch it."),
    "exec": (
        "console.cli.exec",
        "Run a Data Designer script unchanged, and record and watch its runs.",
    ),
    "watch": ("console.cli.view", "Watch a live run, or a scheduler_events.jsonl that grows."),
    "replay": ("console.cli.view", "Replay a recording: run folder, .duckdb, .jsonl or .jsonl.gz."),
    "why": ("console.cli.why", "Say why a recorded run stood still, with proof."),
    "sql": ("console.cli.sql", "Ask a recording in SQL, read-only; --views says what there is."),
    "export": (
        "console.cli.export",
        "Write a recording as Perfetto trace, JSON Lines, Parquet, CSV, Markdown or SVG.",
    ),
    "compare": ("console.cli.compare", "Compare two runs or benchmark artifacts."),
    "bench": (
        "console.cli.bench",
        "Benchmarks: scenarios that replay like recordings, to compare policies with.",
    ),
    "verify": ("console.cli.verify", "Check a recording: leases, order, limits, gaps, secrets."),
    "runs": ("console.cli.runs", "List the runs of this user."),
}


class LazyGroup(click.Group):
    """Knows its commands by name and help; imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output has left. click would leave with 1, which means something
            # else here; and nothing may be flushed into the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return exits.OK

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 found something or rows dropped, 2 misuse, 3 the run failed, "
    "4 the recording is damaged, 70 a bug, 129 hung up, 130 interrupted, 143 terminated.",
)
@click.version_option(VERSION, prog_name="headgate")
def cli() -> None:
    """Watch LLM dataset generation live, replay it, and prove why it stalls.

    Start with `headgate demo`.
    """


def main() -> None:
    """Entry point: turns every outcome into a documented exit code."""
    try:
        code = run_cli(sys.argv[1:])
    except KeyboardInterrupt:
        code = exits.INTERRUPTED  # once more, on its way out
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nobody is left to take an exception
    sys.exit(code)


STARTS_RUNS = ("demo", "run", "exec")
"""A run goes on when the terminal is closed in which it was started."""


class Interrupts:
    """Remembers Ctrl+C: what a library makes of it on its way up is often another exception.

    SIGTERM is the same, and so is the end of the terminal where no run was started in it: whatever
    a command has made for itself goes with it.
    """

    def __init__(self, *, hangup: bool) -> None:
        self.came: int | None = None
        """The signal."""
        heeded = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        if hangup:
            heeded[signal.SIGHUP] = signal.SIG_DFL
        self._before = {
            number: untouched
            for number, untouched in heeded.items()
            if signal.getsignal(number) is untouched
        }
        for number in self._before:
            signal.signal(number, self._come)

    def leave(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        return 128 + (self.came or signal.SIGINT)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.came = number
        raise KeyboardInterrupt


def run_cli(arguments: list[str]) -> int:
    interrupts = Interrupts(hangup=not arguments or arguments[0] not in STARTS_RUNS)
    try:
        result = cli.main(arguments, prog_name="headgate", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return interrupts.exit_code
    except Exception as error:
        return tell(error) if interrupts.came is None else interrupts.exit_code
    finally:
        interrupts.leave()
    return result if isinstance(result, int) else exits.OK


def tell(error: Exception) -> int:
    """One sentence on stderr; returns the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return exits.MISUSE
    if isinstance(error, click.ClickException):
        where = error.ctx if isinstance(error, click.UsageError) else None
        said = " ".join(error.format_message().split())
        help_at = where.command_path if where is not None else "headgate"
        return complain(f"{said} See {help_at} --help.", exits.MISUSE)
    if isinstance(error, UserError):
        return complain(str(error), exits.MISUSE)
    if isinstance(error, SourceError):
        return complain(str(error), error.exit_code)
    traceback.print_exception(error)
    return complain("that is a bug in headgate; please report the lines above", exits.BUG)


def complain(sentence: str, exit_code: int) -> int:
    click.echo(f"headgate: {clean_text(sentence)}", err=True)
    return exit_code
