"""Streams of a run for the tests of what reads them."""

from __future__ import annotations

import pytest

from engine.events import Event, RunInfo
from tests.replay.random_engine import Play, RandomEngine


@pytest.fixture(scope="session")
def play() -> Play:
    """`play(seed, row_groups=2, steps=None) -> (run, events)`."""

    def play(
        seed: int, row_groups: int = 2, steps: int | None = None
    ) -> tuple[RunInfo, list[Event]]:
        engine = RandomEngine(seed, row_groups)
        return engine.run, engine.play(steps)

    return play
