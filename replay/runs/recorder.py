"""The recorder process: `python -m replay.runs.recorder RUN_DIR`.

Tails the journal of one run into its recording until the producer has ended or is lost, then says
so in `run.json` and removes the journal. However it dies, the next one goes on where it left off.
Whatever the folder is renamed to, it goes on there.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb
import msgspec

from engine.events import RunInfo
from engine.events.run_folder import (
    JOURNAL,
    RECORDER_LOCK,
    RECORDING,
    RunFolder,
    read_record,
    write_record,
)
from engine.events.run_record import RunRecord, installed_versions
from engine.events.safe_files import check_regular, open_regular
from replay.recording.ingest import Ingest
from replay.recording.live_server import RecordingServer
from replay.recording.reader import open_recording
from replay.sources.base import SourceError
from replay.sources.feed import Feed, open_journal
from replay.state.wall_clock import WallClock

BATCH_EVENTS = 1_000
WATCHED_STEP_EVENTS = 2_000
"""At once while somebody watches, who waits for an answer meanwhile."""
BATCH_BYTES = 400_000
"""About `BATCH_EVENTS` lines."""
BATCH_SECONDS = 0.25
REFRESH_SECONDS = 0.05
CHECKPOINT_IDLE_SECONDS = 2.0
START_SECONDS = 60.0
"""A recorder waits so long for a producer that never shows up, or of which nothing can be told."""
RETRIES_AFTER_LOSS = 5
_RENAMES_IN_A_ROW = 5
"""After so many failed checks of its path in a row, a folder counts as removed."""

_IMPORTED = ".journal-imported"
_WAL_MISMATCH = "replaying WAL file"
_DUCKDB_HEADER_BYTES = 3 * 4096


def main(arguments: list[str]) -> int:
    """Exit codes: 0 all imported, or nothing to do; 1 stopped before that; 2 misuse; 4 damage."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        _say("usage: python -m replay.runs.recorder RUN_DIR")
        return 2
    stopped: list[int] = []
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whoever started this may wait for signals
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    os.umask(0o077)  # what DuckDB makes is for its owner alone
    folder = RunFolder(Path(arguments[0]))
    try:
        lock = folder.importer_lock()
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

    For whoever opens the folder next, in process. Does nothing unless the producer is proved dead,
    in the folder of another user, or while another recorder is at work: of a copy nothing can be
    concluded, and its journal may be all there is. Raises `SourceError` if the import can't be
    completed.
    """
    record = read_record(folder)
    done = record is not None and record.is_imported
    if (done and not folder.has(JOURNAL)) or folder.producer != "dead" or not folder.is_ours:
        return
    try:
        lock = folder.importer_lock()
        if lock.try_acquire():
            with lock:
                _record(folder, lambda: False, two_processes=True)
    except OSError as error:
        raise SourceError(
            f"The import of {folder.path} can't be completed: {error.strerror}.", exit_code=4
        ) from error


def _record(folder: RunFolder, stopped: Callable[[], bool], two_processes: bool = False) -> bool:
    """Import until the end, surviving a recording that fails for a time. False if stopped."""
    shutil.rmtree(_IMPORTED, ignore_errors=True, dir_fd=folder.fd)
    record = read_record(folder)
    concluded = record is not None and record.is_imported
    if concluded and _is_whole(folder):
        _remove_journal(folder)
        return True
    failures = 0
    while not stopped():
        try:
            # Whatever another process failed of, this one can do alone, or tell.
            imported = _import(folder, stopped, two_processes and not failures)
            if imported is not None:
                return imported
        except duckdb.Error as error:
            # A full disk closes the database until it is opened again; the journal keeps all.
            failures = failures + 1 if folder.producer == "dead" else 0
            problem = (str(error).splitlines() or [""])[0]
            if failures <= 1 and _WAL_MISMATCH in problem and _starts_anew(folder):
                continue
            if failures >= RETRIES_AFTER_LOSS:
                raise SourceError(
                    f"{folder.recording} can't be written: {problem} The journal is kept; "
                    "open the folder again when that is mended.",
                    exit_code=4,
                ) from error
            _say(f"the recording failed, trying again: {problem}")
            _pause(1.0, stopped)
    return False


def _import(folder: RunFolder, stopped: Callable[[], bool], two_processes: bool) -> bool | None:
    """One connection's work. True once the whole journal is in the recording, None where the folder
    was renamed meanwhile: DuckDB must open it under its new name."""
    _remove_stillborn(folder)
    new, called_off = not folder.has(RECORDING), False
    feed = open_journal(folder, patient=True)
    recording = _recording_to_write(folder)
    ingest = Ingest(feed, recording, two_processes=two_processes)
    # Where the order of events is settled late, a reader can't tell which of them are recorded.
    server = RecordingServer(ingest, folder) if feed.seekable and not two_processes else None
    try:
        _restrict(folder)
        began = idle_since = time.monotonic()
        checkpointed = True
        while not stopped():
            if not folder.is_at(recording.parent):
                return None
            if server is not None and server.has_readers:
                taken = ingest.step(WATCHED_STEP_EVENTS, server.serve_queries)
            else:
                taken = ingest.step()
            if server is not None:
                server.serve(0)
            now = time.monotonic()
            if ingest.finished or feed.liveness in ("ended", "lost"):
                break
            if taken:
                idle_since, checkpointed = now, False
            elif feed.liveness in ("waiting", "unknown") and not folder.producer_lives:
                if not folder.has(JOURNAL):  # the run was called off before it began
                    called_off = True
                    return False
                if now - max(began, idle_since) > START_SECONDS:
                    _say(" ".join(feed.notes) or "no producer came")
                    return False
            elif not checkpointed and now - idle_since > CHECKPOINT_IDLE_SECONDS:
                ingest.checkpoint()
                checkpointed = True
            if taken < BATCH_EVENTS:
                _await_batch(folder, feed, stopped, server)
        else:
            if server is not None:
                server.close()
            ingest.keep_fold()
            ingest.checkpoint()
            return False
        if server is not None:
            server.close()
        ingest.finish()
        if not folder.is_at(recording.parent):
            return None  # what DuckDB put into the file last may have left its log behind
    finally:
        if server is not None:
            server.close()
        ingest.close()
        feed.close()
        if called_off and new and feed.liveness == "waiting":
            _leave_nothing(folder)
    del ingest, server  # the fold of a large run: what follows reads the recording
    try:
        return _conclude(folder, feed.has_end, stopped)
    except SourceError:
        if folder.is_at(recording.parent):
            raise
        return None


def _recording_to_write(folder: RunFolder) -> Path:
    """Where DuckDB opens the recording: it goes by path, also for the log it makes later.

    Raises `OSError` where something else stands there than a file of this folder.
    """
    recording = folder.path.absolute() / RECORDING
    for _ in range(_RENAMES_IN_A_ROW):
        if folder.is_at(recording.parent):
            break
        recording = folder.path.absolute() / RECORDING
    else:
        raise FileNotFoundError(
            errno.ENOENT, "the folder is not there any more", str(recording.parent)
        )
    for name in (RECORDING, f"{RECORDING}.wal"):
        with suppress(FileNotFoundError):
            check_regular(name, dir_fd=folder.fd, sole_name=True)
    return recording


def _leave_nothing(folder: RunFolder) -> None:
    """Remove what this recorder made for a run of which it has read not even the header."""
    for name in (RECORDING, f"{RECORDING}.wal", RECORDER_LOCK):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fd)


def _restrict(folder: RunFolder) -> None:
    """The recording is for its owner alone; opening it here would free DuckDB's lock of it."""
    with suppress(OSError):
        os.chmod(RECORDING, 0o600, dir_fd=folder.fd)


