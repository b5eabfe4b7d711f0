"""The recorder process: `python -m replay.recording.recorder RUN_DIR`.

Tails the journal of one run into its recording until the producer has ended or is lost, then says
so in `run.json` and removes the journal. However it dies, the next one goes on where it left off.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec

from engine.events import RunInfo
from engine.events.run_folder import (
    ProducerLock,
    RunFolder,
    RunRecord,
    installed_versions,
    read_record,
    write_record,
)
from replay.recording.ingest import Ingest
from replay.recording.reader import open_recording
from replay.sources.base import SourceError
from replay.sources.foreign_journal import ForeignJournalFeed, open_journal
from replay.sources.journal import JournalFeed

BATCH_EVENTS = 1_000
BATCH_BYTES = 400_000
"""About `BATCH_EVENTS` lines."""
BATCH_SECONDS = 0.25
LOOK_SECONDS = 0.05
CHECKPOINT_IDLE_SECONDS = 2.0
START_SECONDS = 60.0
"""A recorder waits so long for a producer that never shows up."""
RETRIES_AFTER_LOSS = 5

_IMPORTED = ".journal-imported"
_DUCKDB_HEADER_BYTES = 3 * 4096


def main(arguments: list[str]) -> int:
    """Exit codes: 0 all imported, or nothing to do; 1 stopped before that; 2 misuse; 4 damage."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        _say("usage: python -m replay.recording.recorder RUN_DIR")
        return 2
    stopped: list[int] = []
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever started this may wait for signals
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    folder = RunFolder(Path(arguments[0]))
    try:
        lock = ProducerLock(folder.recorder_lock)
        if not lock.try_acquire():
            return 0
        with lock:
            return 0 if _record(folder, lambda: bool(stopped)) else 1
    except SourceError as error:
        _say(str(error))
        return error.exit_code
    except OSError as error:
        _say(f"{error}; the next one to open {folder.path} goes on from here")
        return 4


def finish_import(folder: RunFolder) -> None:
    """Complete what a dead recorder or producer left behind; returns at once if it is complete.

    For whoever opens the folder next, in process. Does nothing while the producer lives or another
    recorder is at work. Raises `SourceError` if the import can't be completed.
    """
    record = read_record(folder)
    done = record is not None and record.state in ("complete", "lost")
    if (done and not folder.journal.exists()) or folder.producer_lives:
        return
    lock = ProducerLock(folder.recorder_lock)
    try:
        if lock.try_acquire():
            with lock:
                _record(folder, lambda: False, two_processes=True)
    except OSError as error:
        raise SourceError(
            f"The import of {folder.path} can't be completed: {error.strerror}.", exit_code=4
        ) from error


def _record(folder: RunFolder, stopped: Callable[[], bool], two_processes: bool = False) -> bool:
    """Import until the end, surviving a recording that fails for a time. False if stopped."""
    shutil.rmtree(folder.path / _IMPORTED, ignore_errors=True)
    record = read_record(folder)
    if record is not None and record.state in ("complete", "lost"):
        _remove_journal(folder)
        return True
    failures = 0
    while not stopped():
        try:
            # Whatever another process failed of, this one can do alone, or tell.
            return _import(folder, stopped, two_processes and not failures)
        except duckdb.Error as error:
            # A full disk closes the database until it is opened again; the journal keeps all.
            failures = 0 if folder.producer_lives else failures + 1
            problem = (str(error).splitlines() or [""])[0]
            if failures >= RETRIES_AFTER_LOSS:
                raise SourceError(
                    f"{folder.recording} can't be written: {problem} The journal is kept; "
                    "open the folder again when that is mended.",
                    exit_code=4,
                ) from error
            _say(f"the recording failed, trying again: {problem}")
            _pause(1.0, stopped)
    return False


