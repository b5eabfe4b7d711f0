"""Keyframes of a state: full ones, and between those of a large state only what has changed.

Either way what a keyframe costs follows the events since the one before, not what is alive: a full
one comes only once the changes together have become as large as it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from engine.events import Event, RunInfo, SchedulerEvent
from replay.state.model import State
from replay.state.wire import Only, decode_state, encode_pieces

FEWEST_EVENTS = 1_000
MOST_EVENTS = 10_000
BYTES_PER_EVENT = 20
"""From one keyframe to the next: so few events that folding them takes no time that a person sees,
so many that keyframes of a large state don't outgrow the events."""
SMALL_STATE_BYTES = 32 << 10
"""Compressed. Up to this size every keyframe is full: changes would be hardly smaller."""
LARGEST_STATE_BYTES = 512 << 20
"""Decompressed. More than the state of any run, and small enough to refuse a decompression bomb."""
MOST_INFLATED = 64
UNCHECKED_STATE_BYTES = 16 << 20
"""A larger state has at most `MOST_INFLATED` times the bytes that it has compressed."""
_FAST = 1
"""zlib's level: a third of the time of the usual one, and a tenth more bytes."""
_CHANGES_MANY = frozenset(
    """
    run_resumed scheduler_health_snapshot row_group_checkpointed scheduler_job_completed
    """.split()
)

_encoder = msgspec.msgpack.Encoder()


class Keyframe(NamedTuple):
    """The state of a run after an event."""

    ordinal: int
    t: float
    state: bytes
    """zlib-compressed msgpack of a `State`; among changes, of `KeyframeChanges`."""


class KeyframeChanges(msgspec.Struct):
    """What became of a state since the keyframe before, full or not."""

    state: msgspec.Raw
    """A `State`. Of its tasks and attempts only tasks and attempts that changed."""
    gone_tasks: list[str]
    gone_attempts: list[str]


_changes_decoder = msgspec.msgpack.Decoder(KeyframeChanges)
_CHANGES_HEAD = b"\x83" + _encoder.encode("state")
"""A map of three fields, of which the first is the state."""


class KeyframeMaker:
    """Follows the events of one fold; knows when its next keyframe is due, and makes it."""

    def __init__(self, fixed_every: int | None = None) -> None:
        """`fixed_every`: events from one keyframe to the next; None goes by their size."""
        self._fixed_every = fixed_every
        self.every = fixed_every or FEWEST_EVENTS
        self.ordinal = 0
        """Of the last keyframe."""
        self._tasks: dict[str | None, None] = {}
        self._attempts: dict[str | None, None] = {}
        self._full_due = True
        self._full_bytes = 0
        self._changed_bytes = 0

    def note(self, events: Sequence[Event], run: RunInfo) -> None:
        """These are folded now."""
        if self._full_due:
            return
        tasks, attempts = self._tasks, self._attempts
        for event in events:
            if type(event) is SchedulerEvent:
                tasks[event.task_id] = None
                if event.event_kind in _CHANGES_MANY and _changes_many(event, run):
                    self._full_due = True
                    tasks.clear()
                    attempts.clear()
                    return
            else:
                attempts[event.request_attempt_id] = None  # type: ignore[union-attr]

    def make(self, state: State, ordinal: int) -> tuple[Keyframe, bool]:
        """The keyframe of now, and whether it is a full one."""
        full = self._full_due or self._changed_bytes >= self._full_bytes
        if full:
            data = pack_state(state)
            self._full_bytes, self._changed_bytes = len(data), 0
        else:
            data = self._pack_changes(state)
            self._changed_bytes += len(data)
        self._full_due = self._full_bytes <= SMALL_STATE_BYTES
        self._tasks, self._attempts = {}, {}
        self.ordinal = ordinal
        if self._fixed_every is None:
            by_size = len(data) // BYTES_PER_EVENT
            self.every = min(MOST_EVENTS, max(FEWEST_EVENTS, by_size))
        return Keyframe(ordinal, state.time, data), full

    def _pack_changes(self, state: State) -> bytes:
        """Compressed msgpack of a `KeyframeChanges`, made piece by piece."""
        packer = zlib.compressobj(_FAST)
        packed = [packer.compress(_CHANGES_HEAD)]
        only = Only(self._tasks, self._attempts)
        packed += [packer.compress(piece) for piece in encode_pieces(state, only)]
        for field, ids, alive in (
            ("gone_tasks", self._tasks, state.tasks),
            ("gone_attempts", self._attempts, state.attempts),
        ):
            gone = [name for name in ids if name is not None and name not in alive]
            packed.append(packer.compress(_encoder.encode(field) + _encoder.encode(gone)))
        packed.append(packer.flush())
        return b"".join(packed)


def pack_state(state: State) -> bytes:
    """Compressed msgpack, made piece by piece: what is alive need not be in memory twice."""
    packer = zlib.compressobj(_FAST)
    parts = [packer.compress(piece) for piece in encode_pieces(state)]
    return b"".join((*parts, packer.flush()))


def inflate(packed: bytes) -> bytes:
    """Raises `zlib.error` for what is cut, and `ValueError` for more bytes than a state has."""
    unpacker = zlib.decompressobj()
    most = min(LARGEST_STATE_BYTES, max(UNCHECKED_STATE_BYTES, MOST_INFLATED * len(packed)))
    data = unpacker.decompress(packed, most)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a state has more than {most:,} bytes")
    if not unpacker.eof:
        raise zlib.error("a state is cut")
    return data


def unpack_state(full: bytes, changes: Iterable[bytes] = ()) -> State:
    """The state of a full keyframe with the changes that follow it, in order.

    Raises `zlib.error`, `ValueError` and `msgspec.MsgspecError` for what is none.
    """
    state = decode_state(inflate(full))
    for packed in changes:
        change = _changes_decoder.decode(inflate(packed))
        tasks, attempts = state.tasks, state.attempts
        for name in change.gone_tasks:
            tasks.pop(name, None)
        for name in change.gone_attempts:
            attempts.pop(name, None)
        state = decode_state(change.state)
        tasks.update(state.tasks)
        attempts.update(state.attempts)
        state.tasks, state.attempts = tasks, attempts
    return state


def _changes_many(event: SchedulerEvent, run: RunInfo) -> bool:
    """It may change tasks or attempts that it does not name."""
    if event.event_kind == "scheduler_health_snapshot":
        return event.snapshot is not None and "tasks" in event.snapshot
    ends = event.event_kind in ("run_resumed", "scheduler_job_completed")
    return ends or run.producer != "headgate"
