"""`Ingest`: from a feed through the fold into a recording, going on exactly where it left off."""

from __future__ import annotations

import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import duckdb
import msgspec

from engine.events import RunInfo
from replay.collection import without_collection
from replay.fold import Fold, FoldOutput
from replay.recording.reader import RecordingReader
from replay.recording.schema import Ending, connect_for_writing, tune_for_writing
from replay.recording.writer import FoldDump, Keyframe, Prepared, RecordingWriter, prepared
from replay.sources.base import Batch, BrokenLine, Feed
from replay.state import State

FEWEST_EVENTS = 1_000
MOST_EVENTS = 10_000
BYTES_PER_EVENT = 20
"""From one keyframe to the next: so few events that folding them takes no time that a person sees,
so many that keyframes of a large state don't outgrow the events."""
EVENTS_AT_ONCE = 10_000
FOLD_EVERY = 5_000
"""Events after which the fold itself is kept, for whoever goes on after a crash."""
CHECKPOINT_EVERY = 2 * 122_880
"""Events after which the write-ahead log goes into the file, so that memory does not hold them: two
row groups of DuckDB, which it writes as they are."""
_REPLAY_EVENTS = 10_000
_FAST = 1
"""zlib's level: a third of the time of the usual one, and a tenth more bytes."""


