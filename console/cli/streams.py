"""stdin, stdout and stderr as they were handed over: perhaps closed, full, or read by nobody."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys

_READ, _WRITE = os.O_RDONLY, os.O_WRONLY


class Output(io.RawIOBase):
    """The raw end of stdout or stderr. `problem` keeps why something could not be written."""

    def __init__(self, descriptor: int, *, lossy: bool) -> None:
        self._descriptor = descriptor
        self.lossy = lossy
        """What can't be written is dropped instead of raised."""
        self.outlives_reader = False
        """Also where whoever read a pipe has left."""
        self.problem: OSError | None = None

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        rest = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # someone who shares it has made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.problem = self.problem or error
                if not (self.outlives_reader if error.errno == errno.EPIPE else self.lossy):
                    raise
                break
        return size

    @property
    def abandoned(self) -> bool:
        """Has whoever read it left?"""
        return self.problem is not None and self.problem.errno == errno.EPIPE


class Streams:
    """The three streams of this process, in a state in which the rest of it can rely on them."""

    def __init__(self) -> None:
        # What is opened next would get the number of a closed stream, and with it its output.
        # Opened in the wrong direction, a closed stdin or stdout still is an error for who uses it;
        # what is said on a closed stderr is for nobody.
        for descriptor, mode in enumerate((_WRITE, _READ, _WRITE)):
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, mode)  # not inherited: for children it stays closed
        if sys.stdin is None:
            sys.stdin = open(0, closefd=False)  # noqa: SIM115
        self.out, self.err = Output(1, lossy=False), Output(2, lossy=True)
        sys.stdout = _text(self.out, sys.__stdout__)
        sys.stderr = _text(self.err, sys.__stderr__)

    def go_on(self) -> None:
        """From now on nothing that can't be written ends the command."""
        for output in (self.out, self.err):
            output.lossy = output.outlives_reader = True

    def close(self) -> list[str]:
        """Write what is held back; says of which streams something was lost, and why.

        A reader that has left has seen what it wanted.
        """
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        self.go_on()  # what a buffer still holds is tried again at exit
        return [
            f"{name} could not be written: {output.problem.strerror}"
            for name, output in (("stdout", self.out), ("stderr", self.err))
            if output.problem is not None and not output.abandoned
        ]

    @property
    def abandoned(self) -> bool:
        return self.out.abandoned or self.err.abandoned

    def raised(self, error: Exception) -> bool:
        """Is this what a write to stdout or stderr ended with?"""
        return error in (self.out.problem, self.err.problem)


def _text(output: Output, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """Characters that its encoding has not are written as escapes."""
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=output.isatty() or output.fileno() == 2,
    )
