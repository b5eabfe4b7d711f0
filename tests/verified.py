"""The rules of `headgate verify`, held against events in memory."""

from __future__ import annotations

from collections.abc import Sequence

from engine.events import Event, RunInfo
from replay.verify.verifier import Verifier


def verify_events(run: RunInfo, events: Sequence[Event]) -> Verifier:
    """All events of a run that is over."""
    verifier = Verifier(run)
    verifier.apply(events, 1)
    verifier.finish()
    return verifier