class Ingest:
    """Reads `feed` into a recording at a path, or in a connection that stays the caller's.

    One thread owns it. A `duckdb.Error` from `step` or `finish` leaves what was committed, and this
    object useless: make a new one on the same feed kind and path to go on.
    """

    def __init__(
        self,
        feed: Feed,
        target: duckdb.DuckDBPyConnection | Path | str,
        keyframe_every: int | None = None,
        overlap: bool = False,
    ) -> None:
        """`keyframe_every`: events from one keyframe to the next; None goes by their size.

        With `overlap` a batch is written while the next one is folded: `last_ordinal` then runs
        ahead of what `reader` sees.
        """
        self._feed = feed
        self._fixed_every = keyframe_every
        self._keyframe_every = keyframe_every or FEWEST_EVENTS
        self._writing = ThreadPoolExecutor(1, "recording") if overlap else None
        self._written: Future[None] | None = None
        self._owned = not isinstance(target, duckdb.DuckDBPyConnection)
        if isinstance(target, duckdb.DuckDBPyConnection):
            self._connection = target
            tune_for_writing(target)
        else:
            self._connection = connect_for_writing(target)
        self._writer = RecordingWriter(self._connection)
        self.reader = RecordingReader(self._connection)
        self.fold: Fold | None = None
        self._run: RunInfo | None = None
        self._ordinal = 0
        self._position: dict[str, int] = {}
        self._keyframe_ordinal = 0
        self._fold_ordinal = 0
        self._checkpoint_ordinal = 0
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

    def step(self, limit: int = EVENTS_AT_ONCE) -> int:
        """Poll once, fold, commit. Returns how many events that brought."""
        if self.finished:
            return 0
        with without_collection():
            return self._step(limit)

    def _step(self, limit: int) -> int:
        batch = self._feed.poll(limit)
        run = self._feed.run
        if self.fold is None:
            if run is None:
                self._early_broken += batch.broken
                return 0
            self._begin(run, batch.first_ordinal - 1)
            batch.broken = self._early_broken + batch.broken
        if batch.events or batch.broken:
            self._commit(batch, None if run == self._run else run)
        return len(batch.events)

    def finish(self) -> None:
        """Write what is still open, the last keyframe and how it ended; nothing comes after."""
        if self.finished:
            return
        if self.fold is None:
            self._begin(self._feed.run or RunInfo(run_id="", name=""), 0)
        assert self.fold is not None
        self._await_writing()
        keyframes = []
        if self._ordinal > self._keyframe_ordinal:
            keyframes.append(self._keyframe(self.fold.state))
        lost = self._feed.liveness == "lost"
        output = self.fold.finish(self._feed.outcome, lost)
        self._writer.append(
            [],
            self._ordinal + 1,
            output,
            self._position,
            broken=self._early_broken,
            keyframes=keyframes,
            ending=Ending(self._feed.outcome, lost),
        )
        self._writer.forget_fold()
        self._writer.checkpoint()
        self.finished = True

    def checkpoint(self) -> None:
        """Move what is committed from the write-ahead log into the file."""
        self._await_writing()
        self._writer.checkpoint()
        self._checkpoint_ordinal = self._ordinal

    def keep_fold(self) -> None:
        """Keep the fold as it is now, so that whoever goes on need not fold events again."""
        self._await_writing()
        if self.fold is not None and not self.finished:
            dump = FoldDump(self._ordinal, self.fold.dump())
            nothing = FoldOutput([], [], [], [], [])
            self._writer.append([], self._ordinal + 1, nothing, self._position, fold=dump)

    def close(self) -> None:
        if self._writing is not None:
            self._writing.shutdown()
        self.reader.close()
        if self._owned:
            self._connection.close()

    def _begin(self, run: RunInfo, ordinal: int) -> None:
        """An empty recording gets its run and the state before the first event."""
        self.fold = Fold(run)
        self._run = run
        self._ordinal = self._keyframe_ordinal = self._fold_ordinal = ordinal
        nothing = FoldOutput([], [], [], [], [])
        keyframes = [self._keyframe(self.fold.state)]
        self._writer.append([], ordinal + 1, nothing, self._position, keyframes=keyframes, run=run)

    def _commit(self, batch: Batch, run: RunInfo | None) -> None:
        assert self.fold is not None
        keyframes = []
        events, first = batch.events, batch.first_ordinal
        while events:
            room = max(1, self._keyframe_every - (self._ordinal - self._keyframe_ordinal))
            some, events = events[:room], events[room:]
            self.fold.apply(some, first)
            first += len(some)
            self._ordinal = first - 1
            if len(some) == room:
                keyframes.append(self._keyframe(self.fold.state))
                self._keyframe_ordinal = self._ordinal
        output, fold = self.fold.drain(), None
        if self._ordinal - self._fold_ordinal >= FOLD_EVERY:
            fold = FoldDump(self._ordinal, self.fold.dump())
            self._fold_ordinal = self._ordinal
        rows = prepared(
            batch.events,
            batch.first_ordinal,
            output,
            batch.position,
            broken=batch.broken,
            keyframes=keyframes,
            fold=fold,
            run=run,
        )
        self._await_writing()
        checkpoint = self._ordinal - self._checkpoint_ordinal >= CHECKPOINT_EVERY
        if checkpoint:
            self._checkpoint_ordinal = self._ordinal
        if self._writing is None:
            self._write(rows, checkpoint)
        else:
            self._written = self._writing.submit(self._write, rows, checkpoint)
        self._position = batch.position
        self._early_broken = []
        if run is not None:
            self._run = run

    def _write(self, rows: Prepared, checkpoint: bool) -> None:
        self._writer.commit(rows)
        if checkpoint:
            self._writer.checkpoint()

    def _await_writing(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def _keyframe(self, state: State) -> Keyframe:
        data = zlib.compress(msgspec.msgpack.encode(state), _FAST)
        if self._fixed_every is None:
            by_size = len(data) // BYTES_PER_EVENT
            self._keyframe_every = min(MOST_EVENTS, max(FEWEST_EVENTS, by_size))
        return Keyframe(self._ordinal, state.time, data)

    def _resume(self) -> None:
        """Go on behind the last commit: the kept fold, and the events since, folded again.

        What those derive is in the recording already, whatever batches it came in.
        """
        point = self._writer.resume_point()
        stored = self._writer.meta("run")
        if point is None or stored is None or self.finished:
            return
        run = self._run = msgspec.json.decode(stored, type=RunInfo)
        first, last = self.reader.keyframe_bounds()
        fold, done = Fold(run), first
        if point.fold is not None:
            with suppress(ValueError):  # kept by another version: all events are folded again
                fold, done = Fold.load(run, point.fold.data), point.fold.ordinal
        while done < point.ordinal:
            until = min(done + _REPLAY_EVENTS, point.ordinal)
            events = [event for _, event in self.reader.events(done + 1, until)]
            fold.apply(events, done + 1)
            fold.drain()
            done = until
        self.fold = fold
        self._ordinal = point.ordinal
        self._position = point.position
        self._keyframe_ordinal = last
        self._fold_ordinal = self._checkpoint_ordinal = point.ordinal
        if point.position:
            self._feed.resume(point.position, point.ordinal + 1)