def _import(folder: RunFolder, stopped: Callable[[], bool], two_processes: bool) -> bool:
    """One connection's work. True once the whole journal is in the recording."""
    _remove_stillborn(folder.recording)
    feed = open_journal(folder, patient=True)
    ingest = Ingest(feed, folder.recording, two_processes=two_processes)
    try:
        began = idle_since = time.monotonic()
        checkpointed = True
        while not stopped():
            taken = ingest.step()
            now = time.monotonic()
            if ingest.finished or feed.liveness in ("ended", "lost"):
                break
            if taken:
                idle_since, checkpointed = now, False
            elif feed.liveness == "waiting" and not folder.producer_lives:
                if now - began > START_SECONDS or not folder.journal.is_dir():
                    return False  # the second: the run was called off before it began
            elif not checkpointed and now - idle_since > CHECKPOINT_IDLE_SECONDS:
                ingest.checkpoint()
                checkpointed = True
            if taken < BATCH_EVENTS:
                _await_batch(folder, feed, stopped)
        else:
            ingest.keep_fold()
            return False
        ingest.finish()
    finally:
        ingest.close()
        feed.close()
    return _conclude(folder, stopped)


def _remove_stillborn(recording: Path) -> None:
    """A full disk can leave a file in which DuckDB has not even written all of its headers."""
    try:
        with recording.open("rb") as file:
            head = file.read(_DUCKDB_HEADER_BYTES)
    except FileNotFoundError:
        return
    if len(head) < _DUCKDB_HEADER_BYTES and head[8:12] in (b"DUCK", b""):
        recording.unlink()


def _await_batch(
    folder: RunFolder, feed: JournalFeed | ForeignJournalFeed, stopped: Callable[[], bool]
) -> None:
    """Until a batch is worth a commit: enough bytes, enough time, or the producer is gone."""
    until = time.monotonic() + BATCH_SECONDS
    while time.monotonic() < until and not stopped():
        time.sleep(LOOK_SECONDS)
        if feed.pending_bytes() >= BATCH_BYTES or not folder.producer_lives:
            return


def _conclude(folder: RunFolder, stopped: Callable[[], bool]) -> bool:
    """Say in `run.json` that all is imported, then remove the journal.

    Waits for the producer to leave: until then `run.json` is its own.
    """
    while folder.producer_lives:
        if stopped():
            return False
        time.sleep(LOOK_SECONDS)
    reader = open_recording(folder.recording)
    try:
        status, bounds, run = reader.status(), reader.bounds(), reader.run()
        progress = reader.state_at(bounds.last_ordinal).progress
    finally:
        reader.close()
    record = read_record(folder) or _record_of(run)
    wall_end = record.wall_end
    if wall_end is None and run.wall_start is not None:
        wall_end = run.wall_start + (bounds.t1 - run.monotonic_start)
    write_record(
        folder,
        msgspec.structs.replace(
            record,
            state="lost" if status.lost else "complete",
            outcome=status.outcome,
            message=record.message
            or ("The producer died before the end of the run." if status.lost else ""),
            wall_end=wall_end,
            versions=installed_versions() | record.versions,
            rows_done=progress.rows_done,
            rows_dropped=progress.rows_dropped,
        ),
    )
    _remove_journal(folder)
    return True


def _record_of(run: RunInfo) -> RunRecord:
    """For a producer that died before it wrote its own."""
    return RunRecord(
        run.run_id,
        run.name,
        "running",
        wall_start=run.wall_start,
        producer=run.producer,
        records=run.records,
    )


def _remove_journal(folder: RunFolder) -> None:
    """At one instant for whoever reads it."""
    done = folder.path / _IMPORTED
    try:
        os.rename(folder.journal, done)
    except FileNotFoundError:
        return
    shutil.rmtree(done, ignore_errors=True)


def _pause(seconds: float, stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stopped():
        time.sleep(LOOK_SECONDS)


def _say(sentence: str) -> None:
    sys.stderr.write(f"recorder: {sentence}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
