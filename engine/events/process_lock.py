"""`ProcessLock`: is the process that writes a run alive, dead, or is that unknown?

A lock is an `flock`, which the kernel releases however a process ends. A process id would not do:
it may belong to another process by now, or to another machine or container. A free lock proves a
death only if the file is the one that the process locked, on the machine on which it ran, because
the lock of a copy is always free. So the holder writes file and machine into the lock file.
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
"""Why a presence is unknown: there is no lock file that can be tested, it does not identify its
holder, it is a copy of the one that the process locked, or that was on another machine."""

_IDENTITY_BYTES = 4096


class LockIdentity(msgspec.Struct, frozen=True):
    """What the holder of a lock writes into the file."""

    host: str
    boot: str
    """Id of the boot of the machine; empty if the system has none."""
    device: int
    inode: int


class ProcessLock:
    """An `flock` that a process holds while it lives.

    `run.lock` shows that the producer is alive, `recorder.lock` that a recorder is. The file stays
    when the lock is released. A child made by `fork` without `exec` shares the lock.
    """

    def __init__(self, path: Path, *, dir_fd: int | None = None) -> None:
        """`dir_fd`: descriptor of the folder of the file, which holds also after it was moved."""
        self.path = path
        self._dir_fd = dir_fd
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises `UserError` if another process holds it or the system refuses."""
        try:
            taken = self.try_acquire()
        except OSError as error:
            raise UserError(f"The lock {self.path} can't be taken: {error.strerror}.") from error
        if not taken:
            raise UserError(f"{self.path.parent} is in use by another process.")

    def try_acquire(self) -> bool:
        """Take the lock; False if another process holds it. Raises `OSError` if it can't."""
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
        """Whether a process holds the lock. The test never keeps another process from taking it."""
        try:
            fd = open_regular(path, dir_fd=dir_fd)
        except OSError:
            return False
        try:
            return is_held(fd) is True
        finally:
            os.close(fd)


def is_held(fd: int) -> bool | None:
    """Whether a process holds the lock of this open file; None if that can't be tested."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def presence(fd: int) -> tuple[Presence, Doubt]:
    """Presence of the process that has locked this open file, and the doubt if it is unknown."""
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
    # The containers of a machine share one kernel, whatever their host names are.
    if not same_host and not (same_boot and identity.boot):
        return "unknown", "elsewhere"
    # The number of a device may change when the machine boots.
    if identity.inode != status.st_ino or (same_boot and identity.device != status.st_dev):
        return "unknown", "copy"
    return "dead", ""


@cache
def boot_id() -> str:
    """Id of the current boot; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _sign(fd: int) -> None:
    """Write the identity into the lock file. If the disk is full it is not written, and a later
    death is not proved."""
    status = os.fstat(fd)
    identity = LockIdentity(socket.gethostname(), boot_id(), status.st_dev, status.st_ino)
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, msgspec.json.encode(identity) + b"\n", 0)


def _lock_alone(fd: int) -> bool:
    """Take the exclusive lock unless another process holds it.

    A failed attempt alone does not prove a holder: `is_held` in another process takes a shared lock
    for some microseconds. A shared lock can be taken beside that one, but not beside a holder's.
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
