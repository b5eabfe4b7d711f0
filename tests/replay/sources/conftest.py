"""Fixtures of the sources: a clock, and feeds that are closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from replay.sources.feed import Feed, open_lines
from tests.replay.sources.json_lines import Clock, Open


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="open_feed")
def _open_feed(clock: Clock) -> Iterator[Open]:
    feeds = []

    def open_feed(path: Path, growing: bool | None = None) -> Feed:
        feeds.append(open_lines(path, growing, clock=clock))
        return feeds[-1]

    yield open_feed
    for feed in feeds:
        feed.close()
