"""`Ingest`: from a feed through the fold into a recording, going on exactly where it left off."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec

from engine.events import RunInfo
from replay.projections.fold import Fold
from replay.recording.batch import BatchDecoder, BatchEncoder, FoldCheckpoint, FoldedBatch
from replay.recording.gc_control import gc_disabled
from replay.recording.keyframes import KeyframeMaker, inflate
from replay.recording.opening import IN_MEMORY, connect_for_writing, tune_for_writing
from replay.recording.reader import RecordingReader
from replay.recording.schema import ImportEnding
from replay.recording.writer import RecordingWriter
from replay.recording.writing_process import MOST_PER_COMMIT, WritingProcess
from replay.sources.base import Batch, BrokenLine, EventSource, SourceError

EVENTS_AT_ONCE = 1_000
"""Read, folded and turned into rows together: so many stay in the processor's cache."""
EVENTS_PER_STEP = 10_000
FOLD_EVERY = 5_000
"""At least so many events after which the fold is kept, for whoever goes on after a crash."""
FOLD_BYTES_PER_EVENT = 100
"""At most so many bytes of it are kept for each event, so that a large one costs no more than the
events do. Folding those again then takes a few times as long as keeping it would have."""
LARGE_FOLD_BYTES = 1 << 20
"""A larger one is compressed."""
MOST_LIVE_TASKS_KEPT = 200_000
"""The fold of more live tasks is not kept: it would take too much memory at once."""
ALONE_EVENTS = 10_000
"""So many are written before it pays to start another process for the rest."""
MOST_HELD = 32 << 20
"""Bytes of batches kept in memory until it has started."""
_REPLAY_EVENTS = 10_000
_ZLIB = b"\x78"


