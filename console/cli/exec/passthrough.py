"""`PassThrough`: runs a command as if it had been started directly in its terminal."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from console.cli.exec.control import CannotStart

LOOK_SECONDS = 0.05
_SENT_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_BY_TERMINAL = 0x80  # SI_KERNEL
"""The kernel sent it, to the whole process group: the command has it already."""


class PassThrough:
    """Same process group, same descriptors, same terminal; signals to this process are sent on.

    While it runs, signals are not handled but waited for: the main thread alone may use it.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the command. Raises `CannotStart`."""
        self.status: int | None = None
        """The exit code, or minus the signal that ended it; None while it runs."""
        self._ignored = [
            number for number in _SENT_ON if signal.getsignal(number) is signal.SIG_IGN
        ]
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        waited = {signal.SIGCHLD, *_SENT_ON}.difference(self._ignored)
        self._waited = waited
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self._pid = os.posix_spawnp(
                command[0],
                list(command),
                dict(environment),
                setsigmask=self._mask,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            raise CannotStart(command, error) from error

    def wait(self, look: Callable[[], object]) -> int:
        """Until the command is over; `look` is called now and then. Returns `status`."""
        while self.status is None:
            self._await_signal()
            look()
            self._reap()
        return self.status

    def settle(self, done: Callable[[], bool]) -> None:
        """After the end, until `done`, or until a signal says that nobody wants to wait."""
        while not done():
            if self._await_signal() not in (None, signal.SIGCHLD):
                return

    def leave(self) -> int:
        """The exit code to leave with; dies of the signal that the command died of."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        assert self.status is not None
        if self.status >= 0:
            return self.status
        number = -self.status
        sys.stdout.flush()
        sys.stderr.flush()
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return 128 + number

    def _await_signal(self) -> int | None:
        """Wait a moment; a signal that only this process got is sent on."""
        info = signal.sigtimedwait(self._waited, LOOK_SECONDS)
        if info is None:
            return None
        if info.si_signo != signal.SIGCHLD and info.si_code != _BY_TERMINAL:
            self._send(info.si_signo)
        return info.si_signo

    def _send(self, number: int) -> None:
        if self.status is None:
            try:
                os.kill(self._pid, number)
            except OSError:
                return

    def _reap(self) -> None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid != 0:
            self.status = os.waitstatus_to_exitcode(status)
