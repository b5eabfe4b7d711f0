"""`Attached`: a live run beside its recorder, without a repeat of the recorder's work.

The state is folded from the journal by the reducer alone; rows that are derived are asked of the
recorder. Both are of the same event, unless the recorder is late: then the state goes ahead of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from engine.events import RunInfo
from replay.diagnosis.verdicts import VerdictRow
from replay.projections.fold import Fold
from replay.recording.gc_control import gc_disabled
from replay.recording.live_link import RecordingLink
from replay.recording.live_protocol import Known, StateAnswer
from replay.recording.reader import RecordingReader
from replay.sources.feed import Feed
from replay.state.model import State
from replay.state.reducer import reduce
from replay.state.rows import BlameRow, RollupRow
from replay.state.wall_clock import WallClock
from replay.state.wire import decode_state

JUMP_EVENTS = 50_000
"""Who is further behind takes the recorder's state; so many are read in a part of a second."""
LATE_SECONDS = 1.0
"""A recorder that is further behind the run is not waited for."""
_ASK_SECONDS = 0.1
_ASK_SHARE = 5
"""Of a slow recorder it is asked no more often than this many times what its answer takes."""
_REFUSED_SECONDS = 10.0
"""A state that the recorder does not send is asked for again after so long."""
_FEWEST_EVENTS = 5_000
"""At least so many are read at once, if they are there: they take a fiftieth of a second."""
_FEWEST_AHEAD = 20_000
"""The same ahead of a recorder that is late, as on a machine that has no time for it."""


class Attached:
    """Takes the place of an `Ingest` whose fold and recording are in another process.

    It is its own fold: state and growing rows. One thread owns it. Methods raise `LinkLost` once
    the recorder has gone.
    """

    finished = False

    def __init__(
        self,
        link: RecordingLink,
        feed: Feed,
        known: Known,
        *,
        wall: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        jump_events: int = JUMP_EVENTS,
    ) -> None:
        """
        Args:
            link: To the recorder.
            feed: The journal; it is read on from where the state stands.
            known: What the recorder has said of its recording.
            wall: Unix time in seconds.
            clock: Monotonic time in seconds.
            jump_events: See `JUMP_EVENTS`.
        """
        self.reader = RecordingReader(link, "the recording of the live run", owned=True)
        self._link = link
        self._feed = feed
        self._wall = wall
        self._clock = clock
        self._jump_events = jump_events
        self._known = known
        self._ask_at = clock() + _ASK_SECONDS
        self._recorder_lag = 0.0
        self._waiting_since: float | None = None
        self._run = RunInfo(run_id="", name="")
        self._state = State()
        self._began: tuple[int, float] | None = None
        self._jump_at = 0.0

    @classmethod
    def attach(
        cls,
        link: RecordingLink,
        feed: Feed,
        fold: Fold | Attached | None,
        *,
        wall: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        jump_events: int = JUMP_EVENTS,
    ) -> Attached | None:
        """Go on where `fold` stands, or where the recorder stands if that is far ahead of it.

        Returns:
            None where the recorder has read nothing yet, or there is nothing to go on from.
        """
        known = link.known()
        if known is None:
            return None
        attached = cls(link, feed, known, wall=wall, clock=clock, jump_events=jump_events)
        if fold is not None:
            attached._run, attached._state = fold.run, fold.state
        if fold is None or attached._is_far_behind():
            attached._jump()
        if attached._state.ordinal == 0:
            return None
        attached._note_lag()
        return attached

    @property
    def fold(self) -> Attached:
        return self

    @property
    def state(self) -> State:
        """Only to be read, and never kept."""
        return self._state

    @property
    def run(self) -> RunInfo:
        return self._feed.run or self._run

    @property
    def last_ordinal(self) -> int:
        """Of the newest event in the state."""
        return self._state.ordinal

    @property
    def began(self) -> tuple[int, float]:
        """Ordinal and time of the first event of the run."""
        if self._began is None:
            bounds = self.reader.bounds()
            self._began = bounds.first_ordinal, bounds.t0
        return self._began

    @property
    def recorded(self) -> tuple[int, float]:
        """Ordinal and time of the last event that rows are derived from."""
        return self._known.ordinal, self._known.t

    def open_verdicts(self) -> list[VerdictRow]:
        return self._known.verdicts

    def open_series(self) -> list[RollupRow]:
        return self._known.series

    def open_blame(self) -> list[BlameRow]:
        return self._known.blame

    def step(self, limit: int) -> int:
        """Bring the state as far as the recorder is, about `limit` events at once unless it jumps.
        Returns by how many events it went on."""
        self._ask()
        if self._is_far_behind() and self._clock() >= self._jump_at:
            before = self._state.ordinal
            self._jump()
            if self._state.ordinal != before:
                return self._state.ordinal - before
        missing = self._known.ordinal - self._state.ordinal
        if self._is_recorder_late():
            count = max(limit, _FEWEST_AHEAD)
        else:
            count = min(missing, max(limit, _FEWEST_EVENTS))
        with gc_disabled():
            # Even of no events it says how the producer is.
            batch = self._feed.poll(max(0, count))
            state, run = self._state, self._run
            for ordinal, event in enumerate(batch.events, batch.first_ordinal):
                reduce(state, event, ordinal, run)
        return len(batch.events)

    def renew(self) -> None:
        """Ask at once how far the recording reaches: what was known of it is no longer so."""
        self._ask_at = self._clock()
        self._ask()

    def finish(self) -> None:
        """The recorder finishes the recording; that is opened then."""

    def close(self) -> None:
        self.reader.close()

    def _ask(self) -> None:
        began = self._clock()
        if began < self._ask_at:
            return
        known = self._link.known(self._known.ordinal)
        now = self._clock()
        self._ask_at = now + max(_ASK_SECONDS, _ASK_SHARE * (now - began))
        if known is not None:
            self._learn(known)

    def _learn(self, known: Known) -> None:
        if not known.changed:
            return
        self._known = known
        self._note_lag()

    def _note_lag(self) -> None:
        """How far the recorder is behind the run just after a commit: later, nothing may happen."""
        self._waiting_since = None
        newest = WallClock(self._run, self._state.resumptions).at(self._known.t)
        if newest is not None:
            self._recorder_lag = self._wall() - newest

    def _is_recorder_late(self) -> bool:
        if self._feed.pending_bytes() == 0:
            self._waiting_since = None
            return False
        if self._recorder_lag > LATE_SECONDS:
            return True
        now = self._clock()
        if self._waiting_since is None:
            self._waiting_since = now
        return now - self._waiting_since > LATE_SECONDS

    def _is_far_behind(self) -> bool:
        return self._known.ordinal - self._state.ordinal > self._jump_events

    def _jump(self) -> None:
        """To the state that the recorder has, with the journal behind it.

        One that it does not send, as it is too large, is not asked for again for some time: the
        journal is read, by the reducer alone.
        """
        began = self._clock()
        known = self._link.known(state=True)
        if known is not None and known.state is not None:
            self._take(known.state)
            self._learn(known)
            now = self._clock()
            self._jump_at = now + _ASK_SHARE * (now - began)
        else:
            self._jump_at = began + _REFUSED_SECONDS

    def _take(self, answer: StateAnswer) -> None:
        self._run = msgspec.json.decode(answer.run, type=RunInfo)
        self._state = decode_state(answer.state)
        self._feed.resume(answer.position, self._state.ordinal + 1)
