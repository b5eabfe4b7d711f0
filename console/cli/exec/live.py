"""`headgate exec --live`: the console in front, the script behind it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from console.cli.exec.control import CannotStart, ExecControl, SeenRun
from console.cli.presenter import ConsoleOptions, show_terminal
from console.cli.stop_requests import StopRequests
from console.cli.terminal import own_name
from engine.errors import UserError
from engine.events.run_folder import OUTPUT_LOG
from engine.events.safe_files import open_regular
from replay.runs.catalogue import RunEntry, entry_of

LOOK_SECONDS = 0.1


class LiveScript:
    """A script in a session of its own, its output in a file; it outlives its console."""

    def __init__(self, command: tuple[str, ...], control: ExecControl) -> None:
        """Start it. Raises `CannotStart`, or `UserError` where its output can't be kept."""
        try:
            self.output = control.output_log()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            log_file = open(open_regular(self.output, flags), "ab")  # noqa: SIM115
        except OSError as error:
            raise UserError(
                f"--live keeps the script's output beside its run, and {error.filename} can't be "
                f"written: {error.strerror}; name another place with --out"
            ) from error
        environment = control.environment({"PYTHONUNBUFFERED": "1", **os.environ})
        with log_file as log:
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                self.output.unlink()
                raise CannotStart(command, error) from error
        self.stops = 0
        self._owner: Path | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def keep_output(self, run: SeenRun) -> None:
        """The first run's folder takes the file; a later run's shares it."""
        output_log = run.folder.output_log
        try:
            if self._owner is None:
                os.rename(self.output, OUTPUT_LOG, dst_dir_fd=run.folder.fd)
                self.output = self._owner = output_log
            else:
                os.link(self._owner, OUTPUT_LOG, dst_dir_fd=run.folder.fd)
        except OSError:
            return

    def stop(self, number: int) -> None:
        """The script and its children, as Ctrl+C would: with this signal, the second time with
        SIGTERM, then with SIGKILL."""
        self.stops += 1
        if self.stops > 1:
            number = signal.SIGTERM if self.stops == 2 else signal.SIGKILL
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def stop_with_console(self, number: int) -> None:
        """The console ends because of this signal; a closed terminal leaves the script alone."""
        if number != signal.SIGHUP:
            self.stop(number)


class _RunWatch:
    """Sees the runs that the script begins, in a thread of its own until it is closed."""

    def __init__(
        self, script: LiveScript, control: ExecControl, take: Callable[[SeenRun], None]
    ) -> None:
        self.taken: list[SeenRun] = []
        self._script = script
        self._control = control
        self._take = take
        self._messages: list[str] = []
        self._looking = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Take the runs that have begun since."""
        with self._looking:
            runs, warnings = self._control.look()
            for run in runs:
                self._script.keep_output(run)
                self._take(run)
                self.taken.append(run)
            self._messages.extend(warnings)

    def has_more(self, shown: int) -> bool:
        """Whether there is a run that has not been shown yet."""
        return shown < len(self.taken)

    def close(self) -> list[str]:
        """Looks once more. Returns all warnings about runs."""
        self._over.set()
        self._thread.join()
        self.look()
        return self._messages

    def _keep_looking(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with contextlib.suppress(OSError):
                self.look()


def run_live(
    command: tuple[str, ...],
    control: ExecControl,
    take: Callable[[SeenRun], None],
    say: Callable[[str], None],
    requests: StopRequests,
    ascii_only: bool,
) -> int | None:
    """The script's exit code; None where the user leaves it running.

    The first of `requests` is passed on to the script, the second sends SIGTERM, the third kills
    it. `take` gets each run once its folder stands. Raises `CannotStart`.
    """
    script = _start(command, control, say)
    watch = _RunWatch(script, control, take)
    shown = heeded = 0
    try:
        while True:
            while heeded < len(requests):
                script.stop(requests[heeded])
                heeded += 1
            ended = not script.runs
            if ended:
                watch.look()
            if watch.has_more(shown) and not script.stops:
                run = watch.taken[shown]
                shown += 1
                options = ConsoleOptions(
                    ascii_only,
                    ask=script.runs,
                    output=script.output,
                    on_forced_exit=script.stop_with_console,
                    next_run=partial(watch.has_more, shown),
                    script_runs=partial(_entries, watch.taken),
                )
                try:
                    with requests.raised(heeded):
                        outcome = show_terminal(run.folder.path, options)
                except KeyboardInterrupt:
                    continue
                if outcome == "next":
                    continue
                if outcome == "stop":
                    script.stop(signal.SIGINT)
                    say("stopping the script; Ctrl+C again ends it at once")
                elif script.runs and run.folder.producer_lives:
                    say(f"the run goes on; come back with: {own_name()} watch {run.run_id}")
                    return None
                elif script.runs and not watch.has_more(shown):
                    say("that run is over, the script goes on; Ctrl+C stops it")
            elif ended:
                break
            else:
                time.sleep(LOOK_SECONDS)
    except Exception:
        if script.runs:
            say(f"the script goes on as process {script.process.pid}: {script.output}")
        raise
    finally:
        for sentence in watch.close():
            say(sentence)
    if not watch.taken:
        _print_output(script.output)
    status = script.process.returncode
    return status if status >= 0 else 128 - status


def _entries(taken: Sequence[SeenRun]) -> list[RunEntry]:
    """For the list of them, the newest first."""
    now = time.time()
    entries = (entry_of(run.folder.path, now) for run in reversed(tuple(taken)))
    return [entry for entry in entries if entry is not None]


def _start(
    command: tuple[str, ...], control: ExecControl, say: Callable[[str], None]
) -> LiveScript:
    """The script outlives a terminal that is closed only once it was said that it runs."""
    with StopRequests(signal.SIGHUP) as hangups:
        script = LiveScript(command, control)
        say(f"the script runs, its output goes to {script.output}; Ctrl+C stops it")
        if hangups:
            script.stop(signal.SIGHUP)
    if hangups:
        os.kill(os.getpid(), signal.SIGHUP)
    return script


def _print_output(path: Path) -> None:
    """What a script printed that made no run, and so has no folder to keep it."""
    try:
        sys.stdout.buffer.write(path.read_bytes())
        sys.stdout.flush()
        path.unlink()
    except OSError:
        click.echo(f"headgate: the script's output is in {path}", err=True)