def _starts_anew(folder: RunFolder) -> bool:
    """Put away a recording whose write-ahead log is not its own: its folder was renamed just while
    DuckDB put the log into it. False unless the whole journal is still there."""
    if folder.segment_numbers()[:1] != [1]:
        return False
    for name in (RECORDING, f"{RECORDING}.wal"):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fd)
    _say("the folder was renamed while its recording was written: it is imported anew")
    return True


def _is_whole(folder: RunFolder) -> bool:
    """Has the recording everything, by its own word?"""
    try:
        reader = open_recording(folder.recording)
    except SourceError:
        return False
    try:
        return reader.status().complete
    finally:
        reader.close()


def _remove_stillborn(folder: RunFolder) -> None:
    """A full disk can leave a file in which DuckDB has not even written all of its headers."""
    try:
        with open(open_regular(RECORDING, dir_fd=folder.fd), "rb") as file:
            head = file.read(_DUCKDB_HEADER_BYTES)
    except FileNotFoundError:
        return
    if len(head) < _DUCKDB_HEADER_BYTES and head[8:12] in (b"DUCK", b""):
        os.unlink(RECORDING, dir_fd=folder.fd)


def _await_batch(
    folder: RunFolder, feed: Feed, stopped: Callable[[], bool], server: RecordingServer | None
) -> None:
    """Until a batch is worth a commit: enough bytes, enough time, or the producer is gone."""
    wait = time.sleep if server is None else server.serve
    until = time.monotonic() + BATCH_SECONDS
    while time.monotonic() < until and not stopped():
        wait(REFRESH_SECONDS)
        if feed.pending_bytes() >= BATCH_BYTES or not folder.producer_lives:
            return


def _conclude(folder: RunFolder, has_end: bool, stopped: Callable[[], bool]) -> bool:
    """Say in `run.json` that all is imported, then remove the journal.

    Waits for the producer to leave: until then `run.json` is its own. That it has left is proved
    by its lock, or its end line stands in the journal, which is the last it writes there.
    """
    while folder.producer_lives:
        if stopped():
            return False
        time.sleep(REFRESH_SECONDS)
    if not has_end and folder.producer != "dead":
        _say("whether the run goes on can't be told, so its journal stays")
        return False
    reader = open_recording(folder.recording)
    try:
        status, bounds, run = reader.status(), reader.bounds(), reader.run()
        state = reader.state_at(bounds.last_ordinal)
    finally:
        reader.close()
    record = read_record(folder) or _record_of(run)
    wall_end = record.wall_end
    if wall_end is None:
        wall_end = WallClock(run, state.resumptions).at(bounds.t1)
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
            rows_done=state.progress.rows_done,
            rows_dropped=state.progress.rows_dropped,
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
    fd = folder.fd
    try:
        os.rename(JOURNAL, _IMPORTED, src_dir_fd=fd, dst_dir_fd=fd)
    except FileNotFoundError:
        return
    shutil.rmtree(_IMPORTED, ignore_errors=True, dir_fd=fd)


def _pause(seconds: float, stopped: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not stopped():
        time.sleep(REFRESH_SECONDS)


def _say(sentence: str) -> None:
    sys.stderr.write(f"recorder: {sentence}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
