"""`RequestAttempt`: one acquisition, from its wait to the release of its lease."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from engine.request_admission.budgets import RateBudgets
from engine.request_admission.observed_budgets import Reservation
from engine.request_admission.resources import ResourceState
from engine.request_admission.types import RequestAdmissionItem, RequestAdmissionLease

AttemptPhase = Literal["waiting", "leased", "in_provider", "returned"]


class RequestAttempt:
    """The controller's record of it. `since` is when its phase began; times are monotonic."""

    __slots__ = (
        "acquired_at",
        "cascade",
        "deadline_timer",
        "item",
        "lease",
        "number",
        "observed",
        "phase",
        "probe",
        "reserved",
        "serial",
        "since",
        "started_at",
        "state",
        "wait_started_at",
    )

    def __init__(
        self, serial: int, item: RequestAdmissionItem, state: ResourceState, now: float
    ) -> None:
        self.serial = serial
        """Grows in the order of arrival; also the id of its waiter."""
        self.item = item
        self.state = state
        self.phase: AttemptPhase = "waiting"
        self.since = now
        self.wait_started_at = now
        self.deadline_timer: asyncio.TimerHandle | None = None
        self.lease: RequestAdmissionLease | None = None
        self.acquired_at = now
        self.cascade = 0
        """`AdaptiveRequestLimitState.cascade` at admission."""
        self.number = 0
        """In the order in which calls to its resource went out, from 0."""
        self.started_at: float | None = None
        self.reserved: list[tuple[RateBudgets, float]] = []
        """Budgets that it draws on, with the tokens that each reserved for its answer."""
        self.observed: Reservation | None = None
        """What it took of the budgets that the provider tells of."""
        self.probe = False
        """Whether it finds out if the resource, which is out, answers again."""

    def keyframe(self) -> dict[str, Any] | None:
        """Its entry of a keyframe; None without an attempt id, since no event names it either."""
        context = self.item.event_context
        if context is None or context.request_attempt_id is None:
            return None
        correlation = context.captured_correlation
        row = {
            "attempt_id": context.request_attempt_id,
            "resource": self.state.label,
            "execution_id": context.task_execution_id,
            "column": correlation.task_column if correlation is not None else None,
            "phase": self.phase,
            "since": self.since,
            "wait_started_at": self.wait_started_at,
            "lease_id": self.lease.lease_id if self.lease is not None else None,
            "acquired_at": self.acquired_at if self.lease is not None else None,
            "started_at": self.started_at,
        }
        return {name: value for name, value in row.items() if value is not None}
