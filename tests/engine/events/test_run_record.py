"""What a run is in truth, from its record and the presence of its producer."""

from __future__ import annotations

from typing import get_args

import pytest

from engine.events.process_lock import Presence
from engine.events.run_record import RecordedState, RunRecord, run_state

RECORDED = get_args(RecordedState)
PRESENCES = get_args(Presence)


@pytest.mark.parametrize(
    ("presence", "state"), [("alive", "running"), ("dead", "lost"), ("unknown", "unknown")]
)
def test_a_run_without_an_end_is_what_its_producer_is(presence: Presence, state: str) -> None:
    assert run_state("running", presence) == state


@pytest.mark.parametrize("presence", PRESENCES)
@pytest.mark.parametrize("recorded", sorted(set(RECORDED) - {"running"}))
def test_an_end_that_is_written_holds_whoever_lives(
    recorded: RecordedState, presence: Presence
) -> None:
    assert run_state(recorded, presence) == recorded


def test_all_is_imported_once_a_recorder_has_said_so() -> None:
    imported = {state for state in RECORDED if RunRecord("r1", "demo", state).is_imported}
    assert imported == {"complete", "lost"}
