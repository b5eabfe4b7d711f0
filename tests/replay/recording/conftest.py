from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from engine.events import Event, RunInfo
from replay.projections.fold import Fold, FoldOutput
from replay.recording.reader import RecordingReader

Derived = Callable[[RunInfo, Sequence[Event]], FoldOutput]
Kept = Callable[[RecordingReader], FoldOutput]


@pytest.fixture
def derived() -> Derived:
    """What one fold over all events derives, in one go."""

    def fold_all(run: RunInfo, events: Sequence[Event]) -> FoldOutput:
        fold = Fold(run)
        fold.apply(events, 1)
        parts = [fold.drain(), fold.finish("success", False)]
        return in_order(
            FoldOutput(
                [row for part in parts for row in part.leases],
                [row for part in parts for row in part.attempts],
                [row for part in parts for row in part.rollup],
                [row for part in parts for row in part.blame],
                [row for part in parts for row in part.verdicts],
            )
        )

    return fold_all


@pytest.fixture
def kept() -> Kept:
    """All that a recording holds beside its events."""

    def read(reader: RecordingReader) -> FoldOutput:
        everything = 1_000_000
        leases, attempts = reader.bars(float("-inf"), float("inf"), everything)
        blame = reader.blame(-everything, everything, "cell")
        blame += reader.blame(-everything, everything, "run")
        rollup = reader.rollup(-everything, everything)
        return in_order(FoldOutput(leases, attempts, rollup, blame, reader.verdicts()))

    return read


def in_order(output: FoldOutput) -> FoldOutput:
    """Rows sorted by their text, so that the order they were written in does not matter."""
    return FoldOutput(
        *(sorted(getattr(output, name), key=repr) for name in FoldOutput.__struct_fields__)
    )
