"""`RunStop`: is the run stopping, why, and until when may running tasks go on? `RequestHolds`: what
a stop has to know of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from engine.clock import Clock
from engine.events import EventStream
from engine.scheduling.live_tasks import LiveTask
from engine.scheduling.task_outcomes import StopCause

_SEVERITY: tuple[StopCause | None, ...] = (None, "stopped", "drain", "abort", "run_failed")
MAX_LISTED_CALLS = 5


class OutstandingTask(NamedTuple):
    """A task that a stop waits for."""

    task_id: str
    resource: str
    """Where its first request goes; "" for none, or several."""
    seconds: float
    """How long its worker has run."""


class StopReport(NamedTuple):
    """What a run that stops still waits for."""

    seconds_left: float | None
    """Until the tasks are cancelled; None if they have been, or nothing limits them."""
    tasks: tuple[OutstandingTask, ...]
    """The oldest, at most `MAX_LISTED_CALLS`."""
    total: int


class RequestHolds(Protocol):
    """What a scheduler has to know of requests that nobody answers."""

    def held_attempts(self) -> int:
        """Requests that wait for a resource that answers nobody until a person acts."""

    def why_held(self) -> str:
        """Which resource that is and what it answers, as one sentence."""

    def drain(self) -> None:
        """The run stops: wait for no resource that takes no call now."""

    def finish(self, on_finished: Callable[[], object]) -> bool:
        """The run has ended: end what goes on besides its tasks. False if that takes a while;
        `on_finished` is then called at its end."""


class RunStop:
    """Each cause outweighs those before it.

    Args:
        allowed_seconds: Most seconds that running tasks may go on; None for no limit.
        on_timeout: Called when they are over.
    """

    def __init__(
        self,
        stream: EventStream,
        clock: Clock,
        allowed_seconds: float | None,
        on_timeout: Callable[[], None],
    ) -> None:
        self.cause: StopCause | None = None
        self.message = ""
        self._stream = stream
        self._clock = clock
        self._allowed_seconds = allowed_seconds
        self._on_timeout = on_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False
        self._untold: list[tuple[StopCause, dict[str, object]]] = []

    def run_begins(self) -> None:
        """The run has said that it begins; what came before is said after it."""
        self._begun = True
        for cause, diagnostics in self._untold:
            self._stream.scheduler("run_stopping", reason=cause, diagnostics=diagnostics)

    @property
    def lets_tasks_end(self) -> bool:
        """Whether running tasks may go on."""
        return self.cause in ("stopped", "drain")

    def begin(self, cause: StopCause, message: str, running: int) -> bool:
        """Returns whether this cause is a new one, and outweighs what there was."""
        if _SEVERITY.index(cause) <= _SEVERITY.index(self.cause):
            return False
        before, self.cause = self.cause, cause
        if message and not self.message:
            self.message = message
        diagnostics: dict[str, object] = {"running": running}
        if message:
            diagnostics["message"] = message
        if self.lets_tasks_end:
            if self._allowed_seconds is not None:
                diagnostics["seconds_left"] = self._allowed_seconds
                if before is None:
                    self._timer = asyncio.get_running_loop().call_later(
                        self._allowed_seconds, self._on_timeout
                    )
        else:
            self.end()
        if self._begun:
            self._stream.scheduler("run_stopping", reason=cause, diagnostics=diagnostics)
        else:
            self._untold.append((cause, diagnostics))
        return True

    def end(self) -> None:
        """The running tasks have ended, or are cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def report(self, running: Iterable[LiveTask]) -> StopReport:
        """Which tasks still run, and why the run is not over yet."""
        now = self._clock.monotonic()
        tasks = sorted(
            (
                OutstandingTask(
                    live.item.task_id,
                    "" if key is None else key.label,
                    now - (live.since if live.spawned_at is None else live.spawned_at),
                )
                for live in running
                for key in (live.item.request_resource_key,)
            ),
            key=lambda task: -task.seconds,
        )
        left = None
        if self._timer is not None:
            left = max(0.0, self._timer.when() - asyncio.get_running_loop().time())
        return StopReport(left, tuple(tasks[:MAX_LISTED_CALLS]), len(tasks))
