"""Commands go before reading, in a session that always has more to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from console.session_thread import SLICES, SessionThread
from replay.playback.frame import Want
from tests.console.frames import FRAMES
from tests.console.session_double import RecordingSession


class BusySession(RecordingSession):
    """Never through with reading; notes each refresh among the other calls."""

    def __init__(self) -> None:
        super().__init__(FRAMES["storm"]())
        self.while_reading: Callable[[], None] = lambda: None

    @property
    def behind(self) -> bool:
        return True

    def refresh(self, budget_seconds: float = 0.1) -> bool:
        self.calls.append("refresh")
        self.while_reading()
        return True


@contextmanager
def opened() -> Iterator[tuple[BusySession, SessionThread]]:
    """A session of which something is read, so that commands need not wait for a first event."""
    session = BusySession()
    thread = SessionThread(session)
    try:
        run_turn(thread)
        session.calls.clear()
        yield session, thread
    finally:
        thread.stop()


def run_turn(thread: SessionThread, speed: float | None = None) -> None:
    asyncio.run(thread.turn(Want(), speed, 0.25))


def test_a_command_does_not_wait_for_events_to_be_read() -> None:
    with opened() as (session, thread):
        thread.push(lambda session: session.step(-1))
        run_turn(thread)
        assert session.calls == ["step -1"]
        assert thread.behind
        run_turn(thread)
        assert session.calls == ["step -1", *["refresh"] * SLICES]


def test_a_command_that_arrives_while_events_are_read_waits_for_one_slice() -> None:
    with opened() as (session, thread):

        def press() -> None:
            session.while_reading = lambda: None
            thread.push(lambda session: session.hold())

        session.while_reading = press
        run_turn(thread, speed=1.0)
        assert session.calls == ["refresh", "advance 0.25", "hold"]
        assert not thread.pending


def test_keys_that_repeat_do_not_keep_a_run_from_being_read() -> None:
    with opened() as (session, thread):
        for _ in range(4):
            thread.push(lambda session: session.step(1))
            run_turn(thread)
        assert session.calls == ["step 1", "refresh", "step 1"] * 2


def test_the_first_command_finds_a_first_event() -> None:
    session = BusySession()
    thread = SessionThread(session)
    thread.push(lambda session: session.seek_ordinal(1))
    run_turn(thread)
    thread.stop()
    assert session.calls == ["refresh", "seek_ordinal 1"]
