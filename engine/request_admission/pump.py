"""`RequestPump`: who waits for a request lease, and what wakes them.

Nothing polls: whatever can make a waiter eligible (a release, the end of a cooldown, a ramp step, a
registration) runs the pump, which issues leases until no waiter is eligible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from engine.clock import Clock
from engine.events import EventStream
from engine.request_admission.attempt import RequestAttempt
from engine.request_admission.ledger import RequestLeaseLedger
from engine.request_admission.queue import RequestQueueSelection
from engine.request_admission.reporting import RequestReporter
from engine.request_admission.resources import (
    ProviderModelState,
    RequestResources,
    ResourceState,
)
from engine.request_admission.types import (
    RequestAdmissionDecision,
    RequestAdmissionDenied,
    RequestAdmissionItem,
    RequestDenialReason,
    RequestWaiter,
    RequestWaitReason,
)

CLOSED = frozenset({"cooldown", "outage", "suspended"})
"""Wait reasons that a run that stops does not wait for."""


class RequestPump:
    """Holds the waiters, and the timers by which a resource or a wait changes by itself. A wait
    ends with a lease, with a denial, or because its task was cancelled."""

    def __init__(
        self,
        resources: RequestResources,
        ledger: RequestLeaseLedger,
        stream: EventStream,
        report: RequestReporter,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._resources = resources
        self._ledger = ledger
        self._stream = stream
        self._report = report
        self._clock = clock
        self._loop = loop
        self._waiting: dict[int, tuple[RequestAttempt, RequestWaiter]] = {}
        self.is_shut_down = False

    def attempts(self) -> Iterator[RequestAttempt]:
        """Those that wait."""
        return (attempt for attempt, _ in self._waiting.values())

    def enqueue(
        self, attempt: RequestAttempt, obstacle: RequestWaitReason, now: float
    ) -> asyncio.Future[RequestAdmissionDecision]:
        """Begin a wait; the future is done at its end."""
        state = attempt.state
        item = attempt.item
        handle: asyncio.Future[RequestAdmissionDecision] = self._loop.create_future()
        deadline = None if item.queue_wait_timeout is None else now + item.queue_wait_timeout
        waiter = RequestWaiter(attempt.serial, item, now, deadline, handle)
        ahead = state.waiters()
        state.peak_waiters = max(state.peak_waiters, ahead + 1)
        if state.wait_reason is None:
            state.wait_reason = obstacle
        self._report.wait_started(attempt, state.wait_reason, ahead)
        state.provider_model.queue.enqueue(waiter)
        if obstacle == "request_rate_budget":
            self._arm_budget(state, now)
        self._waiting[waiter.waiter_id] = (attempt, waiter)
        if deadline is not None:
            attempt.deadline_timer = self._loop.call_at(deadline, self._on_deadline, attempt)
        return handle

    def next_waiter(self, shared: ProviderModelState, now: float) -> RequestQueueSelection | None:
        """The next waiter that is eligible at this instant; None for none."""
        if not len(shared.queue) or shared.in_flight >= shared.static_cap or shared.provider.full:
            return None
        return shared.queue.select_next(lambda key: self._resources[key].has_room(now))

    def run_all(self, shared: ProviderModelState, now: float) -> None:
        """Issue what the end of a call may have made room for."""
        if shared.provider.shared:
            for model in shared.provider.in_turn():
                self.run(model, now)
        else:
            self.run(shared, now)

    def run(self, shared: ProviderModelState, now: float) -> None:
        """Issue leases until no waiter of this provider/model is eligible."""
        if not len(shared.queue):
            return
        while (selection := self.next_waiter(shared, now)) is not None:
            attempt, waiter = self._waiting[selection.waiter.waiter_id]
            if waiter.handle.done():  # cancelled; its task has not run since
                self._stop_waiting(attempt, "cancellation", now)
                continue
            shared.queue.commit(selection)
            self._leave_queue(attempt)
            drained = not attempt.state.waiters()
            self._report.wait_completed(attempt, drained, now)
            lease = self._ledger.issue(attempt, now)
            self._report.lease_acquired(attempt)
            waiter.handle.set_result(lease)
        for key in shared.queue.resources():
            state = self._resources[key]
            obstacle = state.obstacle(now)
            if obstacle == "request_rate_budget":
                self._arm_budget(state, now)
            if obstacle is not None and obstacle != state.wait_reason:
                previous, state.wait_reason = state.wait_reason, obstacle
                self._report.wait_reason_changed(state, previous, obstacle, now)

    def arm(self, state: ResourceState, now: float) -> None:
        """Set the one timer of a resource for the next time at which it changes by itself."""
        due = None if self.is_shut_down else state.limits.next_change_at(now)
        if due is None:
            return
        if state.timer is not None:
            if state.timer.when() <= due:
                return
            state.timer.cancel()
        state.timer = self._loop.call_at(due, self._on_timer, state)

    def cancel(self, attempt: RequestAttempt) -> bool:
        """End a wait whose task was cancelled; False if the attempt does not wait."""
        if attempt.serial not in self._waiting:
            return False
        self._stop_waiting(attempt, "cancellation", self._clock.monotonic())
        return True

    def deny_closed(self, now: float) -> None:
        """Deny the waiters of resources that take no call now."""
        for attempt, waiter in list(self._waiting.values()):
            if attempt.state.obstacle(now) in CLOSED and not waiter.handle.done():
                self._deny(attempt, waiter, "shutdown", now)

    def shutdown(self) -> None:
        """Deny all waiters, and wake none any more."""
        self.is_shut_down = True
        now = self._clock.monotonic()
        for attempt, waiter in list(self._waiting.values()):
            if waiter.handle.done():
                self._stop_waiting(attempt, "cancellation", now)
            else:
                self._deny(attempt, waiter, "shutdown", now)
        for state in self._resources:
            for timer in (state.timer, state.budget_timer):
                if timer is not None:
                    timer.cancel()
            state.timer = state.budget_timer = None

    def denied(
        self, item: RequestAdmissionItem, reason: RequestDenialReason, now: float
    ) -> RequestAdmissionDenied:
        """A denial, with what the resource looks like and when to try again."""
        state = self._resources.get(item.resource)
        if state is None or self.is_shut_down:
            return RequestAdmissionDenied(item, reason)
        available = state.obstacle_ends_at(state.obstacle(now), now)
        retry_after = None if available is None else available - now
        snapshot = state.snapshot(now, self._stream.request_sequence)
        return RequestAdmissionDenied(item, reason, retry_after, available, snapshot)

    def _leave_queue(self, attempt: RequestAttempt) -> None:
        """Clean up after a waiter has left the fair queue."""
        del self._waiting[attempt.serial]
        if attempt.deadline_timer is not None:
            attempt.deadline_timer.cancel()
            attempt.deadline_timer = None
        if not attempt.state.waiters():
            attempt.state.wait_reason = None

    def _stop_waiting(
        self, attempt: RequestAttempt, reason: RequestDenialReason, now: float
    ) -> None:
        """End a wait without a lease."""
        _, waiter = self._waiting[attempt.serial]
        attempt.state.provider_model.queue.discard(waiter)
        self._leave_queue(attempt)
        drained = not attempt.state.waiters()
        self._report.wait_ended(attempt, reason, drained, now)

    def _deny(
        self,
        attempt: RequestAttempt,
        waiter: RequestWaiter,
        reason: RequestDenialReason,
        now: float,
    ) -> None:
        self._stop_waiting(attempt, reason, now)
        waiter.handle.set_result(self.denied(attempt.item, reason, now))

    def _on_deadline(self, attempt: RequestAttempt) -> None:
        entry = self._waiting.get(attempt.serial)
        if entry is not None and not entry[1].handle.done():
            self._deny(attempt, entry[1], "queue_timeout", self._clock.monotonic())

    def _arm_budget(self, state: ResourceState, now: float) -> None:
        """Look again when the budgets of a resource, for which somebody waits, let a call begin."""
        last = state.last_budget_to_open(now)
        if last is not None and not self.is_shut_down and state.budget_timer is None:
            state.budget_timer = self._loop.call_at(last.at, self._on_budget, state)

    def _on_budget(self, state: ResourceState) -> None:
        state.budget_timer = None
        self.run(state.provider_model, self._clock.monotonic())

    def _on_timer(self, state: ResourceState) -> None:
        state.timer = None
        now = self._clock.monotonic()
        changes = state.limits.advance(now)
        if changes:
            self._report.limit_changed(state, changes, None, now)
        self.arm(state, now)
        self.run(state.provider_model, now)
