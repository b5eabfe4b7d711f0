"""The claim on a run folder: whoever starts a run in it holds an `flock` on the folder itself.

The processes of the start share it, and the kernel releases it when the last of them has ended. So
what an unclaimed folder holds of a start that never began its run can be removed, and the folder be
used. A folder with a `run.json` or a recording tells of a run: it is never one of these.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from engine.events.process_lock import ProcessLock
from engine.events.safe_files import open_folder, open_regular

_JOURNAL = "journal"
_CELLS = "cells"
_FIRST_SEGMENT = "000001.jsonl"
_LOG = "output.log"
_LOCKS = ("run.lock", "recorder.lock")
_RESERVES = ".run."
_HEADER_BYTES = 1 << 20
"""The header of a journal is shorter."""


def claim(folder: int) -> bool | None:
    """Claim a folder until every copy of this descriptor of it is closed.

    Returns:
        False if somebody else has claimed it, None if the file system has no such locks.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def never_began(folder: int) -> bool:
    """Whether a folder holds something, but only what a start leaves whose run never began.

    Raises:
        OSError: It can't be read.
    """
    names = set(os.listdir(folder))
    ours = {name for name in names if name.startswith(_RESERVES)}
    ours |= {_JOURNAL, _CELLS, _LOG, *_LOCKS}
    if not names or names - ours or (_LOG in names and _JOURNAL not in names):
        return False
    if any(ProcessLock.held(Path(lock), dir_fd=folder) for lock in _LOCKS):
        return False
    return _JOURNAL not in names or _is_without_events(folder)


def clear(folder: int) -> None:
    """Remove what `never_began` accepts; what else is there stays. Raises `OSError`."""
    for name in os.listdir(folder):
        if name in (_LOG, *_LOCKS) or name.startswith(_RESERVES):
            os.unlink(name, dir_fd=folder)
    with suppress(FileNotFoundError):
        shutil.rmtree(_CELLS, dir_fd=folder)
    with suppress(FileNotFoundError):  # last: without it, a log may be somebody else's
        shutil.rmtree(_JOURNAL, dir_fd=folder)


def _is_without_events(folder: int) -> bool:
    journal = open_folder(_JOURNAL, dir_fd=folder)
    try:
        names = os.listdir(journal)
        if not names:
            return True
        if names != [_FIRST_SEGMENT]:
            return False
        with open(open_regular(_FIRST_SEGMENT, dir_fd=journal), "rb", buffering=0) as segment:
            start = segment.read(_HEADER_BYTES)
    finally:
        os.close(journal)
    _, _, events = start.partition(b"\n")
    return not events and len(start) < _HEADER_BYTES
