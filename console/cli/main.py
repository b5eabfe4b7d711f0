"""`headgate`: the command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import traceback
from importlib.machinery import ExtensionFileLoader
from types import FrameType

import click

from console.cli import exit_codes
from console.cli.exit_codes import ConsoleEnded
from console.cli.streams import Streams
from console.cli.terminal import text_width
from engine.errors import UserError
from replay.recording.machine_memory import bound_memory
from replay.sources.base import SourceError
from replay.sources.sanitize import clean_text

# Command name -> module that defines it under the same name, and its one-line help.
COMMANDS = {
    "demo": (
        "console.cli.run.command",
        "A live run on scripted providers with a 429 storm: no key, no network.",
    ),
    "run": ("console.cli.run.command", "Run a workflow (Python file or YAML) and watch it."),
    "plan": (
        "console.cli.plan",
        "Say what a run would do, without a call: prompts, requests, tokens, lint.",
    ),
    "preview": ("console.cli.preview", "Make a few rows of a workflow, and print them."),
    "init": ("console.cli.init", "Write an example workflow into a new folder."),
    "import-config": (
        "console.cli.import_config",
        "Make a workflow of a configuration of Data Designer.",
    ),
    "exec": (
        "console.cli.exec.command",
        "Run a Data Designer script unchanged, and record and watch its runs.",
    ),
    "watch": ("console.cli.watch", "Watch a live run, or a scheduler_events.jsonl that grows."),
    "replay": (
        "console.cli.watch",
        "Replay a recording: run folder, .duckdb, .jsonl, .gz or .zst.",
    ),
    "rows": ("console.cli.rows", "Look at the rows that a run has made, all or one at a time."),
    "why": ("console.cli.why", "Say why a recorded run stood still, with proof."),
    "capacity": (
        "console.cli.capacity",
        "Every capacity value of a run, its source, and what was used.",
    ),
    "sql": ("console.cli.sql", "Ask a recording in SQL, read-only; --views says what there is."),
    "export": (
        "console.cli.export",
        "Write a recording as Perfetto trace, JSON Lines, Parquet, CSV, Markdown or SVG.",
    ),
    "compare": ("console.cli.compare", "Compare two runs or benchmark artifacts."),
    "bench": (
        "console.cli.bench.command",
        "Benchmarks: scenarios that replay like recordings, to compare policies with.",
    ),
    "verify": ("console.cli.verify", "Check a recording: leases, order, limits, gaps, secrets."),
    "runs": ("console.cli.runs", "List the runs of this user."),
    "stop": ("console.cli.stop", "Ask a live run to stop."),
    "serve": ("console.cli.serve", "Show the console in a browser on this machine."),
    "settings": ("console.cli.settings", "Say what is set for the console, and its keys."),
    "doctor": ("console.cli.doctor", "Check whether headgate can run here."),
    "completion": (
        "console.cli.completion",
        "Print the script that completes commands in a shell.",
    ),
}


MOST_HELP_COLUMNS = 100


def help_width() -> int | None:
    """Width of the terminal, where stdout is one; click would use `COLUMNS` instead."""
    width = text_width()
    return None if width is None else max(50, min(width, MOST_HELP_COLUMNS) - 2)


class LazyGroup(click.Group):
    """A group that knows the names and help of its commands, and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(
            importlib.import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_")
        )
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Callback of `--version`: prints it and ends the command."""
    if not wanted or ctx.resilient_parsing:
        return
    from console.cli.build_info import build_info

    click.echo(build_info().text)
    ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": MOST_HELP_COLUMNS,
    },
    epilog="Exit codes: 0 fine, 1 found something or rows dropped, 2 misuse, 3 the run failed, "
    "4 the recording is damaged, 70 a bug, 74 output not written, 129 hung up, 130 interrupted, "
    "143 terminated.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version, what it was built from, and what it runs on.",
)
@click.pass_context
def cli(ctx: click.Context) -> int:
    """Watch LLM dataset generation live, replay it, and prove why it stalls.

    Start with `headgate demo`. Without a command, in a terminal, the list of your runs opens.
    """
    if ctx.invoked_subcommand is not None:
        return exit_codes.OK
    from console.cli.terminal import is_interactive, require_size

    if not is_interactive():
        raise click.exceptions.NoArgsIsHelpError(ctx)
    require_size()
    from console.cli.presenter import show_runs

    show_runs(ascii_only=False)
    return exit_codes.OK


def main() -> None:
    """Entry point; exits with a documented exit code in every case."""
    arguments = sys.argv[1:]
    if READERS.intersection(arguments[:1]):
        os.umask(0o077)
    if (READERS | {"export"}).intersection(arguments[:1]):
        bound_memory()
    streams = Streams()
    starts_run = bool(arguments) and arguments[0] in STARTS_RUNS
    if starts_run:
        streams.go_on()  # its lines may be lost, the run is not
    try:
        code = run_cli(arguments, streams)
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED  # a second Ctrl+C while the first one was handled
    lost = streams.close()
    if lost and arguments[:1] != ["exec"]:  # whose output and exit code are the command's
        on_stdout = starts_run and streams.out.problem is None
        click.echo(f"headgate: {'; '.join(lost)}.", err=not on_stdout)
        code = code or exit_codes.NOT_WRITTEN
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no code is left to catch an exception
    sys.exit(code)


READERS = frozenset(
    {"watch", "replay", "rows", "why", "sql", "compare", "verify", "runs", "stop", "capacity"}
)
"""Commands that write no file for the user: their temporary files, above all those of DuckDB, are
readable by their user alone."""

SCARCE = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT)
)
"""Errors of a system that has too little of something: no fault of headgate, nor of its user."""

STARTS_RUNS = ("demo", "run", "exec")
"""Commands that start a run, which goes on when the terminal is closed."""


COMPLETE = "_HEADGATE_COMPLETE"
"""Variable in which a shell's script says what it wants to know."""

