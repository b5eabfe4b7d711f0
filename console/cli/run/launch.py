"""Starts the engine and recorder processes of one run, and owns them until they are gone."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from console.cli import exit_codes
from console.cli.run.claimed_folder import ClaimedFolder
from console.cli.run.engine_link import (
    Broken,
    Ended,
    FrontLink,
    Note,
    Reacts,
    Ready,
    Refused,
)
from console.cli.run.reopened_folder import ReopenedFolder
from console.cli.stop_requests import StopRequests
from engine.errors import UserError
from engine.events.run_folder import RunFolder, read_record

START_TIMEOUT_SECONDS = 30.0
WAIT_STEP_SECONDS = 0.05
RECORDER_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class RunSpec:
    """What to run; None leaves a value to the workflow."""

    name: str
    workflow: Path | None
    """None runs the embedded demo."""
    records: int | None = None
    seed: int | None = None
    wait_for_quotas: bool = False
    resumes: bool = False
    """The run goes on in its folder."""
    retry_dropped: bool = False
    max_tokens: int | None = None
    max_cost: float | None = None
    row_format: str = "parquet"


class StartInterrupted(Exception):
    """The user did not want the run any more before it began; nothing of it is left."""


class Launched:
    """A run that has begun. Both processes are sessions of their own: they outlive this one, unless
    it stops them."""

    def __init__(
        self,
        folder: RunFolder,
        engine: subprocess.Popen[bytes],
        recorder: subprocess.Popen[bytes],
        link: FrontLink,
        workflow: Path | None = None,
    ) -> None:
        self.folder = folder
        self.workflow = workflow
        """None for the embedded demo, which can't be resumed."""
        self.engine = engine
        self.recorder = recorder
        self.ended: Ended | None = None
        """How the run ended, as the engine says; None until it has said so."""
        self.notes: list[str] = []
        """What the engine said behind the end of the run, a sentence each."""
        self.last_reaction = time.monotonic()
        """When the engine's loop answered last, or was first asked."""
        self.reaction = Reacts()
        """The last answer of the engine's loop."""
        self.killed = False
        self._link = link

    @property
    def running(self) -> bool:
        return self.engine.poll() is None

    def wait(self, seconds: float) -> bool:
        """Take in what the engine says; waits at most so long. False where it said nothing."""
        messages = self._link.receive(seconds)
        for message in messages:
            if isinstance(message, Reacts):
                self.last_reaction = time.monotonic()
                self.reaction = message
            elif isinstance(message, Ended):
                self.ended = message
            elif isinstance(message, Note):
                self.notes.append(message.message)
        return bool(messages)

    @property
    def outcome(self) -> str | None:
        """None where no end is known."""
        ended = self.ended or read_record(self.folder)
        return None if ended is None else ended.outcome

    @property
    def message(self) -> str:
        """Why the run ended as it did, where there is something to say."""
        if self.ended is not None:
            return self.ended.message
        record = read_record(self.folder)
        return "" if record is None else record.message

    def ask(self) -> None:
        """Whether the engine's loop reacts; `last_reaction` tells."""
        self._link.ask()

    def stop(self) -> None:
        """Ask the engine to drain; asked a second time, it aborts."""
        if self.running:
            self.engine.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """The engine, and whatever the user's functions have started."""
        self.killed = True
        _kill_group(self.engine)

    def await_recorder(self, requests: StopRequests) -> bool:
        """Until all that the engine wrote is in the recording. A stop request ends the recorder:
        False, and the rest is imported when the folder is opened."""
        before = len(requests)
        while self.recorder.poll() is None:
            if len(requests) > before:
                end_recorder(self.recorder)
                return False
            time.sleep(WAIT_STEP_SECONDS)
        return True

    def exit_code(self, requests: StopRequests) -> int:
        """The documented one for how the run ended, or for the signal that ended it."""
        ended = self.ended or read_record(self.folder)
        outcome = self.outcome
        if outcome == "cancelled" or (outcome is None and self.killed):
            return requests.exit_code
        if outcome == "stopped":
            return exit_codes.FINDINGS
        if ended is not None and outcome == "success":
            return exit_codes.FINDINGS if ended.rows_dropped else exit_codes.OK
        return exit_codes.RUN_FAILED


