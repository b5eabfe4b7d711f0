"""`StopRequests`: signals that ask this process to stop, noted instead of raised."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class StopRequests:
    """Signals received while it is entered, in the order in which they came.

    An exception in the middle of a spawn, a query or a fold would leave it in no known state, so
    a command that owns processes enters this before it starts the first of them, and checks it
    between its steps. Signals that are ignored stay ignored.
    """

    def __init__(self, *numbers: int) -> None:
        """Receive these signals; SIGINT and SIGTERM if there are none."""
        self._numbers = numbers or (signal.SIGINT, signal.SIGTERM)
        self._requests: list[int] = []
        self._raises = False
        self._handlers: dict[int, signal._HANDLER] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, index: int) -> int:
        return self._requests[index]

    @property
    def exit_code(self) -> int:
        """Exit code of a process that ends because of the first request."""
        return 128 + (self._requests[0] if self._requests else signal.SIGINT)

    @contextmanager
    def raised(self, handled: int = 0) -> Iterator[None]:
        """Raise `KeyboardInterrupt` in a block that waits by itself when a request comes.

        A library that is interrupted may raise an error of its own instead (DuckDB does), and
        what is raised in a finalizer is lost: in either case the request is raised at the end
        of the block.

        Args:
            handled: Number of requests that the caller has acted on already. One that came
                before the block and is not among them is raised at once.
        """
        self._raises = True
        try:
            if len(self._requests) > handled:
                raise KeyboardInterrupt
            yield
        except Exception as error:
            if len(self._requests) > handled:
                raise KeyboardInterrupt from error
            raise
        finally:
            self._raises = False
        if len(self._requests) > handled:
            raise KeyboardInterrupt

    def __enter__(self) -> StopRequests:
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requests.append(number)
        if self._raises:
            raise KeyboardInterrupt
