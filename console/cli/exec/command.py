"""`headgate exec`."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.cli import exit_codes
from console.cli.terminal import is_interactive, own_name, require_size
from engine.errors import UserError

if TYPE_CHECKING:
    from console.cli.exec.control import ExecControl, SeenRun

WAIT_SECONDS = 0.05
PIDS_SHOWN = 5
CLEAR_ENVIRONMENT = frozenset({"sudo", "su", "doas", "runuser", "systemd-run"})
"""Programs that by default run a command without what was in the environment."""


@click.command(context_settings={"allow_interspersed_args": False}, options_metavar="[OPTIONS] --")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run, new or empty; further runs of the same script get DIR-2, DIR-3, … "
    "Default: ./headgate-runs/<utc>-<name>-<id>.",
)
@click.option("--name", help="Name of the runs. Default: the dataset's, or the script's.")
@click.option(
    "--live",
    is_flag=True,
    help="Open the console here; the command's output goes to output.log in the run's folder.",
)
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(
    out: Path | None, name: str | None, live: bool, ascii_only: bool, command: tuple[str, ...]
) -> int:
    """Run COMMAND (say, `python their_script.py`) and record its Data Designer runs.

    The script, its environment and its output stay as they are, and headgate need not be installed
    there: a small standard-library module on PYTHONPATH records each `create` and `preview`, also
    in child processes. stderr names the command to watch a run, from any other terminal.

    With --live the console opens on each run in turn; `o` shows what the script prints. It has no
    terminal then: its standard input is empty.

    Exit codes: those of COMMAND, also its death by a signal; 126 if it can't be started, 127 if it
    is not found, 2 for misuse. With --live 0 also where the script was left running.
    """
    from console.cli.exec.control import CannotStart, ExecControl
    from console.cli.main import complain

    problem = cannot_start(command[0])
    if problem is not None:
        return complain(*problem)
    if live:
        if not is_interactive():
            raise UserError("--live needs a terminal; without it the script runs in place")
        require_size()
    control = ExecControl(out, name, script_name(command))
    watched = Watched(control)
    goes_on = False
    try:
        if live:
            from console.cli.exec.live import run_live
            from console.cli.stop_requests import StopRequests

            with StopRequests() as requests:
                code = run_live(command, control, watched.take, say, requests, ascii_only)
                if code is None:
                    goes_on = True
                    return exit_codes.OK
                before = len(requests)
                while not watched.all_imported() and len(requests) == before:
                    time.sleep(WAIT_SECONDS)
                watched.end_recorders()
                watched.conclude(command)
                goes_on = watched.some_go_on
                return code
        from console.cli.exec.passthrough import PassThrough

        through = PassThrough(command, control.environment(os.environ))
        through.wait(watched.look)
        watched.look()
        through.settle(watched.all_imported)
        watched.end_recorders()
        watched.conclude(command)
        goes_on = watched.some_go_on
        if not goes_on:
            control.remove()
        return through.leave()
    except CannotStart as error:
        return complain(str(error), exit_codes.NOT_EXECUTABLE)
    except exit_codes.ConsoleEnded:
        goes_on = True  # the script does not end with its console
        raise
    finally:
        if not goes_on:
            control.remove()


class Watched:
    """The runs of the command: found, imported as they go, and summed up at the end."""

    def __init__(self, control: ExecControl) -> None:
        self._control = control
        self._recorders: list[tuple[SeenRun, subprocess.Popen[bytes]]] = []

    def look(self) -> None:
        """Sees which runs the command has begun since, and starts their recorders."""
        runs, warnings = self._control.look()
        for warning in warnings:
            say(warning)
        for run in runs:
            self.take(run)
            say(f"recording a run, watch it: {own_name()} watch {run.run_id}")

    def take(self, run: SeenRun) -> None:
        from console.cli.run.launch import start_recorder

        try:
            self._recorders.append((run, start_recorder(run.folder)))
        except OSError as error:
            say(f"{run.run_id} is imported only when it is opened: {error.strerror}")

    def all_imported(self) -> bool:
        """Of the runs that are over."""
        return all(
            recorder.poll() is not None or run.folder.producer_lives
            for run, recorder in self._recorders
        )

    @property
    def some_go_on(self) -> bool:
        """Is there somebody who may still need what the command was told?"""
        live = any(run.folder.producer_lives for run in self._control.runs)
        return live or bool(self._control.processes_left())

    def end_recorders(self) -> None:
        """Of the runs that are over: what they have not imported is imported when it is opened."""
        from console.cli.run.launch import end_recorder

        for run, recorder in self._recorders:
            if recorder.poll() is None and not run.folder.producer_lives:
                end_recorder(recorder)
                say(f"{run.run_id} is imported only when it is opened")

    def conclude(self, command: tuple[str, ...]) -> None:
        """The command is over: says what has been recorded."""
        for sentence in epilogue(self._control, command):
            say(sentence)


def say(sentence: str) -> None:
    """On stderr; where that can't be, the run goes on all the same."""
    try:
        click.echo(f"headgate: {sentence}", err=True)
    except OSError:
        return


