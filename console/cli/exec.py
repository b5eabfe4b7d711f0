"""`headgate exec`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.cli import exits

if TYPE_CHECKING:
    from console.cli.exec_control import ExecControl


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS] --",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run, new or empty; further runs of the same script get DIR-2, DIR-3, … "
    "Default: ./headgate-runs/<utc>-<name>-<id>.",
)
@click.option("--name", help="Name of the runs. Default: the dataset's, or the script's.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(out: Path | None, name: str | None, command: tuple[str, ...]) -> int:
    """Run COMMAND (say, `python their_script.py`) and record its Data Designer runs.

    The script, its environment and its output stay as they are, and headgate need not be installed
    there: a small standard-library module on PYTHONPATH records each `create` and `preview`, also
    in child processes. stderr names the command to watch a run, from any other terminal.

    Exit codes: those of COMMAND, also its death by a signal; 126 if it can't be started, 127 if it
    is not found, 2 for misuse.
    """
    from console.cli.exec_control import ExecControl, SeenRun
    from console.cli.launch import start_recorder
    from console.cli.main import complain
    from console.cli.passthrough import PassThrough

    problem = cannot_start(command[0])
    if problem is not None:
        return complain(*problem)
    control = ExecControl(out, name, script_name(command))
    recorders: list[tuple[SeenRun, subprocess.Popen[bytes]]] = []

    def look() -> None:
        runs, warnings = control.look()
        for warning in warnings:
            say(warning)
        for run in runs:
            try:
                recorders.append((run, start_recorder(run.folder)))
            except OSError as error:
                say(f"{run.folder.path} is not imported yet: {error.strerror}")
            say(f"recording a run, watch it: headgate watch {run.run_id}")

    try:
        try:
            through = PassThrough(command, control.environment(os.environ))
        except OSError as error:
            return complain(
                f"{command[0]} can't be started: {error.strerror}", exits.NOT_EXECUTABLE
            )
        through.wait(look)
        look()
        through.settle(
            lambda: all(
                recorder.poll() is not None or run.folder.producer_lives
                for run, recorder in recorders
            )
        )
        for sentence in epilogue(control, command):
            say(sentence)
        return through.leave()
    finally:
        control.remove()


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
        return f"{program}: there is no such command on the PATH", exits.NOT_FOUND
    if not path.exists():
        return f"{program}: there is no such file", exits.NOT_FOUND
    if path.is_dir():
        return f"{program} is a folder, not a command", exits.NOT_EXECUTABLE
    return (
        f"{program} is not executable; for a script say: headgate exec -- python {program}",
        exits.NOT_EXECUTABLE,
    )


def script_name(command: tuple[str, ...]) -> str:
    """What to call a run that has no name of its own."""
    for word in command[1:]:
        if word.endswith(".py"):
            return Path(word).stem
    return Path(command[0]).name


def epilogue(control: ExecControl, command: tuple[str, ...]) -> list[str]:
    """What there is to say once the command is over."""
    from engine.events.run_folder import read_record

    sentences = []
    for run in control.runs:
        record = read_record(run.folder)
        if run.folder.producer_lives:
            sentences.append(f"{run.run_id} goes on in a process that the command left behind")
            continue
        how = "ended without an end" if record is None else record.outcome or record.state
        sentences.append(f"{run.run_id}: {how}; why it took so long: headgate why {run.run_id}")
    if control.runs or control.warnings:
        return sentences
    if control.used:
        return ["Data Designer was imported, but made no run: nothing was recorded"]
    if control.loaded:
        return ["the script did not use Data Designer: nothing was recorded"]
    if control.too_old is not None:
        return [f"Python {control.too_old} is too old for headgate exec, which needs 3.10 or newer"]
    options = isolating(command)
    if options:
        return [f"nothing was recorded: under {options} Python ignores PYTHONPATH; run it without"]
    return [
        "nothing was recorded: the command started no Python that minds PYTHONPATH; "
        "run: headgate exec -- python script.py"
    ]


def isolating(command: tuple[str, ...]) -> str:
    """The options of a Python command line under which its bootstrap is ignored."""
    if "python" not in Path(command[0]).name:
        return ""
    found = []
    for word in command[1:]:
        if not word.startswith("-") or word.startswith(("--", "-c", "-m")):
            break
        if word[1:].isalpha() and set(word[1:]) & set("IES"):
            found.append(word)
    return " ".join(found)
