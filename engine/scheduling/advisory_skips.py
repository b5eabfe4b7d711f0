"""`AdvisorySkips`: which heads were left where they are because their provider is pressed?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.scheduling.live_tasks import LiveTasks
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.types import Eligibility, SchedulableTask


class AdvisorySkips:
    """Collects what one look at the queue came past, and tells it once a peer was chosen instead:
    once for each task until it gets its lease."""

    def __init__(self, events: TaskEvents) -> None:
        self._events = events
        self._advice: dict[str, Mapping[str, Any]] = {}

    def note(self, item: SchedulableTask, verdict: Eligibility) -> None:
        advisory = verdict.diagnostics.get("advisory")
        if advisory is not None:
            self._advice[item.task_id] = advisory

    def tell(self, chosen: SchedulableTask | None, live: LiveTasks, at: float) -> None:
        """`chosen` was selected, or nothing was; where it was passed over itself, nobody gave way
        to it."""
        if not self._advice:
            return
        advice, self._advice = self._advice, {}
        if chosen is None or chosen.task_id in advice:
            return
        for task_id, advisory in advice.items():
            task = live[task_id]
            if not task.passed_over:
                task.passed_over = True
                self._events.tell(
                    "request_pressure_advisory_skipped",
                    task,
                    at,
                    "cooldown" if "blocked_until" in advisory else "waiters",
                    {**advisory, "peer": chosen.task_id},
                )
