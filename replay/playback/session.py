"""`Session`: one open run with a cursor, and the frame of what is true there.

Reading and the cursor stand in one module: a recorder that comes or goes, or a run that ends,
changes what is read and what the cursor points into at once.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import duckdb

from engine.events import RunInfo
from engine.events.run_folder import RunFolder
from replay.playback.attached import Attached
from replay.playback.cursor import StateCursor
from replay.playback.frame import Frame, Want
from replay.playback.frame_reader import FrameReader, Moment
from replay.playback.run_rows import RunRows
from replay.projections.fold import Fold
from replay.recording.ingest import Ingest
from replay.recording.live_link import LinkLost, RecordingLink, StaleRows
from replay.recording.reader import Bounds, RecordingReader, open_recording
from replay.recording.views.events import EVENTS
from replay.runs.open import open_run, open_source
from replay.sources.base import Liveness, SourceError
from replay.sources.feed import Feed, open_journal
from replay.state.model import State
from replay.state.reducer import begin
from replay.state.wall_clock import WallClock
from replay.state.wire import copy_state

T = TypeVar("T")

SMALLEST_STEP = 200
LARGEST_STEP = 10_000
ATTACH_EVERY_SECONDS = 0.5
"""Until a recorder answers, it is looked for so often."""
CONCLUDING_POLL_SECONDS = 0.02
CONCLUDING_SECONDS = 5.0
"""A recorder that no longer answers, but lives, is given so long to complete the recording, or to
answer again, while somebody waits for it."""
BUSY_SECONDS = 20.0
"""The same while nobody waits."""
MOST_ATTACHMENTS = 3
"""So often a frame is begun beside a recorder that ceases to answer."""


class Session:
    """Reads, folds and remembers; one thread at a time. Ordinals and times are the recording's.

    A live run is read beside its recorder, as `Attached` does. Where no recorder answers, it is
    folded into a private recording in memory, as is a file being loaded; a finished one is asked
    where it lies. Either way the state at an instant is the fold of the stream up to it.
    """

    def __init__(
        self,
        feed: Feed | None,
        recording: Path | None,
        title: str,
        *,
        history: bool = True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            feed: Events to be read.
            recording: A finished recording.
            title: Name of a run that has none yet.
            history: Keep what is read, so that the cursor can move; otherwise there are only
                frames of the newest event, without bars and events.
            wall: Unix time in seconds.
        """
        self._title = title
        self._history = history
        self._wall = wall
        self._feed = feed
        self._ingest: Ingest | Attached | None = None
        self._attach_at = 0.0
        self._lost_at: float | None = None
        self._liveness: Liveness = "waiting"
        self._outcome: str | None = None
        self._complete = True
        self._broken = self._mended = 0
        self._run: RunInfo | None = None
        self._first = self._last = 0
        self._t0 = self._t1 = 0.0
        self._following = True
        self._state = State()
        self._at = 0.0
        self._cursor: StateCursor | None = None
        self._step_size = 500
        self._behind = feed is not None
        self._frames = FrameReader()
        self._recorded_resumptions: tuple[tuple[float, float], ...] = ()
        if feed is not None:
            self._ingest = Ingest(feed, ":memory:", history=history)
            self.rows = RunRows(self._ingest.reader, self._ingest)
        elif recording is not None:
            self.rows = RunRows(open_recording(recording), None)
            self._load_recording()
        else:
            raise SourceError(f"{title} is neither a recording nor a stream of events.")

    @classmethod
    def open(
        cls, target: str | Path, *, growing: bool | None = None, history: bool = True
    ) -> Session:
        """Open what the user named.

        Args:
            target: A run folder (live or finished), a recording, `.jsonl[.gz|.zst]`, or a run id.
            growing: Whether lines may be added to a file of JSON Lines; None finds out.
            history: As for `Session`.

        Raises:
            SourceError: It can't be opened, or is none of these.
        """
        opened = open_source(target, growing=growing)
        return cls(opened.feed, opened.recording, opened.title, history=history)

    @property
    def reader(self) -> RecordingReader:
        """The recording; of a live run, the private one in memory."""
        return self.rows.reader

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._ingest is None or self._ingest.finished

    @property
    def behind(self) -> bool:
        """Whether there is more to read: the last refresh only ran out of its budget."""
        return self._behind

    @property
    def lag_seconds(self) -> float:
        """How long ago the newest event that was read happened, while more wait to be read; else
        0, and where the producer does not say what time it was."""
        run = self._run
        if not self._behind or self._last == 0 or run is None:
            return 0.0
        newest = WallClock(run, self._resumptions()).at(self._t1)
        return 0.0 if newest is None else max(0.0, self._wall() - newest)

    @property
    def holds_back(self) -> bool:
        """Whether events that were read wait for earlier ones."""
        return self._feed is not None and self._feed.holds_back

    def close(self) -> None:
        if self._ingest is not None:
            self._ingest.close()
        else:
            self.reader.close()
        if self._feed is not None:
            self._feed.close()

    # Reading

    def refresh(self, budget_seconds: float = 0.1) -> bool:
        """Read and fold new events.

        Args:
            budget_seconds: About how long it may take.

        Returns:
            Whether anything changed. False means that all is read that is there now.

        Raises:
            SourceError: The source can't be read any further.
        """
        ingest, feed = self._ingest, self._feed
        if ingest is None or feed is None or ingest.finished:
            return False
        try:
            if isinstance(ingest, Ingest) and feed.folder is not None:
                ingest = self._attach(ingest, feed, feed.folder)
            try:
                return self._refresh(ingest, feed, budget_seconds)
            except StaleRows:
                return self._renew()
        except LinkLost:
            return self._detach(BUSY_SECONDS)
        except duckdb.Error as error:
            problem = (str(error).splitlines() or [""])[0]
            raise SourceError(
                f"{self._title} can't be read any further: {problem} The run and its record are "
                f"not touched. Free memory, or space in {tempfile.gettempdir()}, and open it again."
            ) from error

    def _refresh(self, ingest: Ingest | Attached, feed: Feed, budget_seconds: float) -> bool:
        began = time.monotonic()
        liveness, known = self._liveness, (ingest.last_ordinal, ingest.recorded)
        while True:
            start = time.monotonic()
            taken = ingest.step(self._step_size)
            now = time.monotonic()
            if taken == 0 or now - began >= budget_seconds:
                break
            self._adjust_step(now - start, budget_seconds)
        self._behind = taken > 0
        self._liveness = feed.liveness
        self._outcome = feed.outcome
        if taken == 0 and self._liveness in ("ended", "lost"):
            if (
                feed.completed
                and feed.folder is not None
                and self._switch_to_recording(feed, feed.folder)
            ):
                return True
            ingest.finish()
        read = (ingest.last_ordinal, ingest.recorded)
        changed = self._liveness != liveness or read != known or ingest.finished
        if changed:
            self._count_lines()
            self._update(ingest)
        return changed

    def _adjust_step(self, seconds: float, budget: float) -> None:
        """Adjust the number of events per step to about a quarter of the budget."""
        if seconds < budget / 8:
            self._step_size = min(LARGEST_STEP, self._step_size * 2)
        elif seconds > budget / 2:
            self._step_size = max(SMALLEST_STEP, self._step_size // 2)

    def _attach(self, ingest: Ingest, feed: Feed, folder: RunFolder) -> Ingest | Attached:
        """Go on beside the recorder of the run, once it answers."""
        now = time.monotonic()
        if not feed.seekable or now < self._attach_at:
            return ingest
        self._attach_at = now + ATTACH_EVERY_SECONDS
        attached = self._attached_to(ingest.fold, feed, folder)
        if attached is None:
            return ingest
        ingest.close()
        self._read_through(attached)
        return attached

    def _attached_to(
        self, fold: Fold | Attached | None, feed: Feed, folder: RunFolder
    ) -> Attached | None:
        """Beside the recorder of the run, going on from `fold`; None where it does not answer."""
        link = RecordingLink.open(folder)
        if link is None:
            return None
        attached = None
        with suppress(LinkLost):
            attached = Attached.attach(link, feed, fold, wall=self._wall)
        if attached is None:
            link.close()
        return attached

    def _read_through(self, source: Ingest | Attached) -> None:
        self._ingest, self._lost_at = source, None
        self.rows = RunRows(source.reader, source)
        self._frames.forget_rows()
        if self._first:
            self._cursor = StateCursor(source.reader, self._first)

    def _asking(self, work: Callable[[], T]) -> T:
        """What asks the recorder; again where it has gone on meanwhile, or has left."""
        for _ in range(MOST_ATTACHMENTS):
            try:
                with suppress(StaleRows):
                    return work()
                self._renew()
                return work()
            except LinkLost:
                while not self._is_alone and not self._detach(CONCLUDING_SECONDS):
                    time.sleep(CONCLUDING_POLL_SECONDS)
        if not self._is_alone:
            self._read_alone()
        return work()

    @property
    def _is_alone(self) -> bool:
        return not isinstance(self._ingest, Attached)

    def _renew(self) -> bool:
        if isinstance(self._ingest, Attached):
            self._ingest.renew()
        return True

    def _detach(self, patience_seconds: float) -> bool:
        """The recorder answers no more: go on in what it has completed, or beside it once it
        answers again, or else read alone.

        False while that is not decided: it may be about to complete the recording, or busy.
        """
        ingest, feed = self._ingest, self._feed
        assert isinstance(ingest, Attached)
        assert feed is not None
        folder = feed.folder
        assert folder is not None
        if self._switch_to_recording(feed, folder):
            return True
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        if folder.recorder_lives and now - self._lost_at < patience_seconds:
            attached = self._attached_to(ingest, feed, folder)
            if attached is None:
                return False
            ingest.close()
            self._read_through(attached)
        else:
            self._read_alone()
        return True

    def _read_alone(self) -> None:
        """From the begin, into a private recording."""
        assert self._ingest is not None
        assert self._feed is not None
        folder = self._feed.folder
        assert folder is not None
        self._ingest.close()
        self._feed.close()
        self._feed = open_journal(folder)
        self._first = self._last = 0
        if self._following and self._run is not None:
            self._state, self._at = begin(self._run), self._t0
        self._read_through(Ingest(self._feed, ":memory:", history=self._history))
        self._attach_at = time.monotonic() + ATTACH_EVERY_SECONDS
        self._behind = True

    def _update(self, ingest: Ingest | Attached) -> None:
        if ingest.fold is None:
            return
        self._run = ingest.run
        self._last = ingest.last_ordinal
        self._t1 = ingest.fold.state.time
        if self._last == 0:
            self._t0 = self._t1
        if self._first == 0 and self._last > 0:
            if self._history:
                bounds = self.reader.bounds()
                self._first, self._t0 = bounds.first_ordinal, bounds.t0
                self._cursor = StateCursor(self.reader, self._first)
            elif ingest.began is not None:
                self._first, self._t0 = ingest.began
        if self._following:
            self._go_to_newest()

    def _load_recording(self) -> None:
        status, bounds = self.reader.status(), self.reader.bounds()
        self._complete = status.complete
        self._liveness = "lost" if status.lost or not status.complete else "ended"
        self._outcome = status.outcome
        self._run = self.reader.run()
        self._frames.forget_rows()
        self._count_lines()
        self._first, self._last = bounds.first_ordinal, bounds.last_ordinal
        self._t0, self._t1 = bounds.t0, bounds.t1
        self._recorded_resumptions = tuple(self.reader.resumptions())
        self._cursor = StateCursor(self.reader, self._first)
        if self._following:
            self._go_to_newest()

    def _count_lines(self) -> None:
        self._broken, self._mended = self.reader.count_broken_lines()

    def _switch_to_recording(self, feed: Feed, folder: RunFolder) -> bool:
        """Go on in the recorder's recording, once it is complete. False where there is none."""
        ingest = self._ingest
        if ingest is None:
            return False
        opened = open_run(folder)
        if opened.recording is None:
            return False
        reader = open_recording(opened.recording)
        if not self._following:
            self._state = self._own_state()
        ingest.close()
        feed.close()
        self._ingest = self._feed = None
        self.rows = RunRows(reader, None)
        self._load_recording()
        return True

    # The cursor

    def follow(self) -> None:
        """Keep the cursor at the newest event."""
        self._following = True
        self._go_to_newest()

    def hold(self) -> None:
        """Keep the cursor where it is."""
        if self._following:
            self._state = self._own_state()
            self._following = False

    def step(self, delta: int) -> None:
        """Move by `delta` events, back where it is negative."""
        self.seek_ordinal(self._state.ordinal + delta)

    def seek_ordinal(self, n: int) -> None:
        """Move to event `n`, or the nearest one."""
        self.hold()
        if self._last == 0:
            return
        n = max(self._first, min(n, self._reach))
        self._asking(lambda: self._move(n))
        self._at = self._event_time(n)

    def seek_time(self, t: float) -> None:
        """Move to the instant `t`, within the run."""
        self.hold()
        if self._last == 0:
            return
        self._at = max(self._t0, min(t, self._t1))

        def move() -> None:
            n = self._reach if t >= self._t1 else self.reader.ordinal_at(self._at)
            self._move(max(self._first, n))

        self._asking(move)

    def seek_stall(self, direction: int) -> None:
        """Move to the begin of the next stall (1), or of the one before (-1), if there is one."""
        starts = {row.start for row in self._asking(lambda: self.rows.verdicts())}
        if direction > 0:
            target = min((start for start in starts if start > self._at), default=None)
        else:
            target = max((start for start in starts if start < self._at), default=None)
        if target is not None:
            self.seek_time(target)

    def seek_match(self, condition: str, direction: int) -> None:
        """Move to the next event (1), or the one before (-1), that meets this condition on the view
        `events`, if there is one."""
        sql = ((column.name, column.sql.format(t0=repr(self._t0))) for column in EVENTS.computed)
        columns = ", ".join(f'{text} AS "{name}"' for name, text in sql)
        ordinal = self._asking(
            lambda: self.reader.event_where(columns, condition, self._state.ordinal, direction)
        )
        if ordinal is not None:
            self.seek_ordinal(ordinal)

    def advance(self, seconds: float) -> None:
        """Move on by `seconds` of run time."""
        if seconds != 0:
            self.seek_time(self._at + seconds)

    @property
    def _reach(self) -> int:
        """The last event that the cursor can be put on."""
        return self._last if self._ingest is None else min(self._last, self._ingest.recorded[0])

    @property
    def _folded_state(self) -> State | None:
        """After the last event that was read; None of a recording, and before the first."""
        if self._ingest is None or self._ingest.fold is None:
            return None
        return self._ingest.fold.state

    def _go_to_newest(self) -> None:
        newest = self._folded_state
        if newest is not None:
            self._state = newest
        elif self._last > 0:
            self._move(self._last)
        elif self._run is not None:
            self._state = begin(self._run)
        self._at = self._t1

    def _own_state(self) -> State:
        """A copy of the state at the cursor, which the fold does not change."""
        return copy_state(self._state)

    def _move(self, n: int) -> None:
        """Make `_state` the one after event `n`."""
        assert self._run is not None
        assert self._cursor is not None
        self._state = self._cursor.move(self._state, n, self._run)

    def _event_time(self, n: int) -> float:
        """Time of the cursor at event `n`: the latest so far, as a foreign stream's may go back."""
        return self._t1 if n == self._last else self._state.time

    # The frame

    def frame(self, want: Want) -> Frame:
        """Build the frame at the cursor, with what `want` requires."""
        return self._asking(lambda: self._frames.read(self._moment(), self.rows, want))

    def _moment(self) -> Moment:
        feed, ingest = self._feed, self._ingest
        return Moment(
            run=self._run or RunInfo(run_id="", name=self._title),
            state=self._state,
            at=self._at,
            following=self._following,
            bounds=Bounds(self._first, self._last, self._t0, self._t1),
            reach=self._reach,
            derived_until=math.inf if ingest is None else ingest.recorded[1],
            newest=self._folded_state,
            finished=self.finished,
            liveness=self._liveness,
            outcome=self._outcome,
            complete=self._complete,
            broken_lines=self._broken,
            mended_lines=self._mended,
            late_events=feed.late_events if feed is not None else 0,
            feed_notes=feed.notes if feed is not None else (),
            awaited=feed.awaited if feed is not None else "",
            resumptions=self._resumptions(),
            lag_seconds=self.lag_seconds,
        )

    def _resumptions(self) -> tuple[tuple[float, float], ...]:
        """All of the run as far as it is known, wherever the cursor is."""
        newest = self._folded_state
        return self._recorded_resumptions if newest is None else tuple(newest.resumptions)
