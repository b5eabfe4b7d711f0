"""Stops a run that another process owns."""

from __future__ import annotations

import os
import signal
import stat
from contextlib import closing
from pathlib import Path

from engine.events import UserError
from engine.events.run_folder import RUN_LOCK, RunFolder, read_record
from engine.events.run_record import RunRecord

OWN_PRODUCER = "headgate"


def stop_run(path: Path) -> str:
    """Ask the producer of the run in this folder to stop, as Ctrl+C where it was started would.

    The first request lets the tasks under way finish, a second one aborts them. The process is
    identified by the lock that it holds, not by its id alone, which another process may have by
    now.

    Returns:
        The name of the run.

    Raises:
        UserError: The run does not go on, or its process can't be identified from here.
    """
    folder = RunFolder(path)
    with closing(folder):
        record = read_record(folder)
        if record is None:
            raise UserError(f"{path} is not the folder of a run.")
        presence = folder.producer
        if presence == "dead" or record.state != "running":
            raise UserError(f"{record.name} does not run: there is nothing to stop.")
        if presence == "unknown":
            raise _elsewhere(record)
        pids = [record.pid] if record.pid is not None else []
        holder = next((pid for pid in (*pids, *_lockers(folder)) if _holds(folder, pid)), None)
        if holder is None:
            raise _elsewhere(record)
        _signal(folder, record, holder)
    return record.name


def _lockers(folder: RunFolder) -> list[int]:
    """Processes that hold a lock on a file with the number of the run's lock file."""
    try:
        inode = os.stat(RUN_LOCK, dir_fd=folder.fd, follow_symlinks=False).st_ino
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    fields = [line.split() for line in lines]
    return [
        int(words[4])
        for words in fields
        if len(words) > 5 and words[4].isdigit() and words[5].endswith(f":{inode}")
    ]


def _signal(folder: RunFolder, record: RunRecord, pid: int) -> None:
    number = signal.SIGTERM if record.producer == OWN_PRODUCER else signal.SIGINT
    try:
        process = os.pidfd_open(pid)
    except (OSError, AttributeError) as error:
        raise _elsewhere(record) from error
    try:
        if not _holds(folder, pid):
            raise _elsewhere(record)
        signal.pidfd_send_signal(process, number)
    except PermissionError as error:
        raise UserError(f"{record.name} belongs to another user, who alone can stop it.") from error
    except ProcessLookupError as error:
        raise UserError(f"{record.name} has just ended.") from error
    finally:
        os.close(process)


def _holds(folder: RunFolder, pid: int) -> bool:
    """Whether the process has the lock file of the run open."""
    try:
        lock = os.stat(RUN_LOCK, dir_fd=folder.fd, follow_symlinks=False)
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            status = os.stat(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        same = (status.st_dev, status.st_ino) == (lock.st_dev, lock.st_ino)
        if same and stat.S_ISREG(status.st_mode):
            return True
    return False


def _elsewhere(record: RunRecord) -> UserError:
    return UserError(
        f"the process of {record.name} is not in reach from here: stop it where it was started."
    )
