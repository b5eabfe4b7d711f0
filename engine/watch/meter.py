"""`UsageMeter`: how much has a process used, and how long did a thread wait for a core?"""

from __future__ import annotations

import os
import threading
import time
from typing import NamedTuple


class ProcessUsage(NamedTuple):
    """What the process had used at one instant, in seconds."""

    at: float
    cpu: float
    """Processor time of the process."""
    loop_cpu: float | None = None
    """Processor time of the loop's thread."""
    core_wait: float | None = None
    """Time for which the loop's thread could have run, and had no processor core."""
    suspended: float = 0.0
    """Time for which the machine slept."""


class UsageMeter:
    """Reads what the process and the loop's thread have used.

    Linux counts in `schedstat` of a thread, in nanoseconds, how long it ran and how long it waited
    for a core.
    """

    def __init__(self) -> None:
        self._schedstat = -1

    def open(self) -> None:
        """Count the calling thread as the loop's."""
        try:
            path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
            self._schedstat = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._schedstat = -1

    def read(self) -> ProcessUsage:
        loop_cpu = core_wait = None
        if self._schedstat >= 0:
            try:
                ran, waited, _ = os.pread(self._schedstat, 100, 0).split()
                loop_cpu, core_wait = int(ran) / 1e9, int(waited) / 1e9
            except (OSError, ValueError):
                loop_cpu = core_wait = None
        suspended = 0.0
        if hasattr(time, "CLOCK_BOOTTIME"):
            suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        return ProcessUsage(0.0, time.process_time(), loop_cpu, core_wait, suspended)

    def close(self) -> None:
        if self._schedstat >= 0:
            os.close(self._schedstat)
            self._schedstat = -1
