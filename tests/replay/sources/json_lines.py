"""A clock, and what is read from feeds, for tests on JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.events import (
    Event,
)
from replay.sources.base import BrokenLine
from replay.sources.feed import Feed


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Open = Callable[..., Feed]


def encoded(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def drain(feed: Feed) -> tuple[list[Event], list[BrokenLine]]:
    events: list[Event] = []
    broken: list[BrokenLine] = []
    while True:
        batch = feed.poll()
        events += batch.events
        broken += batch.broken
        if not batch.events:
            return events, broken


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def identities(events: list[Event]) -> list[tuple[str, float, int]]:
    return [(e.event_kind, e.captured_at_monotonic, e.sequence) for e in events]
