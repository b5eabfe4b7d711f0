"""`record_run`: runs a plan in a run folder, with a journal, from its beginning or after an
interruption."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.capacity_plan import AsyncCapacityPlan
from engine.clock import Clock, LoopClock
from engine.errors import UserError
from engine.events import EventSink, EventStream, JournalEnd, RunInfo
from engine.events.continuation import Continuation, open_tail
from engine.events.journal import JournalWriter
from engine.events.process_lock import ProcessLock
from engine.events.run_folder import RUN_JSON, RunFolder, read_record, write_record
from engine.events.run_index import register
from engine.events.run_record import RunRecord, installed_versions
from engine.rows.dataset import (
    Dataset,
    DatasetColumn,
    Manifest,
    RowFormat,
    write_dropped,
    write_manifest,
    write_rows,
)
from engine.rows.run_store import RunStore, dropped_rows
from engine.run.execute import GoingOn, RunControl, execute_run
from engine.run.fingerprint import fingerprint_of
from engine.run.plan import RunPlan
from engine.run.reserve import Reserve
from engine.scheduling.plan import RunResult

_LAST_LINES_BYTES = 128 * 1024
"""Room for the last lines of a journal: those that a full disk kept waiting, and the end line."""
_LAST_RECORD_BYTES = 64 * 1024
"""Room for the last `run.json`."""


async def journal_run(
    plan: RunPlan,
    journal: JournalWriter,
    run_id: str,
    clock: Clock,
    *,
    dataset: Path | None,
    control: RunControl,
    inline: bool = False,
    before_end: Callable[[], object] = lambda: None,
    store: RunStore | None = None,
    going_on: GoingOn | None = None,
    sinks: Sequence[EventSink] = (),
) -> RunResult:
    """`execute_run` with a journal that says how the run ended; an exception is a failed run.

    Args:
        plan: What is run.
        journal: Takes the events, and is closed at the end.
        run_id: Id of the run.
        clock: Shows the time of the running loop.
        dataset: Folder for the Parquet files; None to discard the rows.
        control: Stops the run.
        inline: Write files on the loop instead of in a thread.
        before_end: Called before the last lines are written.
        store: As for `execute_run`.
        going_on: As for `execute_run`.
        sinks: Take the events besides the journal.
    """
    numbers = None if going_on is None else going_on.continuation
    stream = EventStream(
        clock,
        run_id,
        [journal, *sinks],
        asyncio.get_running_loop().call_soon,
        scheduler_sequence=0 if numbers is None else numbers.scheduler_sequence,
        request_sequence=0 if numbers is None else numbers.request_sequence,
    )
    result = await _run_to_outcome(
        execute_run(
            plan,
            stream,
            clock,
            dataset=dataset,
            control=control,
            inline=inline,
            store=store,
            going_on=going_on,
        )
    )
    stream.flush()
    before_end()
    journal.close(
        JournalEnd(
            outcome=result.outcome,
            captured_at_monotonic=clock.monotonic(),
            scheduler_sequence=stream.scheduler_sequence,
            request_sequence=stream.request_sequence,
            message=result.message,
        )
    )
    return result


async def record_run(
    plan: RunPlan,
    folder: RunFolder,
    run_id: str,
    control: RunControl,
    may_begin: Callable[[], bool],
    going_on: GoingOn | None = None,
    row_format: RowFormat = "parquet",
    sinks_for: Callable[[RunInfo], Sequence[EventSink]] = lambda _run: (),
) -> RunResult | None:
    """Run a plan with a journal in `folder`, and write to `run.json` how it ended.

    Args:
        plan: What is run.
        folder: A folder that was created for this run.
        run_id: Id of the run.
        control: Stops the run.
        may_begin: Called once all that can fail at a start has been done; may block. If it returns
            False, nothing is run.
        going_on: Where the run was interrupted that goes on now; None for one that begins.
        row_format: Write all rows into one file of this format as well.
        sinks_for: Gives further sinks of the events, by a description whose start is now: of a run
            that goes on, only that joins the times of its events with the wall clock.

    Returns:
        The result; None if the run did not begin.

    Raises:
        UserError: The run can't start.
    """
    clock = LoopClock(asyncio.get_running_loop())
    before = None if going_on is None else going_on.continuation
    with _producer_lock(folder):
        if before is None:
            info = plan.describe(run_id, clock.wall(), clock.monotonic())
        else:
            info = plan.describe(run_id, before.run.wall_start, before.run.monotonic_start)
        sinks = sinks_for(
            msgspec.structs.replace(
                info, wall_start=clock.wall(), monotonic_start=clock.monotonic()
            )
        )
        record = _record(info, plan.capacity)
        try:
            files = _open_files(folder, info, control, before)
            if before is None:
                files.store.write_workflow(_workflow(plan))
                write_record(folder, record)
        except OSError as error:
            raise UserError(f"can't write into {folder.path}: {error.strerror}") from None
        if not may_begin():
            return None
        if going_on is not None:
            record = _begin_again(plan, folder, record, files.store, going_on)
        register(folder, record)
        result = await journal_run(
            plan,
            files.journal,
            run_id,
            clock,
            dataset=folder.dataset,
            control=control,
            before_end=files.last_lines.free,
            store=files.store,
            going_on=going_on,
            sinks=sinks,
        )
        _finish_dataset(plan, folder, run_id, files.store, result, row_format, going_on)
        files.store.close()
        _write_end(folder, files.last_record, _ended(record, result, clock))
    return result


class _RunFiles(NamedTuple):
    """What a run writes besides its rows, and the room kept for the last of it on a full disk."""

    journal: JournalWriter
    store: RunStore
    last_lines: Reserve
    last_record: Reserve


def _open_files(
    folder: RunFolder, info: RunInfo, control: RunControl, before: Continuation | None
) -> _RunFiles:
    """Raises `OSError`."""
    loop = asyncio.get_running_loop()
    last_lines = Reserve(folder.fd, ".run.lines", _LAST_LINES_BYTES)
    last_record = Reserve(folder.fd, ".run.json", _LAST_RECORD_BYTES)
    journal = JournalWriter(
        folder,
        info,
        loop=loop,
        request_keyframe=control.emit_keyframe,
        segments=0 if before is None else before.segments,
        events=0 if before is None else before.events,
    )
    return _RunFiles(journal, RunStore(folder.fd, loop), last_lines, last_record)


def _ended(record: RunRecord, result: RunResult, clock: Clock) -> RunRecord:
    return msgspec.structs.replace(
        record,
        state="ended",
        outcome=result.outcome,
        message=result.message,
        wall_end=clock.wall(),
        rows_done=result.rows_done,
        rows_dropped=result.rows_dropped,
        capacity_plan=result.capacity or record.capacity_plan,
    )


def _write_end(folder: RunFolder, reserve: Reserve, ended: RunRecord) -> None:
    try:
        write_record(folder, ended)
    except OSError:  # the disk is full
        with contextlib.suppress(OSError):
            reserve.become(RUN_JSON, msgspec.json.encode(ended))
    reserve.free()


def _finish_dataset(
    plan: RunPlan,
    folder: RunFolder,
    run_id: str,
    store: RunStore,
    result: RunResult,
    row_format: RowFormat,
    going_on: GoingOn | None,
) -> None:
    """What is said of the dataset as a whole. The rows themselves are written by now."""
    path = folder.dataset
    if not path.is_dir():
        return
    try:
        write_dropped(path, dropped_rows(store))
        dataset = Dataset(path)
        files = tuple(dataset.files())
        dataset.close()
        manifest = Manifest(
            run_id,
            plan.workflow.name,
            plan.workflow.seed,
            plan.workflow.records,
            tuple(
                DatasetColumn(column.name, plan.workflow.column(column.name).type, column.task_type)
                for column in plan.columns
            ),
            result.outcome,
            result.outcome == "success",
            result.rows_done,
            result.rows_dropped,
            0 if going_on is None else going_on.resumes,
            files,
        )
        write_manifest(path, manifest)
        write_rows(path, row_format)
    except (OSError, UserError) as error:
        print(f"the dataset has no whole manifest: {error}", file=sys.stderr)  # noqa: T201


def _begin_again(
    plan: RunPlan, folder: RunFolder, record: RunRecord, store: RunStore, going_on: GoingOn
) -> RunRecord:
    """From here on the end that the journal may have is no end any more. Returns the new record."""
    earlier = read_record(folder)
    paused = 0.0 if earlier is None else earlier.paused_seconds
    record = msgspec.structs.replace(
        record,
        resumes=going_on.resumes,
        paused_seconds=paused + (going_on.paused_seconds or 0.0),
    )
    with contextlib.suppress(OSError):  # the disk is full, and may yet have room
        open_tail(folder, going_on.continuation.segments)
        write_record(folder, record)
        store.write_workflow(_workflow(plan))
    return record


def _workflow(plan: RunPlan) -> bytes:
    return msgspec.json.encode(fingerprint_of(plan.workflow, plan.folder))


async def _run_to_outcome(run: Coroutine[Any, Any, RunResult]) -> RunResult:
    """The result of a run. An unexpected exception is a failed run, so that the journal ends."""
    try:
        return await run
    except UserError as error:
        return RunResult("failed", 0, 0, str(error))
    except Exception as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        return RunResult("failed", 0, 0, f"a bug in headgate: {type(error).__name__}")


def _producer_lock(folder: RunFolder) -> ProcessLock:
    try:
        return folder.producer_lock()
    except OSError as error:
        raise UserError(f"can't write into {folder.path}: {error.strerror}") from None


def _record(info: RunInfo, capacity: AsyncCapacityPlan) -> RunRecord:
    return RunRecord(
        run_id=info.run_id,
        name=info.name,
        state="running",
        wall_start=info.wall_start,
        versions=installed_versions(),
        producer=info.producer,
        records=info.records,
        pid=os.getpid(),
        capacity_plan=capacity,
    )
