"""`FoldedBatch`: what goes into a recording together, and how it travels to another process."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.projections.fold import FoldOutput
from replay.recording.keyframes import Keyframe
from replay.recording.line_rows import LineRows
from replay.recording.schema import ImportEnding
from replay.sources.base import BrokenLine


class FoldCheckpoint(NamedTuple):
    """A fold as it was after an event, from which an import can go on."""

    ordinal: int
    data: bytes


class FoldedBatch(msgspec.Struct):
    """Events of a run with all that follows from them."""

    events: list[Event]
    first_ordinal: int
    """Of `events[0]`; where there are none, of the next event to come."""
    position: dict[str, int]
    """Where their source goes on, as its `Batch` gave it."""
    output: FoldOutput = msgspec.field(default_factory=FoldOutput)
    broken: list[BrokenLine] = []
    keyframes: list[Keyframe] = []
    fold: FoldCheckpoint | None = None
    run: RunInfo | None = None
    """Only where it changed."""
    ending: ImportEnding | None = None
    """Nothing comes after this batch."""
    changes: list[Keyframe] = []
    """Keyframes of what has changed."""
    lines: list[bytes] = []
    """The lines of `events`, where they stand as headgate writes them."""
    event_rows: list[tuple[object, ...]] = []
    """In place of `events`, rows that were made of their lines."""

    @property
    def size(self) -> int:
        """Number of events."""
        return len(self.events) or len(self.event_rows)

    @property
    def last_ordinal(self) -> int:
        return self.first_ordinal + self.size - 1


class _Wire(msgspec.Struct, array_like=True):
    """Where a producer may have put any number it is JSON: an integer of msgpack has 64 bits. The
    rest is msgpack: JSON has no infinity."""

    lines: bytes
    """Of the events, as they were read."""
    header: bytes
    """The run whose header completes the lines; empty where that is known."""
    events: bytes
    """In place of lines."""
    run: bytes
    rest: FoldedBatch


_json = msgspec.json.Encoder()
_wire_encoder = msgspec.msgpack.Encoder()
_wire_decoder = msgspec.msgpack.Decoder(_Wire)
_events_decoder = msgspec.json.Decoder(list[SchedulerEvent | RequestEvent])
_run_decoder = msgspec.json.Decoder(RunInfo | None)


class BatchEncoder:
    """Batches for one `BatchDecoder`, which gets all of them in order."""

    def __init__(self) -> None:
        self._header: RunInfo | None = None

    def encode(self, batch: FoldedBatch, header: RunInfo | None = None) -> bytes:
        """`header`: the run that the lines of the batch were read under."""
        rest = msgspec.structs.replace(batch, events=[], lines=[], run=None)
        lines = events = stated = b""
        if batch.lines and header is not None:
            lines = b"\n".join(batch.lines)
            if header is not self._header:
                self._header = header
                stated = _json.encode(header)
        elif batch.events:
            events = _json.encode(batch.events)
        run = b"" if batch.run is None else _json.encode(batch.run)
        return _wire_encoder.encode(_Wire(lines, stated, events, run, rest))


class BatchDecoder:
    """Inverse of `BatchEncoder`; of events that came as lines there are rows alone."""

    def __init__(self) -> None:
        self._rows: LineRows | None = None

    def decode(self, data: bytes | memoryview) -> FoldedBatch:
        wire = _wire_decoder.decode(data)
        batch = wire.rest
        if wire.header:
            self._rows = LineRows(msgspec.json.decode(wire.header, type=RunInfo))
        if wire.lines and self._rows is not None:
            batch.event_rows = self._rows.of(wire.lines, batch.first_ordinal)
        if wire.events:
            batch.events = _events_decoder.decode(wire.events)
        if wire.run:
            batch.run = _run_decoder.decode(wire.run)
        return batch
