"""`restore_journal`: the journal of a run from its recording, so that the run can go on."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from engine.events.run_folder import JOURNAL, RECORDING, RunFolder, segment_name
from engine.events.safe_files import open_folder, open_regular
from replay.export.lines import write_lines
from replay.recording.reader import open_recording
from replay.sources.base import SourceError

_UNFINISHED = ".journal-restored"


def restore_journal(folder: RunFolder) -> None:
    """Make sure that a folder holds the whole journal of its run, and no recording beside it that
    is finished: a recorder then reads the journal from its beginning. Hold the importer's lock.

    Raises:
        SourceError: Neither a journal nor a recording is whole.
        OSError: The journal can't be written.
    """
    if folder.segment_numbers()[:1] != [1]:
        _write_journal(folder)
    elif not _is_finished(folder):
        return
    for name in (RECORDING, f"{RECORDING}.wal"):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder.fd)


def _is_finished(folder: RunFolder) -> bool:
    """Whether the recording says of itself that nothing follows; so it counts if it can't be
    read, since the journal has all of it."""
    if not folder.has(RECORDING):
        return False
    try:
        reader = open_recording(folder.recording)
    except SourceError:
        return True
    try:
        return reader.status().complete
    finally:
        reader.close()


def _write_journal(folder: RunFolder) -> None:
    """The journal appears at one instant."""
    if not folder.has(RECORDING):
        raise SourceError(f"{folder.path} holds neither a journal nor a recording.")
    fd = folder.fd
    shutil.rmtree(_UNFINISHED, ignore_errors=True, dir_fd=fd)
    shutil.rmtree(JOURNAL, ignore_errors=True, dir_fd=fd)
    os.mkdir(_UNFINISHED, 0o700, dir_fd=fd)
    reader = open_recording(folder.recording)
    journal = open_folder(_UNFINISHED, dir_fd=fd)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(open_regular(segment_name(1), flags, dir_fd=journal), "wb") as file:
            write_lines(reader, file)
            file.flush()
            os.fsync(file.fileno())
    finally:
        os.close(journal)
        reader.close()
    os.rename(_UNFINISHED, JOURNAL, src_dir_fd=fd, dst_dir_fd=fd)