def cannot_start(program: str) -> tuple[str, int] | None:
    """Why the command can't be started, and the exit code; None where it can."""
    if shutil.which(program) is not None:
        return None
    path = Path(program)
    if os.sep not in program:
        return f"{program}: there is no such command on the PATH", exit_codes.NOT_FOUND
    if not path.exists():
        return f"{program}: there is no such file", exit_codes.NOT_FOUND
    if path.is_dir():
        return f"{program} is a folder, not a command", exit_codes.NOT_EXECUTABLE
    return (
        f"{program} is not executable; for a script say: headgate exec -- python {program}",
        exit_codes.NOT_EXECUTABLE,
    )


def script_name(command: tuple[str, ...]) -> str:
    """What to call a run that has no name of its own."""
    words = command[1:]
    for word in words:
        if word.endswith(".py"):
            return Path(word).stem
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1].rpartition(".")[2]
    plain = [word for word in words if not word.startswith("-") and " " not in word]
    return Path(plain[0] if plain else command[0]).stem


def epilogue(control: ExecControl, command: tuple[str, ...]) -> list[str]:
    """What there is to say once the command is over."""
    from engine.events.run_folder import read_record
    from engine.events.run_record import run_state
    from replay.state.ending import ending

    sentences = []
    for run in control.runs:
        record = read_record(run.folder)
        if run.folder.producer_lives:
            sentences.append(f"{run.run_id} goes on in a process that the command left behind")
            continue
        how = "unknown"
        if record is not None:
            ended = ending(record.outcome, record.rows_done, record.rows_dropped, record.records)
            how = record.outcome or run_state(record.state, run.folder.producer)
            how = how if ended is None else ended.words
        rows = ""
        if record is not None and record.records is not None:
            rows = f", {record.rows_done} of {record.records} rows"
        sentences.append(
            f"{run.run_id}: {how}{rows}; where its time went: {own_name()} why {run.run_id}"
        )
    if control.runs or control.warnings:
        return sentences
    left = control.processes_left()
    if left:
        goes_on, its = ("a process", "it begins") if len(left) == 1 else ("processes", "they begin")
        pids = ", ".join(map(str, left[:PIDS_SHOWN])) + (", …" if len(left) > PIDS_SHOWN else "")
        return [
            f"nothing is recorded yet: {goes_on} of the command still runs (pid {pids}); a run that"
            f" {its} is recorded, and then in: {own_name()} runs"
        ]
    if control.used:
        return ["Data Designer was imported, but made no run: nothing was recorded"]
    if control.loaded:
        return [
            "no Data Designer run was seen: nothing was recorded; a Python that was started with a"
            " cleared environment could not be watched"
        ]
    if control.too_old is not None:
        return [f"Python {control.too_old} is too old for headgate exec, which needs 3.10 or newer"]
    options = isolating(command)
    if options:
        return [
            f"nothing was recorded: under {options} Python does not load what headgate puts on "
            "PYTHONPATH; run it without"
        ]
    if clears_environment(command):
        return [
            "nothing was recorded: the environment was cleared, and with it what headgate put there"
            f" for Python; run it without: {command[0]}"
        ]
    return [
        "nothing was recorded: the command started no Python that loaded what headgate puts on "
        "PYTHONPATH (none was started, or its environment was cleared); "
        "run: headgate exec -- python script.py"
    ]


def clears_environment(command: tuple[str, ...]) -> bool:
    """Does the command line itself say so?"""
    program = Path(command[0]).name
    if program in CLEAR_ENVIRONMENT:
        return True
    options = itertools.takewhile(lambda word: word.startswith("-"), command[1:])
    return program == "env" and any(
        word in ("-", "--ignore-environment") or (word[:2] != "--" and "i" in word)
        for word in options
    )


def isolating(command: tuple[str, ...]) -> str:
    """The options of a Python command line under which its bootstrap is ignored."""
    if "python" not in Path(command[0]).name:
        return ""
    isolating_flags = []
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-") or word == "-" or word.startswith("--"):
            break
        flags = word[: next((at for at, flag in enumerate(word) if flag in "cmXW"), len(word))]
        if set(flags) & set("IES"):
            isolating_flags.append(flags)
        if word[len(flags) :].startswith(("c", "m")):
            break
        if word[len(flags) :] in ("X", "W"):
            next(words, None)  # what the option is set to
    return " ".join(isolating_flags)