RETRY_SECONDS = 0.005
_EXTENSION_LOADING = frozenset(
    (ExtensionFileLoader.create_module.__code__, ExtensionFileLoader.exec_module.__code__)
)


class Interrupts:
    """Raises `KeyboardInterrupt` for SIGINT and SIGTERM, and remembers the signal.

    A library that is interrupted often raises an exception of its own instead. SIGHUP is handled in
    the same way where the command starts no run, so that its temporary files are removed. A signal
    that arrives while a compiled module is loaded waits until it is, and one whose exception is
    ignored, as those of finalizers and weak references are, raises another one right after.
    """

    def __init__(self, *, hangup: bool) -> None:
        self.signal_number: int | None = None
        """Number of the signal that was received last."""
        handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        if hangup:
            handlers[signal.SIGHUP] = signal.SIG_DFL
        self._before = {
            number: untouched
            for number, untouched in handlers.items()
            if signal.getsignal(number) is untouched
        }
        for number in self._before:
            signal.signal(number, self._receive)
        self._alarm_before = signal.signal(signal.SIGALRM, self._raise_when_safe)
        self._raised: KeyboardInterrupt | None = None
        self._hook_before = sys.unraisablehook
        sys.unraisablehook = self._ignored

    def leave(self) -> None:
        sys.unraisablehook = self._hook_before
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._alarm_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        return 128 + (self.signal_number or signal.SIGINT)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._raise_when_safe(number, frame)

    def _raise_when_safe(self, number: int, frame: FrameType | None) -> None:
        # DuckDB's library aborts the process on an exception while it initialises.
        if _loads_extension(frame):
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        else:
            self._raised = KeyboardInterrupt()
            raise self._raised

    def _ignored(self, ignored: sys.UnraisableHookArgs) -> None:
        if self._raised is None or ignored.exc_value is not self._raised:
            self._hook_before(ignored)
        else:
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)


def _loads_extension(frame: FrameType | None) -> bool:
    """Whether a compiled module is being loaded in this frame or one that called it."""
    while frame is not None:
        if frame.f_code in _EXTENSION_LOADING:
            return True
        frame = frame.f_back
    return False


def run_cli(arguments: list[str], streams: Streams | None = None) -> int:
    """Runs one command. Returns its exit code, after one sentence on stderr if it failed."""
    interrupts = Interrupts(hangup=not arguments or arguments[0] not in STARTS_RUNS)
    try:
        result = cli.main(
            arguments, prog_name="headgate", standalone_mode=False, terminal_width=help_width()
        )
    except (click.Abort, KeyboardInterrupt):
        return interrupts.exit_code
    except SystemExit as ending:  # click makes one of every broken pipe
        if COMPLETE in os.environ:  # and one of every completion
            return ending.code if isinstance(ending.code, int) else exit_codes.OK
        if streams is None or streams.abandoned:
            return exit_codes.OK
        return complain(
            "a pipe to another process broke; that is a bug in headgate", exit_codes.BUG
        )
    except Exception as error:
        if interrupts.signal_number is not None:
            return interrupts.exit_code
        if streams is not None:
            if streams.raised(error):
                return (
                    exit_codes.OK if isinstance(error, BrokenPipeError) else exit_codes.NOT_WRITTEN
                )
            streams.go_on()  # the exit code is that of the error, also where it can't be printed
        return tell(error)
    finally:
        interrupts.leave()
    return result if isinstance(result, int) else exit_codes.OK


def tell(error: Exception) -> int:
    """Print one sentence on stderr and return the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return exit_codes.MISUSE
    if isinstance(error, click.ClickException):
        where = error.ctx if isinstance(error, click.UsageError) else None
        message = " ".join(error.format_message().split())
        help_at = where.command_path if where is not None else "headgate"
        return complain(f"{message} See {help_at} --help.", exit_codes.MISUSE)
    if isinstance(error, UserError):
        return complain(str(error), exit_codes.MISUSE)
    if isinstance(error, SourceError):
        return complain(str(error), error.exit_code)
    if isinstance(error, ConsoleEnded):
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return complain(str(error), error.exit_code)
    if isinstance(error, RecursionError):  # wherever what was read is used
        return complain("The input is nested too deeply to be used.", exit_codes.DAMAGED)
    if isinstance(error, OSError) and error.errno in SCARCE:
        path = f" ({error.filename})" if error.filename else ""
        return complain(f"The system refused: {error.strerror}{path}.", exit_codes.MISUSE)
    if isinstance(error, MemoryError):
        return complain("The input takes more memory than there is.", exit_codes.DAMAGED)
    traceback.print_exception(error)
    return complain("that is a bug in headgate; please report the lines above", exit_codes.BUG)


def complain(sentence: str, exit_code: int) -> int:
    """Writes the sentence on stderr and returns the exit code."""
    click.echo(f"headgate: {clean_text(sentence)}", err=True)
    return exit_code
