"""Starts the engine and recorder processes of one run, and waits for them."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

from console.cli import exits
from engine.errors import UserError
from engine.events.run_folder import RunFolder, read_record

START_TIMEOUT_SECONDS = 30.0
WAIT_STEP_SECONDS = 0.05

OUTCOME_EXITS = {"success": exits.OK, "failed": exits.RUN_FAILED, "cancelled": exits.INTERRUPTED}


@dataclass(frozen=True)
class RunSpec:
    """What to run; None leaves a value to the workflow."""

    name: str
    workflow: Path | None
    """None runs the embedded demo."""
    records: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Launched:
    folder: RunFolder
    engine: subprocess.Popen[bytes]
    recorder: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ask the engine to drain; asked a second time, it aborts."""
        if self.engine.poll() is None:
            self.engine.send_signal(signal.SIGTERM)

    def wait_for_recorder(self) -> None:
        """Until all that the engine wrote is in the recording."""
        self.engine.wait()
        self.recorder.wait()


def new_run_id(name: str) -> str:
    """`<utc>-<name>-<id>`; also the name of the run's folder, unless the user gives one."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
    return f"{stamp}-{slug[:40]}-{secrets.token_hex(2)}"


def launch(spec: RunSpec, out: Path | None) -> Launched:
    """Create the run folder and start both processes.

    Both are sessions of their own, so that a console that ends, or Ctrl+C in it, does not end the
    run. Raises UserError where the folder can't be used or the engine refuses the workflow.
    """
    run_id = new_run_id(spec.name)
    folder = RunFolder.create(out if out is not None else Path("headgate-runs") / run_id)
    arguments = [str(folder.path), "--run-id", run_id]
    if spec.workflow is not None:
        arguments += ["--workflow", str(spec.workflow)]
    if spec.records is not None:
        arguments += ["--records", str(spec.records)]
    if spec.seed is not None:
        arguments += ["--seed", str(spec.seed)]
    with open(folder.open_log(), "ab") as log:
        engine = _spawn("console.cli.engine_process", arguments, log.fileno())
        _await_start(folder, engine)
    recorder = start_recorder(folder)
    return Launched(folder, engine, recorder)


def start_recorder(folder: RunFolder) -> subprocess.Popen[bytes]:
    """The process that imports the run's journal as it grows; it outlives whoever starts it."""
    with open(folder.open_log(), "ab") as log:
        return _spawn("replay.recording.recorder", [str(folder.path)], log.fileno())


def exit_code_of(folder: RunFolder) -> int:
    """The documented exit code for how the run in `folder` ended."""
    record = read_record(folder)
    if record is None or record.outcome is None:
        return exits.RUN_FAILED
    if record.outcome == "success" and record.rows_dropped:
        return exits.FOUND
    return OUTCOME_EXITS.get(record.outcome, exits.RUN_FAILED)


def _spawn(module: str, arguments: list[str], log: int) -> subprocess.Popen[bytes]:
    # -P: the folder headgate is started in must not shadow its modules.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def _await_start(folder: RunFolder, engine: subprocess.Popen[bytes]) -> None:
    """Until the engine has written its `run.json`, or has said why it can't."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while read_record(folder) is None:
        if engine.poll() is not None:
            raise UserError(_last_words(folder))
        if time.monotonic() > deadline:
            engine.terminate()
            raise UserError(
                f"the engine did not start within {START_TIMEOUT_SECONDS:.0f} s; "
                f"see {folder.output_log}"
            )
        time.sleep(WAIT_STEP_SECONDS)


def _last_words(folder: RunFolder) -> str:
    lines = folder.output_log.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else f"the engine ended at once; see {folder.output_log}"
    return click.unstyle(last).removeprefix("headgate: ")
