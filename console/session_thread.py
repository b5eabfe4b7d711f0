"""The thread that owns the session, and the frames that come out of it.

The event loop never reads: commands and wants go in, frozen frames come out. After `stop` the
session belongs to the caller again.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
        """Whether there is more to read: the last refresh only ran out of its budget."""

    def refresh(self, budget_seconds: float = 0.1) -> bool:
        """Read what the source has; True where something changed."""

    def follow(self) -> None:
        """Goes to the newest event and stays there."""

    def hold(self) -> None:
        """Stays at the cursor while the run goes on."""

    def step(self, delta: int) -> None:
        """Moves by so many events."""

    def seek_ordinal(self, n: int) -> None:
        """Goes to an event by its ordinal."""

    def seek_time(self, t: float) -> None:
        """Goes to a run time in seconds."""

    def seek_stall(self, direction: int) -> None:
        """To where the next stall begins (1), or the one before (-1); stays if there is none."""

    def seek_match(self, condition: str, direction: int) -> None:
        """To the next event (1), or the one before (-1), that meets this condition on the view
        `events`; stays if there is none."""

    def advance(self, seconds: float) -> None:
        """Plays so many seconds of run time."""

    def frame(self, want: Want) -> Frame:
        """The frame at the cursor, with what `want` names."""


Command = Callable[[SessionLike], None]

SLICE_SECONDS = 0.025
"""Budget of one refresh; a command waits at most this long for events to be read."""
SLICES = 4
"""Most refreshes in one turn."""


@dataclass(frozen=True, slots=True)
class _Turn:
    commands: tuple[Command, ...]
    want: Want
    speed: float | None
    """Play at this speed; None stands still."""
    elapsed: float
    """Seconds since the turn before."""
    known: Frame | None
    """The frame that the caller has, where it answers the same `want`."""


class SessionThread:
    """Runs one turn at a time: commands in order, refresh, play, one frame if anything differs.

    Commands go before reading. In a busy live run there are always events to read, and a key would
    otherwise wait for all of them. A turn with commands leaves reading to the next turn, which the
    caller starts at once; a command that arrives during a read runs after the present slice.
    """

    def __init__(self, session: SessionLike) -> None:
        self._session = session
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="session")
        self._commands: deque[Command] = deque()  # the caller appends, a turn pops
        self._known: Frame | None = None
        self._wanted: Want | None = None
        self._unread = True
        self.behind = False
        """The session had more to read when the last turn ended."""

    @property
    def pending(self) -> bool:
        """Whether commands wait for the next turn."""
        return bool(self._commands)

    def push(self, command: Command) -> None:
        """Queue a command for this turn or the next one."""
        self._commands.append(command)

    async def turn(self, want: Want, speed: float | None, elapsed: float) -> Frame | None:
        """Run one turn.

        Args:
            want: What the frame must hold.
            speed: Run seconds per second to play at; None stands still.
            elapsed: Seconds since the turn before.

        Returns:
            The next frame; None where it would be the one already returned.
        """
        known = self._known if want == self._wanted else None
        idle = known is not None and known.recorded and speed is None
        if idle and not self._commands:
            self.behind = False
            return None
        commands = tuple(self._commands)
        self._commands.clear()
        turn = _Turn(commands, want, speed, elapsed, known)
        loop = asyncio.get_running_loop()
        frame, self.behind = await loop.run_in_executor(self._executor, self._work, turn)
        if frame is not None:
            self._known, self._wanted = frame, want
        return frame

    def stop(self) -> None:
        """Wait for the turn that runs, then release the session."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _work(self, turn: _Turn) -> tuple[Frame | None, bool]:
        session = self._session
        changed = bool(turn.commands) or turn.known is None
        # Keys that repeat faster than frames are drawn would leave the run unread, so no two turns
        # in a row skip it; and before the first events there is nothing to put a cursor on.
        if turn.commands and not self._unread:
            self._unread = True
        else:
            changed |= self._read(1 if turn.commands else SLICES)
            self._unread = False
        for command in turn.commands:
            command(session)
        if turn.speed is not None and turn.known is not None and turn.elapsed > 0:
            total = turn.known.t1 - turn.known.t0
            session.advance(run_seconds(turn.speed, turn.elapsed, total))
            changed = True
        while self._commands:  # arrived in the meantime; they come after the playing they change
            self._commands.popleft()(session)
            changed = True
        behind = session.behind or self._unread
        return session.frame(turn.want) if changed else None, behind

    def _read(self, slices: int) -> bool:
        """Refresh until nothing is left, a command waits, or the turn has had its share."""
        changed = False
        for _ in range(slices):
            changed |= self._session.refresh(SLICE_SECONDS)
            if not self._session.behind or self._commands:
                break
        return changed
