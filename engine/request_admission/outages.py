"""`Outages`: when a resource is out, when it is probed, and when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.clock import Clock
from engine.events.failures import scope_of
from engine.identity import RequestResourceKey
from engine.request_admission.attempt import RequestAttempt
from engine.request_admission.availability import CallTally, FailureMark
from engine.request_admission.degraded import is_unforeseen
from engine.request_admission.reporting import RequestReporter
from engine.request_admission.resources import RequestResources, ResourceState
from engine.request_admission.types import FailureReport, RequestReleaseOutcome


class Outages:
    """Passes the ends of calls to the `Availability` of each resource, sets the timer of its next
    probe, and reports. The controller issues the lease of a probe and reopens the queues."""

    def __init__(
        self,
        resources: RequestResources,
        report: RequestReporter,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.on_probe_due: Callable[[RequestResourceKey], object] | None = None
        """Called when a resource that is out is to be asked whether it answers again; the callee
        acquires a probe lease. Without it no resource is ever taken to be out."""
        self.on_held: Callable[[], object] = lambda: None
        """Called when an attempt begins to wait for a resource that is suspended."""
        self._resources = resources
        self._report = report
        self._clock = clock
        self._loop = loop
        self._shut_down = False

    def failure_mark(self, resource: RequestResourceKey) -> FailureMark:
        """Taken before a failed call is released; see `blames`."""
        return self._resources[resource].availability.mark()

    def blames(self, resource: RequestResourceKey, mark: FailureMark) -> bool | None:
        """`Availability.blames` of a resource."""
        return self._resources[resource].availability.blames(mark)

    def tally(self, resource: RequestResourceKey) -> CallTally:
        return self._resources[resource].availability.tally()

    def held_attempts(self) -> int:
        """Attempts that wait for a resource that is suspended."""
        return sum(state.waiters() for state in self._resources if state.suspended)

    def suspensions(self) -> list[tuple[RequestResourceKey, FailureReport, float | None]]:
        """The suspended resources, what they answer, and in how many seconds they are back."""
        now = self._clock.monotonic()
        suspended = []
        for state in self._resources:
            cause, returns = state.availability.cause, state.availability.returns_at
            if state.suspended and cause is not None:
                suspended.append((state.key, cause, None if returns is None else returns - now))
        return suspended

    def begin_probe(self, resource: RequestResourceKey) -> ResourceState | None:
        """The resource, marked as probed; None if it is not to be probed."""
        state = self._resources.get(resource)
        if state is None or self._shut_down:
            return None
        availability = state.availability
        if availability.state != "out" or availability.probing:
            return None
        availability.begin_probe()
        return state

    def on_call_ended(
        self, state: ResourceState, outcome: RequestReleaseOutcome, new_cooldown: bool, now: float
    ) -> None:
        """A call other than a probe ended: does the resource still answer?

        Args:
            state: The resource.
            outcome: How the call ended.
            new_cooldown: It began a cooldown after the last one had ended.
            now: Monotonic seconds.
        """
        availability = state.availability
        if outcome.kind == "success":
            availability.on_answer()
            state.failure_share.note(False)
            return
        report = outcome.failure
        if report is None or self.on_probe_due is None or self._shut_down:
            return
        if availability.state == "up" and is_unforeseen(report.failure):
            degraded = state.failure_share.note(True)
            if degraded is not None:
                self._report.degraded(state, *degraded, report, now)
        # A request that is refused by itself begins no cooldown, and waits in its own time.
        new_cooldown = new_cooldown or not outcome.cuts
        if availability.on_failure(now, report, state.limits.limit, new_cooldown=new_cooldown):
            if outcome.kind == "rate_limited":
                availability.delay_probe(state.limits.blocked_until)
            self._report.outage(state, "opened", now)
            self._arm_probe(state)

    def on_probe_ended(
        self, attempt: RequestAttempt, outcome: RequestReleaseOutcome, now: float
    ) -> None:
        """A probe ended: the resource is back, still out, or suspended."""
        state = attempt.state
        availability = state.availability
        report = outcome.failure
        if availability.state != "out":
            return
        answered = report is not None and scope_of(report.failure) in ("request", "answer")
        if outcome.kind == "success" or answered:
            self._report.outage(state, "closed", now)
            lasted = now - availability.since
            availability.on_probe_answered()
            changes = state.limits.after_outage(now, lasted)
            if changes:
                self._report.limit_changed(state, changes, None, now)
        elif report is None:
            availability.on_probe_lost(now)
            self._arm_probe(state)
        elif availability.on_probe_failed(
            now, report, outcome.retry_after_seconds, state.limits.round_trip
        ):
            self._report.suspended(state, now)
            self.on_held()
        else:
            self._report.outage(state, "probe_failed", now)
            self._arm_probe(state)

    def shutdown(self) -> None:
        """Probe nothing any more."""
        self._shut_down = True
        for state in self._resources:
            if state.probe_timer is not None:
                state.probe_timer.cancel()
                state.probe_timer = None

    def _arm_probe(self, state: ResourceState) -> None:
        due = state.availability.next_probe_at
        if due is None or self._shut_down:
            return
        if state.probe_timer is not None:
            state.probe_timer.cancel()
        state.probe_timer = self._loop.call_at(due, self._on_probe_due, state)

    def _on_probe_due(self, state: ResourceState) -> None:
        state.probe_timer = None
        if self.on_probe_due is not None and state.availability.state == "out":
            self.on_probe_due(state.key)
