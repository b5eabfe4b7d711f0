"""`Stopping`: stops the engine of a run, in steps of increasing force."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from console.cli.run.engine_link import Reacts

ASK_SECONDS = 1.0
REPORT_SECONDS = 2.0
"""Between two lines about what a stop waits for."""
REACTION_SECONDS = 10.0
"""An event loop that has not reacted for this long is taken to be blocked."""
ABORT_SECONDS = 30.0
"""Longest that cancelled tasks may take to end while the loop reacts."""
DRAINED, ABORTED, KILLED = 1, 2, 3


class Stoppable(Protocol):
    """What can be stopped: `console.cli.run.launch.Launched`."""

    last_reaction: float
    reaction: Reacts

    @property
    def running(self) -> bool: ...
    def ask(self) -> None:
        """Ask it to finish what it does."""

    def stop(self) -> None:
        """Ask it to end at once."""

    def kill(self) -> None:
        """End it."""


class Stopping:
    """Drains, then aborts, then kills an engine: each further request is a further step.

    A drain lasts as long as the work in flight, an abort at most `ABORT_SECONDS`; an engine whose
    loop is blocked gets `REACTION_SECONDS` for either. Each step is reported to `say`.
    """

    def __init__(
        self,
        engine: Stoppable,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._say = say
        self._clock = clock
        self._step = 0
        self._handled = 0
        self._step_began = 0.0
        self._next_question = 0.0
        self._next_report = 0.0

    def advance(self, requests: int) -> None:
        """Take the steps that are due; called periodically.

        Args:
            requests: Number of requests to stop so far.
        """
        if not self._engine.running:
            return
        while self._handled < requests and self._step < KILLED:
            self._handled += 1
            self._escalate()
        now = self._clock()
        if 0 < self._step < KILLED:
            self._check(now)

    def _check(self, now: float) -> None:
        if now >= self._next_question:
            self._next_question = now + ASK_SECONDS
            self._engine.ask()
        if now - max(self._engine.last_reaction, self._step_began) >= REACTION_SECONDS:
            self._say(f"The engine has not reacted for {REACTION_SECONDS:.0f} s.")
            self._escalate()
        elif now >= self._next_report and self._engine.reaction.tasks_out:
            self._next_report = now + REPORT_SECONDS
            self._say(_waiting_for(self._engine.reaction))
        elif self._step == ABORTED and now - self._step_began >= ABORT_SECONDS:
            self._say(f"What was aborted has not ended in {ABORT_SECONDS:.0f} s.")
            self._escalate()

    def _escalate(self) -> None:
        self._step += 1
        self._step_began = self._clock()
        self._next_report = self._step_began + ASK_SECONDS
        if self._step == DRAINED:
            self._say("Stopping: running tasks may finish; Ctrl+C again aborts them.")
            self._engine.stop()
        elif self._step == ABORTED:
            self._say("Aborting: running tasks are cancelled; Ctrl+C again kills the engine.")
            self._engine.stop()
        else:
            self._say("Killing the engine: what its journal holds is kept.")
            self._engine.kill()


def _waiting_for(reaction: Reacts) -> str:
    """What is still out, the oldest first, and for how long it may be."""
    tasks = "1 task" if reaction.tasks_out == 1 else f"{reaction.tasks_out} tasks"
    left = reaction.seconds_left
    until = "" if left is None else f", aborted in {left:.0f} s"
    more = ", ..." if reaction.tasks_out > len(reaction.oldest) else ""
    return f"Waiting for {tasks}{until}; out longest: {', '.join(reaction.oldest)}{more}"
