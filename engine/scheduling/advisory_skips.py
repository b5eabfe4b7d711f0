"""`AdvisorySkips`: which heads stayed queued because their provider is under pressure?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.scheduling.live_tasks import LiveTasks
from engine.scheduling.task_events import TaskEvents
from engine.scheduling.types import Eligibility, SchedulableTask


class AdvisorySkips:
    """Collects the heads that a selection skipped on advice from request pressure, and reports them
    once a peer was selected instead: at most once for each task until it gets a lease."""

    def __init__(self, events: TaskEvents) -> None:
        self._events = events
        self._advice: dict[str, Mapping[str, Any]] = {}

    def note(self, item: SchedulableTask, verdict: Eligibility) -> None:
        """Remembers the advice for which `verdict` passes the task over, if it does."""
        advisory = verdict.diagnostics.get("advisory")
        if advisory is not None:
            self._advice[item.task_id] = advisory

    def report(self, chosen: SchedulableTask | None, live: LiveTasks, at: float) -> None:
        """Emit `request_pressure_advisory_skipped` for the heads that gave way to a peer.

        Args:
            chosen: The selected task; None if nothing was selected. If it was skipped itself, no
                head gave way to it.
            live: The live tasks.
            at: Time of the selection, in monotonic seconds.
        """
        if not self._advice:
            return
        advice, self._advice = self._advice, {}
        if chosen is None or chosen.task_id in advice:
            return
        for task_id, advisory in advice.items():
            task = live[task_id]
            if not task.skip_reported:
                task.skip_reported = True
                self._events.emit(
                    "request_pressure_advisory_skipped",
                    task,
                    at,
                    "cooldown" if "blocked_until" in advisory else "waiters",
                    {**advisory, "peer": chosen.task_id},
                )
