"""A state as msgpack and back, piece by piece: its tasks are never all unpacked at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec

from replay.state.live_tasks import PackedTasks
from replay.state.model import State
from replay.state.task import Task

_PIECE_BYTES = 1 << 20

_encoder = msgspec.msgpack.Encoder()
_task_decoder = msgspec.msgpack.Decoder(Task)


class Only(NamedTuple):
    """The tasks and attempts of a state that are wanted, by id."""

    tasks: Collection[str | None]
    attempts: Collection[str | None]


class _Wire(State):
    tasks: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)  # type: ignore[assignment]


_decoder = msgspec.msgpack.Decoder(_Wire)


def encode_pieces(state: State, only: Only | None = None) -> Iterator[bytearray]:
    """Each of about a megabyte. The buffer is used again for the next one.

    Args:
        state: The whole of it, unless `only` says otherwise.
        only: Which of its tasks and attempts; those that it does not have are left out.
    """
    buffer = bytearray()
    names = state.__struct_fields__
    buffer += b"\xde" + len(names).to_bytes(2, "big")
    for name in names:
        value = getattr(state, name)
        _encoder.encode_into(name, buffer, -1)
        if name not in ("tasks", "attempts"):
            _encoder.encode_into(value, buffer, -1)
            continue
        items, number = value.items(), len(value)
        if only is not None:
            wanted = only.tasks if name == "tasks" else only.attempts
            keys = [key for key in wanted if key is not None and key in value]
            items, number = ((key, value[key]) for key in keys), len(keys)
        buffer += b"\xdf" + number.to_bytes(4, "big")
        for key, live in items:
            _encoder.encode_into(key, buffer, -1)
            _encoder.encode_into(live, buffer, -1)
            if len(buffer) >= _PIECE_BYTES:
                yield buffer
                buffer.clear()
    yield buffer


def encode_state(state: State) -> bytes:
    """The whole state at once, as `encode_pieces` gives it piece by piece."""
    return b"".join(bytes(piece) for piece in encode_pieces(state))


def decode_state(data: bytes | msgspec.Raw) -> State:
    """Raises `msgspec.MsgspecError` for what is no state."""
    wire = _decoder.decode(data)
    tasks = PackedTasks()
    for task_id, raw in wire.tasks.items():
        tasks[task_id] = _task_decoder.decode(raw)
    facts = {name: getattr(wire, name) for name in State.__struct_fields__}
    return State(**(facts | {"tasks": tasks}))


def copy_state(state: State) -> State:
    """One that changes of the other don't change."""
    rest = msgspec.structs.replace(state, tasks=PackedTasks())
    copy = decode_state(encode_state(rest))
    copy.tasks = state.tasks.copy()
    return copy
