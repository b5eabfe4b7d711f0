"""The state after any event, however it is reached."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import Event, RunInfo
from engine.events.run_folder import RunFolder
from replay.playback.cursor import StateCursor
from replay.recording.ingest import Ingest
from replay.sources.feed import open_journal
from replay.state.reducer import begin, reduce


@pytest.mark.parametrize("kept", [True, False])
def test_a_state_is_that_of_its_events(
    play: Callable[..., tuple[RunInfo, list[Event]]],
    write_journal: Callable[..., RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: bool,
) -> None:
    if not kept:
        monkeypatch.setattr("replay.playback.cursor.MOST_TASKS_KEPT", -1)
    run, events = play(4, row_groups=3)
    ingest = Ingest(open_journal(write_journal(run, events)), tmp_path / "r.duckdb", 40)
    while ingest.step():
        pass
    dice = random.Random(4)
    cursor = StateCursor(ingest.reader, 1)
    state = ingest.reader.state_at(len(events))
    for _ in range(40):
        n = max(1, min(len(events), state.ordinal + dice.choice((-60, -5, -1, -1, 1, 30))))
        state = cursor.move(state, n, run)
        truth = begin(run)
        for ordinal, event in enumerate(events[:n], 1):
            reduce(truth, event, ordinal, run)
        assert state == truth
    assert bool(cursor._states) == kept
    ingest.close()