def new_run_id(name: str) -> str:
    """`<utc>-<name>-<id>`; also the name of the run's folder, unless the user gives one."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
    return f"{stamp}-{slug[:40]}-{secrets.token_hex(2)}"


def launch(spec: RunSpec, out: Path | None, requests: StopRequests) -> Launched:
    """Create the run folder, start both processes, and let the run begin.

    Raises `UserError` where the folder can't be used, the engine refuses the workflow or there is
    no room, and `StartInterrupted` where a stop is requested meanwhile. Neither leaves a process,
    nor anything on the disk that was not there before.
    """
    run_id = new_run_id(spec.name)
    claimed = ClaimedFolder(out if out is not None else Path("headgate-runs") / run_id)
    return _launch_in(claimed, run_id, spec, requests)


def relaunch(spec: RunSpec, reopened: ReopenedFolder, requests: StopRequests) -> Launched:
    """As `launch`, for a run that goes on in its folder, which stays as it was if it does not."""
    return _launch_in(reopened, reopened.record.run_id, spec, requests)


def _launch_in(
    claimed: ClaimedFolder | ReopenedFolder, run_id: str, spec: RunSpec, requests: StopRequests
) -> Launched:
    processes: list[subprocess.Popen[bytes]] = []
    begun = False
    try:
        link = FrontLink()
        try:
            engine = _start_engine(spec, run_id, claimed, link)
            processes.append(engine)
            _await_ready(engine, link, requests)
            recorder = start_recorder(claimed.folder, [claimed.folder.fd])
            processes.append(recorder)
            if requests:
                raise StartInterrupted
            link.begin()
            begun = True
        finally:
            if not begun:
                link.close()
    except OSError as error:
        raise UserError(f"the run can't be started: {error.strerror}") from error
    finally:
        if not begun:
            for process in processes:
                _kill_group(process)
            claimed.give_back()
    return Launched(claimed.folder, engine, recorder, link, spec.workflow)


def start_recorder(folder: RunFolder, inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """The process that imports the run's journal as it grows; it outlives whoever starts it."""
    with open(folder.open_log(), "ab") as log:
        return _spawn("replay.runs.recorder", [str(folder.path)], log.fileno(), inherited)


def end_recorder(recorder: subprocess.Popen[bytes]) -> None:
    """What it has not imported stays in the journal."""
    recorder.terminate()
    try:
        recorder.wait(RECORDER_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(recorder)


def _start_engine(
    spec: RunSpec, run_id: str, claimed: ClaimedFolder | ReopenedFolder, link: FrontLink
) -> subprocess.Popen[bytes]:
    folder = claimed.folder
    ends = link.engine_ends
    arguments = [str(folder.path), "--run-id", run_id, "--link", f"{ends[0]},{ends[1]}"]
    arguments += ["--claim", str(folder.fd)]
    for path in claimed.made:
        arguments += ["--made", str(path)]
    if spec.workflow is not None:
        arguments += ["--workflow", str(spec.workflow)]
    if spec.records is not None:
        arguments += ["--records", str(spec.records)]
    if spec.seed is not None:
        arguments += ["--seed", str(spec.seed)]
    if spec.wait_for_quotas:
        arguments.append("--wait")
    if spec.resumes:
        arguments.append("--resume")
    arguments += ["--format", spec.row_format]
    if spec.max_tokens is not None:
        arguments += ["--max-tokens", str(spec.max_tokens)]
    if spec.max_cost is not None:
        arguments += ["--max-cost", repr(spec.max_cost)]
    if spec.retry_dropped:
        arguments.append("--retry-dropped")
    try:
        with open(folder.open_log(), "ab") as log:
            inherited = [*ends, folder.fd]
            return _spawn("console.cli.run.engine_process", arguments, log.fileno(), inherited)
    finally:
        link.close_engine_ends()


def _spawn(
    module: str, arguments: list[str], log: int, inherited: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    # -P: the folder headgate is started in must not shadow its modules.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=inherited,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """The process and its children; it leads a session of its own."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_ready(engine: subprocess.Popen[bytes], link: FrontLink, requests: StopRequests) -> None:
    """Until the engine has said that it is ready. Raises `UserError` where it is not."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not requests:
        died = engine.poll() is not None
        for message in link.receive(WAIT_STEP_SECONDS):
            if isinstance(message, Ready):
                return
            if isinstance(message, Refused):
                raise UserError(message.message)
            if isinstance(message, Broken):
                failure = RuntimeError("the engine failed at its start")
                failure.add_note(message.traceback)
                raise failure
        if died:
            raise UserError(f"the engine died while it started: {_end_of(engine.returncode)}")
        if time.monotonic() > deadline:
            raise UserError(
                f"the engine did not start within {START_TIMEOUT_SECONDS:.0f} s and was stopped; "
                "does the workflow's code wait for something?"
            )
    raise StartInterrupted


def _end_of(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
