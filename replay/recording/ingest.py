"""`Ingest`: from a feed through the fold into a recording, going on exactly where it left off."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path

import duckdb
import msgspec

from engine.events import RunInfo
from replay.fold import Fold, FoldOutput
from replay.recording.reader import RecordingReader
from replay.recording.schema import Ending, connect_for_writing, tune_for_writing
from replay.recording.writer import FoldDump, Keyframe, RecordingWriter
from replay.sources.base import Batch, BrokenLine, Feed
from replay.state import State

_REPLAY_EVENTS = 10_000


class Ingest:
    """Reads `feed` into a recording at a path, or in a connection that stays the caller's.

    One thread owns it. A `duckdb.Error` from `step` or `finish` leaves what was committed, and this
    object useless: make a new one on the same feed kind and path to go on.
    """

    def __init__(
        self,
        feed: Feed,
        target: duckdb.DuckDBPyConnection | Path | str,
        keyframe_every: int = 10_000,
    ) -> None:
        self._feed = feed
        self._keyframe_every = keyframe_every
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

    def step(self, limit: int = 10_000) -> int:
        """Poll once, fold, commit. Returns how many events that brought."""
        if self.finished:
            return 0
        room = self._keyframe_every - (self._ordinal - self._keyframe_ordinal)
        batch = self._feed.poll(max(1, min(limit, room)))
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
        keyframe = None
        if self._ordinal > self._keyframe_ordinal:
            keyframe = self._keyframe(self.fold.state)
        lost = self._feed.liveness == "lost"
        output = self.fold.finish(self._feed.outcome, lost)
        self._writer.append(
            [],
            self._ordinal + 1,
            output,
            self._position,
            broken=self._early_broken,
            keyframe=keyframe,
            ending=Ending(self._feed.outcome, lost),
        )
        self._writer.forget_fold()
        self._writer.checkpoint()
        self.finished = True

    def checkpoint(self) -> None:
        """Move what is committed from the write-ahead log into the file."""
        self._writer.checkpoint()

    def keep_fold(self) -> None:
        """Keep the fold as it is now, so that whoever goes on need not fold events again."""
        if self.fold is not None and not self.finished:
            dump = FoldDump(self._ordinal, self.fold.dump())
            nothing = FoldOutput([], [], [], [], [])
            self._writer.append([], self._ordinal + 1, nothing, self._position, fold=dump)

    def close(self) -> None:
        self.reader.close()
        if self._owned:
            self._connection.close()

    def _begin(self, run: RunInfo, ordinal: int) -> None:
        """An empty recording gets its run and the state before the first event."""
        self.fold = Fold(run)
        self._run = run
        self._ordinal = self._keyframe_ordinal = ordinal
        nothing = FoldOutput([], [], [], [], [])
        keyframe = self._keyframe(self.fold.state)
        self._writer.append([], ordinal + 1, nothing, self._position, keyframe=keyframe, run=run)

    def _commit(self, batch: Batch, run: RunInfo | None) -> None:
        assert self.fold is not None
        self.fold.apply(batch.events, batch.first_ordinal)
        output = self.fold.drain()
        self._ordinal = batch.first_ordinal + len(batch.events) - 1
        keyframe = fold = None
        if self._ordinal - self._keyframe_ordinal >= self._keyframe_every:
            keyframe = self._keyframe(self.fold.state)
            fold = FoldDump(self._ordinal, self.fold.dump())
        self._writer.append(
            batch.events,
            batch.first_ordinal,
            output,
            batch.position,
            broken=batch.broken,
            keyframe=keyframe,
            fold=fold,
            run=run,
        )
        self._position = batch.position
        self._early_broken = []
        if keyframe is not None:
            self._keyframe_ordinal = keyframe.ordinal
        if run is not None:
            self._run = run

    def _keyframe(self, state: State) -> Keyframe:
        data = zlib.compress(msgspec.msgpack.encode(state))
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
        if point.position:
            self._feed.resume(point.position, point.ordinal + 1)
