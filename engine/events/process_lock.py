"""`ProcessLock`: does the process that writes a run live, is it dead, or can't that be told?

A lock is an `flock`, which the system frees however a process ends. That it is free proves a death
only where the file is the one that the process locked, on the machine it ran on: a copy's lock is
always free. So its holder writes into it which file and which machine that is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from engine.errors import UserError
from engine.events.safe_files import open_regular

Presence = Literal["alive", "dead", "unknown"]

Doubt = Literal["", "no_lock", "unidentified", "copy", "elsewhere"]
"""Why a presence is unknown: there is no lock file that can be asked, it does not say whose it is,
it is a copy of the one that the process locked, or that was on another machine."""

_IDENTITY_BYTES = 4096


class LockIdentity(msgspec.Struct, frozen=True):
    """What the holder of a lock writes into its file."""

    host: str
    boot: str
    """Changes with every start of the machine; empty where the system has no such thing."""
    device: int
    inode: int


class ProcessLock:
    """An `flock` held as long as a process lives; the system frees it however the process ends.

    `run.lock` tells that the producer lives, `recorder.lock` that a recorder does. The file stays
    when the lock is released. A child made by `fork` without `exec` would share the lock.
    """

    def __init__(self, path: Path, *, dir_fd: int | None = None) -> None:
        """`dir_fd`: the open folder of the file, wherever it may have been moved."""
        self.path = path
        self._dir_fd = dir_fd
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises `UserError` if another process holds it or the file system refuses."""
        try:
            taken = self.try_acquire()
        except OSError as error:
            raise UserError(f"The lock {self.path} can't be taken: {error.strerror}.") from error
        if not taken:
            raise UserError(f"{self.path.parent} is in use by another process.")

    def try_acquire(self) -> bool:
        """False if another process holds it. Raises `OSError` where there can be no lock."""
        if self._fd is not None:
            return True
        name = self.path if self._dir_fd is None else self.path.name
        fd = open_regular(name, os.O_RDWR | os.O_CREAT, dir_fd=self._dir_fd, sole_name=True)
        try:
            taken = _lock_alone(fd)
            if taken:
                _sign(fd)
        except OSError:
            os.close(fd)
            raise
        if not taken:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> ProcessLock:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @staticmethod
    def held(path: Path, *, dir_fd: int | None = None) -> bool:
        """Does a process hold the lock? Never keeps another from taking it."""
        try:
            fd = open_regular(path, dir_fd=dir_fd)
        except OSError:
            return False
        try:
            return is_held(fd) is True
        finally:
            os.close(fd)


def is_held(fd: int) -> bool | None:
    """Does a process hold the lock of this open file? None where it can't be asked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def presence(fd: int) -> tuple[Presence, Doubt]:
    """Of the process that locked this open file, once it has."""
    held = is_held(fd)
    if held:
        return "alive", ""
    if held is None:
        return "unknown", "no_lock"
    try:
        identity = msgspec.json.decode(os.pread(fd, _IDENTITY_BYTES, 0), type=LockIdentity)
        status = os.fstat(fd)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return "unknown", "unidentified"
    same_boot = identity.boot == boot_id()
    same_host = identity.host == socket.gethostname()
    # One kernel serves all containers of a machine, whatever they call themselves.
    if not same_host and not (same_boot and identity.boot):
        return "unknown", "elsewhere"
    # A device's number may change when the machine starts again.
    if identity.inode != status.st_ino or (same_boot and identity.device != status.st_dev):
        return "unknown", "copy"
    return "dead", ""


@cache
def boot_id() -> str:
    """Of the running system; empty where it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _sign(fd: int) -> None:
    """Say whose lock this is. On a full disk it stays unsaid, and a later death unproved."""
    status = os.fstat(fd)
    identity = LockIdentity(socket.gethostname(), boot_id(), status.st_dev, status.st_ino)
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, msgspec.json.encode(identity) + b"\n", 0)


def _lock_alone(fd: int) -> bool:
    """Take the exclusive lock unless a holder has it; `is_held` at the same time is no holder.

    A look lasts microseconds and holds a shared lock, which a second shared lock tells apart.
    """
    for _ in range(10_000):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
    return False
