"""`EventWriter`: writes a run's events one by one, numbered as a producer numbers them."""

from __future__ import annotations

from typing import Any

from engine.events import (
    Event,
    RequestEvent,
    RequestResource,
    RuntimeCorrelation,
    SchedulerEvent,
)


class EventWriter:
    """The events so far, and what the next ones need: the time, numbers and ids.

    Whoever writes streams for tests derives from it and adds what its own work looks like.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        """Monotonic seconds; the time of the next event."""
        self.events: list[Event] = []
        self.sequences = {"scheduler": 0, "request": 0}
        """The last number of each stream; what is added to it is a loss."""
        self._ids: dict[str, int] = {}

    def new_id(self, letter: str) -> str:
        """`t1`, `t2`, ... for each letter, as the engine gives them out."""
        self._ids[letter] = self._ids.get(letter, 0) + 1
        return f"{letter}{self._ids[letter]}"

    def write_scheduler(
        self,
        kind: str,
        correlation: RuntimeCorrelation | None,
        diagnostics: dict[str, Any],
        *,
        task_id: str | None = None,
        execution_id: str | None = None,
        lease_id: str | None = None,
        reason: str | None = None,
        snapshot: dict[str, Any] | None = None,
    ) -> SchedulerEvent:
        self.sequences["scheduler"] += 1
        event = SchedulerEvent(
            kind,
            self.now,
            self.sequences["scheduler"],
            correlation,
            task_id,
            execution_id,
            lease_id,
            None,
            reason,
            snapshot,
            diagnostics,
        )
        self.events.append(event)
        return event

    def write_request(
        self,
        kind: str,
        resource: RequestResource,
        correlation: RuntimeCorrelation | None,
        diagnostics: dict[str, Any],
        *,
        attempt_id: str | None = None,
        lease_id: str | None = None,
        outcome: str | None = None,
        pressure: dict[str, Any] | None = None,
    ) -> RequestEvent:
        self.sequences["request"] += 1
        event = RequestEvent(
            kind,
            self.now,
            self.sequences["request"],
            correlation,
            attempt_id,
            lease_id,
            resource,
            None,
            outcome,
            pressure,
            diagnostics,
        )
        self.events.append(event)
        return event
