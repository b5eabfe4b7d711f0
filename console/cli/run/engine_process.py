"""The engine's process entry: one run, its signals, its exit code. Loads no terminal code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from console.cli import exit_codes
from console.cli.otel.settings import ExportSettings, read_settings
from console.cli.run.claimed_folder import empty, remove_empty
from console.cli.run.engine_link import Broken, Ended, EngineLink, Note, Reacts, Refused
from console.cli.run.reopened_folder import undo
from engine.clock import ShiftedLoop
from engine.errors import UserError
from engine.events import EventSink, RunInfo
from engine.events.continuation import read_continuation
from engine.events.run_folder import RunFolder, read_record
from engine.rows.dataset import RowFormat
from engine.run.collector import collect_seldom
from engine.run.execute import GoingOn, RunControl
from engine.run.plan import RunPlan, plan_run
from engine.run.record import record_run
from engine.scheduling.stopping import StopReport
from engine.workflow.demo import demo_workflow
from engine.workflow.load import LoadedWorkflow, load_workflow

if TYPE_CHECKING:
    from console.cli.otel.sdk import TelemetryExport

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: list[str]) -> int:
    """Runs the workflow that the arguments name. Returns the exit code of `headgate run`."""
    parser = argparse.ArgumentParser(prog="headgate engine")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--link", required=True, help="descriptors to read from and write to")
    parser.add_argument("--claim", type=int, required=True, help="descriptor of the folder")
    parser.add_argument("--made", type=Path, action="append", default=[])
    parser.add_argument("--workflow", type=Path)
    parser.add_argument("--records", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--retry-dropped", action="store_true")
    parser.add_argument("--format", default="parquet")
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--max-cost", type=float)
    options = parser.parse_args(arguments)
    read, _, write = options.link.partition(",")
    link = EngineLink(int(read), int(write))
    folder = RunFolder(options.folder)
    os.set_inheritable(options.claim, False)  # it stays claimed until this process ends

    segments = len(folder.segment_numbers())

    def abandoned() -> None:
        if options.resume:
            undo(folder, segments)
        else:
            empty(folder)
            remove_empty(options.made)

    try:
        with link.preparing(abandoned):
            loaded = load(options.workflow, options.records, options.seed)
            loaded = loaded.limited(options.max_tokens, options.max_cost)
            plan = plan_run(loaded.waiting_for_quotas() if options.wait else loaded)
            settings = read_settings(os.environ)
            going_on = _going_on(folder, options.retry_dropped) if options.resume else None
        collect_seldom()
        # Nobody closes this loop: that would wait for threads of tasks that were aborted.
        if going_on is None:
            loop = asyncio.new_event_loop()
        else:
            loop = ShiftedLoop(going_on.continuation.restart_time)
        coroutine = run(
            plan, folder, options.run_id, link, abandoned, settings, going_on, options.format
        )
        return loop.run_until_complete(coroutine)
    except UserError as error:
        link.say(Refused(str(error)))
        return exit_codes.MISUSE
    except Exception:
        link.say(Broken(traceback.format_exc()))
        return exit_codes.BUG


def _going_on(folder: RunFolder, retry_dropped: bool) -> GoingOn:
    """Where the run in the folder was interrupted. Raises `UserError`."""
    record = read_record(folder)
    continuation = read_continuation(folder)
    stopped_at = None if record is None else record.wall_end
    if stopped_at is None:
        with contextlib.suppress(OSError):
            stopped_at = folder.segment(continuation.segments).stat().st_mtime
    return GoingOn(
        continuation,
        1 + (0 if record is None else record.resumes),
        None if stopped_at is None else max(0.0, time.time() - stopped_at),
        retry_dropped,
    )


def load(workflow: Path | None, records: int | None, seed: int | None) -> LoadedWorkflow:
    """The named workflow, or the embedded demo, with what the command line overrides."""
    if workflow is None:
        loaded = LoadedWorkflow(demo_workflow(), path=None, functions={})
    else:
        loaded = load_workflow(workflow)
    return loaded.override(records=records, seed=seed)


async def run(
    plan: RunPlan,
    folder: RunFolder,
    run_id: str,
    link: EngineLink,
    abandoned: Callable[[], object],
    settings: ExportSettings,
    going_on: GoingOn | None = None,
    row_format: RowFormat = "parquet",
) -> int:
    """Runs the plan until it ends or is stopped. Returns the exit code of `headgate run`."""
    control = RunControl()
    loop = asyncio.get_running_loop()
    exports: list[TelemetryExport] = []

    def telemetry(info: RunInfo) -> list[EventSink]:
        if settings.enabled:
            from console.cli.otel.sdk import TelemetryExport

            exports.append(TelemetryExport(settings, info))
        return [export.sink for export in exports]

    def may_begin() -> bool:
        begins = link.await_begin()
        if begins:
            link.answer_questions(loop, lambda: reaction(control.outstanding()))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, control.stop)
        return begins

    result = await record_run(
        plan, folder, run_id, control, may_begin, going_on, row_format, telemetry
    )
    if result is None:
        abandoned()
        return exit_codes.RUN_FAILED
    link.say(Ended(result.outcome, result.message, result.rows_done, result.rows_dropped))
    for export in exports:
        sentence = export.close().sentence
        if sentence:
            sys.stderr.write(f"{sentence}\n")
            link.say(Note(sentence))
    if result.outcome == "success":
        return exit_codes.FINDINGS if result.rows_dropped else exit_codes.OK
    if result.outcome == "stopped":
        return exit_codes.FINDINGS
    return exit_codes.INTERRUPTED if result.outcome == "cancelled" else exit_codes.RUN_FAILED


def reaction(report: StopReport | None) -> Reacts:
    """What the front is told of a run that stops."""
    if report is None:
        return Reacts()
    oldest = tuple(
        f"{task.task_id} ({f'{task.resource}, ' if task.resource else ''}{task.seconds:.0f} s)"
        for task in report.tasks
    )
    return Reacts(report.total, oldest, report.seconds_left)


class LogWriter(io.FileIO):
    """The output log: what a full disk does not take of it is lost, and fails nobody's `print`."""

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return super().write(view) or 0
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return view.nbytes


def _keep_printing() -> None:
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        writer = LogWriter(descriptor, "w", closefd=False)
        stream = io.TextIOWrapper(writer, "utf-8", "backslashreplace", write_through=True)
        setattr(sys, name, stream)


if __name__ == "__main__":
    _keep_printing()
    code = main(sys.argv[1:])
    os._exit(code)  # a thread of an aborted task may go on for ever
