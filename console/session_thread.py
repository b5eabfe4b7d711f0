"""The thread that owns the session, and the frames that come out of it.

Whoever draws never reads: commands and wishes go in, frozen frames come out. After `stop` the
session is the caller's again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from console.playback_mode import run_seconds
from replay.playback.frame import Frame, Want


class SessionLike(Protocol):
    """What the console needs of `replay.playback.session.Session`. One thread at a time."""

    @property
    def behind(self) -> bool:
        """There is more to read at once: the last refresh only ran out of its budget."""

    def refresh(self, budget_seconds: float = 0.1) -> bool:
        """Take in what the source has; True where something changed."""

    def follow(self) -> None: ...

    def hold(self) -> None: ...

    def step(self, delta: int) -> None: ...

    def seek_ordinal(self, n: int) -> None: ...

    def seek_time(self, t: float) -> None: ...

    def seek_stall(self, direction: int) -> None:
        """To where the next stall begins (1), or the one before (-1); stays if there is none."""

    def advance(self, seconds: float) -> None: ...

    def frame(self, want: Want) -> Frame: ...


Command = Callable[[SessionLike], None]


@dataclass(frozen=True, slots=True)
class _Turn:
    commands: tuple[Command, ...]
    want: Want
    speed: float | None
    """Play at this speed; None stands still."""
    elapsed: float
    known: Frame | None


class SessionThread:
    """Runs one turn at a time: refresh, commands in order, play, one frame if anything differs."""

    def __init__(self, session: SessionLike) -> None:
        self._session = session
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._commands: list[Command] = []
        self._known: Frame | None = None
        self._wanted: Want | None = None
        self.behind = False
        """The session had more to read when the last turn ended."""

    @property
    def pending(self) -> bool:
        return bool(self._commands)

    def push(self, command: Command) -> None:
        self._commands.append(command)

    async def turn(self, want: Want, speed: float | None, elapsed: float) -> Frame | None:
        """The next frame; None where it would be the one already given."""
        known = self._known if want == self._wanted else None
        idle = known is not None and known.recorded and speed is None
        if idle and not self._commands:
            return None
        commands, self._commands = tuple(self._commands), []
        turn = _Turn(commands, want, speed, elapsed, known)
        loop = asyncio.get_running_loop()
        frame, self.behind = await loop.run_in_executor(self._executor, self._work, turn)
        if frame is not None:
            self._known, self._wanted = frame, want
        return frame

    def stop(self) -> None:
        """Wait for the turn that runs, then let go of the session."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _work(self, turn: _Turn) -> tuple[Frame | None, bool]:
        session = self._session
        changed = session.refresh() or bool(turn.commands) or turn.known is None
        for command in turn.commands:
            command(session)
        if turn.speed is not None and turn.known is not None and turn.elapsed > 0:
            total = turn.known.t1 - turn.known.t0
            session.advance(run_seconds(turn.speed, turn.elapsed, total))
            changed = True
        return session.frame(turn.want) if changed else None, session.behind
