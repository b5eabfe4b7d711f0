"""`FoldedBatch`: what goes into a recording together, and how it travels to another process."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.projections.fold import FoldOutput
from replay.recording.keyframes import Keyframe
from replay.recording.schema import Ending
from replay.sources.base import BrokenLine


class FoldCheckpoint(NamedTuple):
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
    ending: Ending | None = None
    """Nothing comes after this batch."""
    changes: list[Keyframe] = []
    """Keyframes of what has changed."""

    @property
    def last_ordinal(self) -> int:
        return self.first_ordinal + len(self.events) - 1


class _Wire(msgspec.Struct, array_like=True):
    """Where a producer may have put any number it is JSON: an integer of msgpack has 64 bits. The
    rest is msgpack: JSON has no infinity."""

    events: bytes
    run: bytes
    rest: FoldedBatch


_json = msgspec.json.Encoder()
_wire_encoder = msgspec.msgpack.Encoder()
_wire_decoder = msgspec.msgpack.Decoder(_Wire)
_events_decoder = msgspec.json.Decoder(list[SchedulerEvent | RequestEvent])
_run_decoder = msgspec.json.Decoder(RunInfo | None)


def encode_batch(batch: FoldedBatch) -> bytes:
    rest = msgspec.structs.replace(batch, events=[], run=None)
    return _wire_encoder.encode(_Wire(_json.encode(batch.events), _json.encode(batch.run), rest))


def decode_batch(data: bytes | memoryview) -> FoldedBatch:
    """Inverse of `encode_batch`."""
    wire = _wire_decoder.decode(data)
    batch = wire.rest
    batch.events = _events_decoder.decode(wire.events)
    batch.run = _run_decoder.decode(wire.run)
    return batch
