"""Keyframes whose state has values of the right types that no run has, at any place in it."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from tests.replay.recording.crafted import Crafted

Way = tuple[str | int, ...]

_INTEGERS = (0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -1.0, 1e9, 1e18, 1e308, -1e308, float("nan"), float("inf"), float("-inf"))
_TEXTS = ("", "x" * 100_000, "\x1b[2J\u202e", "a/b/c", "queued", "success")


def states_of(recording: Path) -> list[dict[str, Any]]:
    with duckdb.connect(str(recording), read_only=True) as connection:
        rows = connection.execute("SELECT state FROM keyframes WHERE octet_length(state) > 0")
        return [msgspec.msgpack.decode(zlib.decompress(state)) for (state,) in rows.fetchall()]


def with_odd_state(recording: Path, seed: int) -> Crafted:
    """The state of one keyframe in the place of all, with a few odd values."""
    luck = random.Random(seed)
    state = max(states_of(recording), key=lambda state: len(state["tasks"]))
    for _ in range(luck.randint(1, 4)):
        *way, last = luck.choice(list(_places(state)))
        holder: Any = state
        for step in way:
            holder = holder[step]
        holder[last] = _odd(holder[last], luck)
    packed = zlib.compress(msgspec.msgpack.encode(state))
    return Crafted(f"state {seed}", ["UPDATE keyframes SET state = ?"], values=[packed])


def _places(value: Any, way: Way = ()) -> Iterator[Way]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inside:
        yield (*way, key)
        if isinstance(item, dict | list):
            yield from _places(item, (*way, key))


def _odd(value: Any, luck: random.Random) -> Any:
    if isinstance(value, dict):
        renamed = {f"\x1b{nth}": item for nth, item in enumerate(value.values())}
        others = [{}, dict(list(value.items())[:1]), renamed]
        return luck.choice(others)
    if isinstance(value, list):
        return luck.choice([[], value * 1_000, value[:1]])
    if isinstance(value, str):
        return luck.choice(_TEXTS)
    if isinstance(value, bool) or value is None:
        return luck.choice([None, True, False, *_INTEGERS, *_FLOATS, *_TEXTS])
    return luck.choice(_INTEGERS if isinstance(value, int) else _FLOATS)