class Ingest:
    """Reads `feed` into a recording at a path, or in a connection that stays the caller's.

    One thread owns it. A `duckdb.Error` from `step` or `finish` leaves what was committed, and this
    object useless: make a new one on the same feed kind and path to go on.
    """

    def __init__(
        self,
        feed: EventSource,
        target: duckdb.DuckDBPyConnection | Path | str,
        keyframe_every: int | None = None,
        two_processes: bool = False,
        history: bool = True,
    ) -> None:
        """`keyframe_every`: events from one keyframe to the next; None goes by their size.

        Without `history` only series, blame and verdicts are kept: enough for the newest frame of
        a run, at a fraction of time and memory. There is no going on behind a last commit then.

        With `two_processes` another one writes what comes once it has started, some time after the
        first `ALONE_EVENTS`. From then on there is no `reader`, and a batch may be committed long
        after its `step`.
        """
        self._feed = feed
        self._keyframes = KeyframeMaker(keyframe_every)
        self._history = history
        self._keeps_fold = target != IN_MEMORY and history
        self._fold_every = FOLD_EVERY
        self._path = None
        if isinstance(target, duckdb.DuckDBPyConnection):
            self._connection = target
            tune_for_writing(target)
        else:
            self._path = target
            self._connection = connect_for_writing(target)
        self._writer = RecordingWriter(self._connection)
        self._two_processes = two_processes
        self._apart: WritingProcess | None = None
        self._starting: WritingProcess | None = None
        self._encoder = BatchEncoder()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.reader = RecordingReader(self._connection)
        self.fold: Fold | None = None
        self._run: RunInfo | None = None
        self._ordinal = 0
        self.began: tuple[int, float] | None = None
        """Ordinal and time of the first event that was read here."""
        self._position: dict[str, int] = {}
        self._fold_ordinal = 0
        self._early_broken: list[BrokenLine] = []
        self.finished = self._writer.meta("ending") is not None
        self._resume()

    @property
    def run(self) -> RunInfo | None:
        """None until the producer has said what it runs."""
        return self._run

    @property
    def last_ordinal(self) -> int:
        """Of the last event that is in; 0 before the first."""
        return self._ordinal

    @property
    def recorded(self) -> tuple[int, float]:
        """Ordinal and time of the last event that rows are derived from."""
        return self._ordinal, 0.0 if self.fold is None else self.fold.state.time

    @property
    def position(self) -> dict[str, int]:
        """Where the source goes on behind the last event that is in."""
        return self._position

    def before_checkpoint(self, action: Callable[[], None]) -> None:
        """What ends the transactions of such cursors: none may be open at a checkpoint."""
        self._writer.before_checkpoint = action

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """One for queries of the same thread, as long as no other process writes."""
        return self._connection.cursor()

    def step(self, limit: int = EVENTS_PER_STEP, between: Callable[[], None] = lambda: None) -> int:
        """Read what there is up to `limit` events, fold, commit. Returns how many events.

        `between` is called now and then before the commit.
        """
        taken = 0
        if not self.finished:
            with gc_disabled():
                while taken < limit and (count := self._take(limit - taken)):
                    taken += count
                    between()
                self._commit()
            self._hand_over()
        return taken

    def finish(self) -> None:
        """Write what is still open, the last keyframe and how it ended; nothing comes after.

        Of a run that has not ended, as far as can be told, no end is written.
        """
        if self.finished:
            return
        if self.fold is None:
            self._begin(self._feed.run or RunInfo(run_id="", name=""), 0)
        assert self.fold is not None
        self._stay_here()
        last = self._nothing_new()
        if self._ordinal > self._keyframes.ordinal:
            self._add_keyframe(last)
        lost = self._feed.liveness == "lost"
        going = self._feed.liveness not in ("ended", "lost")
        last.output = self.fold.finish(self._feed.outcome, lost, going)
        if not self._history:
            last.output.leases, last.output.attempts = [], []
        last.broken = self._early_broken
        last.ending = None if going else ImportEnding(self._feed.outcome, lost)
        self._append(last)
        self._commit()
        if self._apart is None:
            self._writer.checkpoint()
        else:
            self._apart.finish()
        self.finished = True

    def checkpoint(self) -> None:
        """Move what is committed from the write-ahead log into the file."""
        if self._apart is None:  # else the other side sees to that
            self._writer.checkpoint()

    def keep_fold(self) -> None:
        """Keep the fold as it is now, so that whoever goes on need not fold events again."""
        if self.fold is not None and not self.finished:
            self._stay_here()
            kept = self._nothing_new()
            if self._ordinal > self._fold_ordinal:
                self._add_fold(kept)
            self._append(kept)
            self._commit()

    def close(self) -> None:
        """What is committed stays; with two processes, that may be less than the steps took in."""
        if self._starting is not None:
            self._starting.close()
        if self._apart is not None:
            self._apart.close()
        else:
            self._close_here()

    def _take(self, limit: int) -> int:
        """Poll once and fold. Returns how many events that brought.

        What the first poll tells of the run is what its events are folded with: that is a long one.
        """
        batch = self._feed.poll(limit if self.fold is None else min(limit, EVENTS_AT_ONCE))
        run = self._feed.run
        if self.fold is None:
            if run is None:
                self._early_broken += batch.broken
                return 0
            self._begin(run, batch.first_ordinal - 1)
            batch.broken = self._early_broken + batch.broken
        if batch.events and self.began is None:
            self.began = batch.first_ordinal, batch.events[0].captured_at_monotonic
        if batch.events or batch.broken:
            changed, self._run = (None if run == self._run else run), run
            self._append(self._folded(batch, changed))
            self._position = batch.position
            self._early_broken = []
        return len(batch.events)

    def _begin(self, run: RunInfo, ordinal: int) -> None:
        """An empty recording gets its run and the state before the first event."""
        self.fold = Fold(run)
        self._run = run
        self._ordinal = ordinal
        first = self._nothing_new()
        first.run = run
        self._add_keyframe(first)
        self._add_fold(first)
        self._append(first)

    def _folded(self, batch: Batch, run: RunInfo | None) -> FoldedBatch:
        assert self.fold is not None
        if not self._history:
            return self._derived(self.fold, batch, run)
        folded = FoldedBatch(
            batch.events,
            batch.first_ordinal,
            batch.position,
            broken=batch.broken,
            run=run,
            lines=batch.lines,
        )
        events, first = batch.events, batch.first_ordinal
        while events:
            room = max(1, self._keyframes.every - (self._ordinal - self._keyframes.ordinal))
            some, events = events[:room], events[room:]
            self.fold.apply(some, first)
            self._keyframes.note(some, self.fold.run)
            first += len(some)
            self._ordinal = first - 1
            if len(some) == room:
                self._add_keyframe(folded)
        folded.output = self.fold.drain()
        if self._ordinal - self._fold_ordinal >= self._fold_every:
            self._add_fold(folded)
        return folded

    def _derived(self, fold: Fold, batch: Batch, run: RunInfo | None) -> FoldedBatch:
        fold.apply(batch.events, batch.first_ordinal)
        self._ordinal = batch.first_ordinal + len(batch.events) - 1
        derived = self._nothing_new()
        derived.output, derived.broken, derived.run = fold.drain(), batch.broken, run
        derived.output.leases, derived.output.attempts = [], []
        return derived

    def _add_keyframe(self, batch: FoldedBatch) -> None:
        assert self.fold is not None
        if not self._history:
            return
        keyframe, full = self._keyframes.make(self.fold.state, self._ordinal)
        (batch.keyframes if full else batch.changes).append(keyframe)

    def _add_fold(self, batch: FoldedBatch) -> None:
        """Keep the fold, where somebody may need it and it is not too large."""
        assert self.fold is not None
        if not self._keeps_fold or len(self.fold.state.tasks) > MOST_LIVE_TASKS_KEPT:
            return
        data = self.fold.dump()
        self._fold_every = max(FOLD_EVERY, len(data) // FOLD_BYTES_PER_EVENT)
        self._fold_ordinal = self._ordinal
        if len(data) > LARGE_FOLD_BYTES:
            data = zlib.compress(data, 1)
        batch.fold = FoldCheckpoint(self._ordinal, data)

    def _nothing_new(self) -> FoldedBatch:
        return FoldedBatch([], self._ordinal + 1, self._position)

    def _append(self, batch: FoldedBatch) -> None:
        if self._apart is not None:
            self._apart.append(self._encoder.encode(batch, self._run))
        elif self._starting is not None:
            self._hold(self._encoder.encode(batch, self._run))
        else:
            self._write(batch)

    def _hold(self, batch: bytes) -> None:
        self._held.append(batch)
        self._held_bytes += len(batch)
        if self._held_bytes > MOST_HELD:
            self._write_held()

    def _write_held(self) -> None:
        decoder = BatchDecoder()
        for batch in self._take_held():
            self._write(decoder.decode(batch))
        self._encoder = BatchEncoder()  # whoever decodes what follows has seen none of these

    def _take_held(self) -> list[bytes]:
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def _write(self, batch: FoldedBatch) -> None:
        self._writer.append(batch)
        if self._writer.uncommitted >= MOST_PER_COMMIT:
            self._writer.commit()

    def _commit(self) -> None:
        if self._apart is None:  # else the other side sees to that
            self._writer.commit()

    def _hand_over(self) -> None:
        """Once it pays, have another process started, and once it is, have it write."""
        if not self._two_processes or self._path is None or self._apart is not None:
            return
        if self._starting is None:
            if self._ordinal >= ALONE_EVENTS:
                try:
                    self._starting = WritingProcess()
                except OSError:
                    self._two_processes = False  # this machine has no room for another process
        elif self._starting.ready:
            self._writer.commit()
            self._close_here()
            self._apart, self._starting = self._starting, None
            self._apart.open(self._path)
            for batch in self._take_held():
                self._apart.append(batch)

    def _stay_here(self) -> None:
        """What is left is too little for another process."""
        if self._starting is not None:
            self._starting.close()
            self._starting = None
            self._write_held()

    def _close_here(self) -> None:
        self.reader.close()
        if self._path is not None:
            self._connection.close()

    def _resume(self) -> None:
        """Go on behind the last commit: the kept fold, and the events since, folded again.

        What those derive is in the recording already, whatever batches it came in.
        """
        point = self._writer.resume_point()
        stored = self._writer.meta("run")
        if point is None or stored is None or self.finished:
            return
        try:
            run = self._run = msgspec.json.decode(stored, type=RunInfo)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise SourceError(
                "The recording is damaged: it does not say of which run.", 4
            ) from error
        first, self._keyframes.ordinal = self.reader.keyframe_bounds()
        fold, done, foreign = Fold(run), first, False
        if point.fold is not None:
            try:
                fold, done = Fold.load(_unpacked(point.fold.data)), point.fold.ordinal
            except (
                ValueError,
                RecursionError,
                zlib.error,
            ):  # of another version: all is folded again
                foreign = True
        while done < point.ordinal:
            until = min(done + _REPLAY_EVENTS, point.ordinal)
            events = [event for _, event in self.reader.events(done + 1, until)]
            fold.apply(events, done + 1)
            fold.drain()
            done = until
        if foreign:
            fold.forget_stretches(self.reader.blame_end())
        self.fold = fold
        self._ordinal = point.ordinal
        self._position = point.position
        self._fold_ordinal = 0 if point.fold is None else point.fold.ordinal
        if point.position:
            try:
                self._feed.resume(point.position, point.ordinal + 1)
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(
                    "The recording is damaged: the place it names in its source is none.", 4
                ) from error


def _unpacked(fold: bytes) -> bytes:
    """A large fold is kept compressed; what `Fold.dump` makes never begins like that."""
    return inflate(fold) if fold[:1] == _ZLIB else fold
