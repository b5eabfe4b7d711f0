"""`StopRequests`: signals that ask this process to stop, noted instead of raised."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class StopRequests:
    """These signals while it is entered, in the order in which they came.

    An exception in the middle of a spawn, a query or a fold would leave them in no known state, so
    whoever owns processes enters this before the first of them is started and asks between its
    steps. What is ignored stays ignored.
    """

    def __init__(self, *heeded: int) -> None:
        """Of none: SIGINT and SIGTERM."""
        self._heeded = heeded or (signal.SIGINT, signal.SIGTERM)
        self._came: list[int] = []
        self._raises = False
        self._before: dict[int, signal._HANDLER] = {}

    def __len__(self) -> int:
        return len(self._came)

    def __getitem__(self, index: int) -> int:
        return self._came[index]

    @property
    def exit_code(self) -> int:
        """Of a process that ends because of the first of them."""
        return 128 + (self._came[0] if self._came else signal.SIGINT)

    @contextmanager
    def raised(self, heeded: int = 0) -> Iterator[None]:
        """For code that waits by itself: a request raises `KeyboardInterrupt` there, also one that
        came before, unless it is among the first `heeded`."""
        self._raises = True
        try:
            if len(self._came) > heeded:
                raise KeyboardInterrupt
            yield
        finally:
            self._raises = False

    def __enter__(self) -> StopRequests:
        for number in self._heeded:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)
        if self._raises:
            raise KeyboardInterrupt
