"""`RequestReporter`: the request events of request admission.

No event is built while the stream is disabled.
"""

from __future__ import annotations

from typing import Any, Literal

from engine.events import EventStream, RequestResource
from engine.identity import RequestResourceKey
from engine.request_admission.attempt import RequestAttempt
from engine.request_admission.budgets import ObservedBudget
from engine.request_admission.limits import LimitTransition, RateLimitEffect
from engine.request_admission.resources import Registration, ResourceState
from engine.request_admission.types import (
    FailureReport,
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestDenialReason,
    RequestReleaseOutcome,
    RequestReleaseReason,
    RequestWaitReason,
)

OutageOutcome = Literal["opened", "probe_failed", "closed"]


class RequestReporter:
    """One method for each fact; `now` is the monotonic time at which the controller saw it."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    def registered(self, registration: Registration, now: float) -> None:
        if not self._stream.requests_enabled:
            return
        state = registration.state
        shared = state.provider_model
        for change in registration.cap_changes:
            self._resource_event(
                "request_effective_cap_changed",
                change.state,
                now,
                previous=change.previous,
                current=change.state.limits.effective_max,
            )
            self.limit_changed(change.state, change.transitions, None, now)
        if registration.new:
            self._resource_event(
                "request_resource_registered",
                state,
                now,
                static_cap=shared.static_cap,
                effective_max=state.limits.effective_max,
                limit=state.limits.limit,
                aliases=shared.aliases(),
                raw_caps={alias: shared.raw_caps[alias] for alias in shared.aliases()},
            )

    def wait_started(
        self, attempt: RequestAttempt, reason: RequestWaitReason | None, waiters: int
    ) -> None:
        if not self._stream.requests_enabled:
            return
        state, context = attempt.state, attempt.item.event_context
        self._attempt_event(
            "request_wait_started",
            attempt,
            attempt.since,
            reason=reason or "none",
            waiters=waiters,
            in_flight=state.in_flight,
            limit=state.limits.limit,
            aggregate_in_flight=state.provider_model.in_flight,
            repeats=context.repeats if context is not None else None,
        )
        if reason is not None and waiters == 0:
            self._resource_event("request_queue_formed", state, attempt.since)

    def wait_completed(self, attempt: RequestAttempt, drained: bool, now: float) -> None:
        """The wait ended with a lease. `drained`: it was the last waiter of the resource."""
        if not self._stream.requests_enabled:
            return
        self._attempt_event(
            "request_wait_completed",
            attempt,
            now,
            waited_seconds=_seconds(now - attempt.wait_started_at),
        )
        if drained:
            self._resource_event("request_queue_drained", attempt.state, now)

    def wait_ended(
        self, attempt: RequestAttempt, reason: RequestDenialReason, drained: bool, now: float
    ) -> None:
        """The wait ended without a lease."""
        if not self._stream.requests_enabled:
            return
        kind = {
            "queue_timeout": "request_wait_timeout",
            "cancellation": "request_wait_cancelled",
        }.get(reason, "request_acquire_denied")
        waited = _seconds(now - attempt.wait_started_at)
        self._attempt_event(kind, attempt, now, outcome=reason, waited_seconds=waited)
        if drained:
            self._resource_event("request_queue_drained", attempt.state, now)

    def refused(self, item: RequestAdmissionItem, reason: RequestDenialReason, now: float) -> None:
        """An acquisition that did not wait got no lease."""
        if not self._stream.requests_enabled:
            return
        key = item.resource
        context = item.event_context
        self._stream.request(
            "request_acquire_denied",
            at=now,
            resource=RequestResource(*key),
            correlation=context.captured_correlation if context is not None else None,
            attempt_id=context.request_attempt_id if context is not None else None,
            group=item.group.key if item.group is not None else None,
            outcome=reason,
            diagnostics={"waited_seconds": 0.0},
        )

    def wait_reason_changed(
        self,
        state: ResourceState,
        previous: RequestWaitReason | None,
        current: RequestWaitReason,
        now: float,
    ) -> None:
        if not self._stream.requests_enabled:
            return
        last = state.last_budget_to_open(now) if current == "request_rate_budget" else None
        diagnostics: dict[str, Any] = {
            "from": previous or "none",
            "to": current,
            "dimension": None if last is None else last.dimension,
            "waiters": state.waiters(),
            "until": state.obstacle_ends_at(current, now),
        }
        self._resource_event("request_wait_reason_changed", state, now, **diagnostics)

    def lease_acquired(self, attempt: RequestAttempt) -> None:
        if self._stream.requests_enabled:
            probe = True if attempt.probe else None
            self._attempt_event("request_lease_acquired", attempt, attempt.since, probe=probe)

    def rate_limited(
        self,
        attempt: RequestAttempt,
        effect: RateLimitEffect,
        outcome: RequestReleaseOutcome,
        now: float,
    ) -> None:
        if not self._stream.requests_enabled:
            return
        retry_after, failure = outcome.retry_after_seconds, outcome.failure
        self._attempt_event(
            "request_rate_limited",
            attempt,
            now,
            retry_after=retry_after,
            retry_after_said=failure.retry_after_said if failure is not None else None,
            status=failure.status if failure is not None else None,
            code=failure.code if failure is not None else None,
            blocked_until=effect.blocked_until,
            cut=effect.cut is not None,
            **({"class": failure.failure} if failure is not None else {}),
        )
        if effect.cut is not None:
            self.limit_changed(attempt.state, (effect.cut,), attempt, now, retry_after)

    def limit_changed(
        self,
        state: ResourceState,
        transitions: tuple[LimitTransition, ...],
        attempt: RequestAttempt | None,
        now: float,
        retry_after: float | None = None,
    ) -> None:
        """`attempt`: the one whose end changed the limit; None if time or a registration did."""
        if not self._stream.requests_enabled:
            return
        for change in transitions:
            diagnostics: dict[str, Any] = {"current": change.current}
            if change.cause is not None:
                diagnostics["previous"] = change.previous
            if change.cause == "successes":
                diagnostics["successes"] = change.successes
            if change.kind == "request_limit_decreased" and change.cause != "carried":
                diagnostics["soft_ceiling"] = state.limits.soft_ceiling
                diagnostics["blocked_until"] = state.limits.blocked_until
                diagnostics["retry_after"] = retry_after
            if attempt is not None:
                self._attempt_event(change.kind, attempt, now, outcome=change.cause, **diagnostics)
            else:
                self._resource_event(change.kind, state, now, outcome=change.cause, **diagnostics)

    def outage(self, state: ResourceState, outcome: OutageOutcome, now: float) -> None:
        """A resource is out, a probe of it has failed, or it is back."""
        if not self._stream.requests_enabled:
            return
        availability = state.availability
        cause = availability.cause
        opened, closed = outcome == "opened", outcome == "closed"
        self._resource_event(
            "request_outage",
            state,
            now,
            outcome=outcome,
            **(cause.payload() if cause is not None else {}),
            since=availability.since,
            failures=availability.failures if opened else None,
            probes=None if opened else availability.probes,
            next_probe_at=None if closed else availability.next_probe_at,
            duration_seconds=_seconds(now - availability.since) if closed else None,
            confirmed=True if availability.confirmed else None,
        )

    def degraded(
        self, state: ResourceState, failures: int, calls: int, last: FailureReport, now: float
    ) -> None:
        """A resource that answers fails more often than a rare error would."""
        key = state.key
        reason = f": {last.message}" if last.message else ""
        message = (
            f'provider "{key.provider_name}", model {key.model_id} is degraded: {failures} of its '
            f"last {calls} calls failed, most recently with {last.failure}{reason}; each is made "
            "again, which costs time"
        )
        self._stream.scheduler(
            "run_warning", reason="provider_degraded", diagnostics={"message": message}, at=now
        )

    def suspended(self, state: ResourceState, now: float) -> None:
        """Nothing will be answered there until a person has acted."""
        cause = state.availability.cause
        if not self._stream.requests_enabled or cause is None:
            return
        returns = state.availability.returns_at
        facts = cause.payload()
        self._resource_event(
            "request_suspended",
            state,
            now,
            outcome=str(facts.pop("class")),
            **facts,
            returns_in_seconds=None if returns is None else _seconds(returns - now),
        )

    def budget_observed(self, key: RequestResourceKey, budget: ObservedBudget, now: float) -> None:
        """A provider told of one of its budgets."""
        if not self._stream.requests_enabled:
            return
        facts = {
            "limit": budget.limit,
            "remaining": budget.remaining,
            "reset_seconds": budget.reset_seconds,
        }
        self._stream.request(
            "request_rate_budget_observed",
            at=now,
            resource=RequestResource(*key),
            outcome=budget.dimension,
            diagnostics=_known(facts),
        )

    def lease_released(self, attempt: RequestAttempt, outcome: str, now: float) -> None:
        if self._stream.requests_enabled:
            self._attempt_event("request_lease_released", attempt, now, outcome=outcome)

    def release_refused(
        self, lease: RequestAdmissionLease, reason: RequestReleaseReason, now: float
    ) -> None:
        if not self._stream.requests_enabled:
            return
        context = lease.item.event_context
        self._stream.request(
            "request_release_diagnostic",
            at=now,
            resource=RequestResource(*lease.item.resource),
            correlation=context.captured_correlation if context is not None else None,
            attempt_id=context.request_attempt_id if context is not None else None,
            lease_id=lease.lease_id,
            outcome=reason,
        )

    def _attempt_event(
        self,
        kind: str,
        attempt: RequestAttempt,
        now: float,
        outcome: str | None = None,
        **diagnostics: Any,
    ) -> None:
        context = attempt.item.event_context
        group = attempt.item.group
        lease = attempt.lease
        self._stream.request(
            kind,
            at=now,
            resource=attempt.state.wire,
            correlation=context.captured_correlation if context is not None else None,
            attempt_id=context.request_attempt_id if context is not None else None,
            lease_id=lease.lease_id if lease is not None else None,
            group=group.key if group is not None else None,
            outcome=outcome,
            diagnostics=_known(diagnostics),
        )

    def _resource_event(
        self,
        kind: str,
        state: ResourceState,
        now: float,
        outcome: str | None = None,
        **diagnostics: Any,
    ) -> None:
        self._stream.request(
            kind, at=now, resource=state.wire, outcome=outcome, diagnostics=_known(diagnostics)
        )


def _seconds(duration: float) -> float:
    """Rounded to the microsecond: further digits of a difference of times are noise."""
    return round(duration, 6)


def _known(diagnostics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in diagnostics.items() if value is not None}
