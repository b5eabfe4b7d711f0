"""Checks on request leases, ceilings, cooldowns and the order of an attempt's events.

`before` checks see the state before their event is folded in, `after` checks the one after.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.events import RequestEvent, RunInfo
from replay.state.model import Attempt, Ceiling, State
from replay.state.payload import count, number, text
from replay.verify.ids import IssuedIds
from replay.verify.rules import RuleBook
from replay.verify.task_checks import UNKNOWN

Check = Callable[[State, RequestEvent], None]

GONE = "released"

ORDER: dict[str, frozenset[str]] = {
    "request_wait_started": frozenset({UNKNOWN}),
    "request_wait_completed": frozenset({"waiting"}),
    "request_wait_timeout": frozenset({"waiting"}),
    "request_wait_cancelled": frozenset({"waiting"}),
    "request_acquire_denied": frozenset({"waiting", UNKNOWN}),
    "request_lease_acquired": frozenset({"waiting"}),
    "model_request_started": frozenset({"leased"}),
    "model_request_completed": frozenset({"in_provider"}),
    "request_rate_limited": frozenset({"returned"}),
    "request_lease_released": frozenset({"leased", "returned"}),
}
"""Kind -> phases an attempt may be in before it, in headgate's own streams. A lease that a
cancelled acquisition gives back at once was `leased` only."""

CAUSES = {
    "request_limit_decreased": frozenset({"rate_limited", "carried", "registration", "plateau"}),
    "request_limit_increased": frozenset(
        {"successes", "ramp", "registration", "outage_over", "plateau"}
    ),
}
ENDS_A_WAIT = frozenset(
    {"request_wait_timeout", "request_wait_cancelled", "request_acquire_denied"}
)
ENDS_AN_EXECUTION = frozenset(
    {"task_completed", "retry_deferred", "non_retryable_dropped", "cancelled"}
)


class RequestChecks:
    """The rules about calls, with what they must remember of earlier events."""

    def __init__(self, book: RuleBook, run: RunInfo) -> None:
        self._book = book
        self.run = run
        self.acquired = 0
        self._leases = IssuedIds("r")
        self._attempts = IssuedIds("a")
        self._cut_at: dict[str, float] = {}
        self._queue_formed: dict[str, bool] = {}
        self._unsure = False
        """Of a resource that is not in `_queue_formed`, it is not known whether it has a queue."""
        self.running: set[str] = set()
        self._open_attempts: dict[str, int] = {}
        self.before: dict[str, Check] = {
            **dict.fromkeys(ORDER, self._in_order),
            "request_wait_started": self._wait_started,
            "request_lease_acquired": self._lease_acquired,
            "request_lease_released": self._lease_released,
            "request_release_diagnostic": self._release_refused,
            "request_rate_limited": self._rate_limited,
            "request_limit_decreased": self._limit_changed,
            "request_limit_increased": self._limit_changed,
            "request_queue_formed": self._formed,
            "request_queue_drained": self._drained,
        }
        self.after: dict[str, Check] = {
            "request_lease_acquired": self._within_limits,
            "request_resource_registered": self._bounds,
            "request_limit_decreased": self._bounds,
            "request_limit_increased": self._bounds,
            "request_fully_recovered": self._recovered,
        }

    # The scheduler's side of an execution

    def spawned(self, execution_id: str | None) -> None:
        if execution_id is not None:
            self.running.add(execution_id)

    def ended(self, execution_id: str | None) -> None:
        if execution_id is None:
            return
        self.running.discard(execution_id)
        left = self._open_attempts.pop(execution_id, 0)
        if left:
            self._book.report(
                "attempts",
                "an attempt outlives its execution",
                f"{execution_id} ends with {left} attempts open",
            )

    def resume(self, state: State) -> None:
        """Events were missing, and a keyframe has put the state right."""
        self.running = {task.execution_id for task in state.tasks.values() if task.execution_id}
        self._open_attempts.clear()
        for attempt in state.attempts.values():
            if attempt.execution_id is not None:
                known = self._open_attempts.get(attempt.execution_id, 0)
                self._open_attempts[attempt.execution_id] = known + 1
        self._queue_formed.clear()
        self._unsure = True

    def forget(self) -> None:
        """The run goes on after an interruption, with nothing open."""
        self.running.clear()
        self._open_attempts.clear()
        self._queue_formed.clear()

    # Before

    def _in_order(self, state: State, event: RequestEvent) -> None:
        self._order(state.attempts.get(event.request_attempt_id or ""), event)

    def _order(self, attempt: Attempt | None, event: RequestEvent) -> None:
        kind = event.event_kind
        phase = UNKNOWN if attempt is None else attempt.phase
        if attempt is not None and attempt.released_at is not None:
            phase = GONE
        if phase not in ORDER[kind]:
            self._book.report(
                "order",
                f"{kind} while {phase}",
                f"{kind} of {event.request_attempt_id}, which is {phase}",
            )
        elif attempt is not None and kind in ENDS_A_WAIT:
            self._close(attempt)

    def _close(self, attempt: Attempt) -> None:
        execution_id = attempt.execution_id
        if execution_id in self._open_attempts:
            self._open_attempts[execution_id] -= 1

    def _wait_started(self, state: State, event: RequestEvent) -> None:
        attempt_id = event.request_attempt_id
        self._order(state.attempts.get(attempt_id or ""), event)
        if attempt_id is None or not self._attempts.is_new(attempt_id):
            self._book.report(
                "order", "an attempt id twice", f"request_wait_started of {attempt_id}, seen before"
            )
        correlation = event.captured_correlation
        execution_id = None if correlation is None else correlation.task_execution_id
        if execution_id is not None:
            if execution_id in self.running:
                self._open_attempts[execution_id] = self._open_attempts.get(execution_id, 0) + 1
            else:
                self._book.report(
                    "attempts",
                    "an attempt of an execution that does not run",
                    f"{attempt_id} of {execution_id}, which does not run",
                )
        ceiling = ceiling_of(state, event)
        if ceiling is not None and not self._book.foreign:
            self._compare_number(event, "waiters", ceiling.waiters)
            self._compare_number(event, "in_flight", ceiling.in_flight)
            self._compare_number(event, "limit", ceiling.limit)

    def _compare_number(self, event: RequestEvent, name: str, folded: int) -> None:
        recorded = count(event.diagnostics.get(name))
        if recorded is not None and recorded != folded:
            self._book.report(
                "numbers",
                f"{event.event_kind}: {name}",
                f"{event.event_kind} tells {name} {recorded}, the events before it give {folded}",
            )

    def _lease_acquired(self, state: State, event: RequestEvent) -> None:
        self.acquired += 1
        now, lease_id = event.captured_at_monotonic, event.request_lease_id
        attempt = state.attempts.get(event.request_attempt_id or "")
        self._order(attempt, event)
        report = self._book.report
        if lease_id is None or not self._leases.is_new(lease_id):
            report("request_leases", "acquired twice", f"{lease_id} is given out again")
        if attempt is not None and attempt.lease_id is not None:
            report(
                "request_leases",
                "acquired over a lease",
                f"{attempt.attempt_id} gets {lease_id} while it holds {attempt.lease_id}",
            )
        ceiling = ceiling_of(state, event)
        until = None if ceiling is None else ceiling.blocked_until
        probe = event.diagnostics.get("probe") is True
        if until is not None and now < until and not probe:
            report(
                "cooldowns",
                "a lease in a cooldown",
                f"{lease_id} {until - now:.3f} s before the cooldown of {resource_of(event)} ends",
            )

    def _lease_released(self, state: State, event: RequestEvent) -> None:
        attempt = state.attempts.get(event.request_attempt_id or "")
        lease_id = event.request_lease_id
        held = None
        if attempt is not None and attempt.phase != "waiting" and attempt.released_at is None:
            held = attempt.lease_id
        if held is None or held != lease_id:
            self._book.report(
                "request_leases",
                "released, but not held",
                f"{lease_id} of {event.request_attempt_id} is released, held is "
                f"{held or 'nothing'}",
            )
            return
        self._order(attempt, event)
        if attempt is not None:
            self._close(attempt)

    def _release_refused(self, state: State, event: RequestEvent) -> None:
        self._book.report(
            "request_leases",
            f"release refused: {event.reason_or_outcome}",
            f"release of {event.request_lease_id}: {event.reason_or_outcome}",
        )

    def _rate_limited(self, state: State, event: RequestEvent) -> None:
        self._in_order(state, event)
        ceiling = ceiling_of(state, event)
        until = number(event.diagnostics.get("blocked_until"))
        if ceiling is None or until is None or ceiling.blocked_until is None:
            return
        if until < ceiling.blocked_until:
            self._book.report(
                "cooldowns",
                "a cooldown gets shorter",
                f"the cooldown of {ceiling.resource} ends "
                f"{ceiling.blocked_until - until:.3f} s earlier than told before",
            )

    def _limit_changed(self, state: State, event: RequestEvent) -> None:
        kind, now = event.event_kind, event.captured_at_monotonic
        ceiling = ceiling_of(state, event)
        if ceiling is None:
            return
        facts = event.diagnostics
        previous, current = count(facts.get("previous")), count(facts.get("current"))
        report = self._book.report
        if previous is not None and ceiling.limit and previous != ceiling.limit:
            report(
                "limits",
                "a change from another limit",
                f"{kind} of {ceiling.resource} from {previous}, the last limit is {ceiling.limit}",
                note=self._book.foreign,
            )
        before = ceiling.limit if previous is None else previous
        wrong = current is not None and (
            current >= before if kind == "request_limit_decreased" else current <= before
        )
        if wrong and before:
            report(
                "limits",
                f"{kind} the wrong way",
                f"{kind} of {ceiling.resource} from {before} to {current}",
                note=self._book.foreign,
            )
        cause = text(event.reason_or_outcome)
        if cause not in CAUSES[kind]:
            report(
                "limits",
                f"{kind} without its cause",
                f"{kind} of {ceiling.resource} gives as cause: {cause}",
                note=self._book.foreign,
            )
        if kind == "request_limit_decreased" and cause == "rate_limited":
            attempt = state.attempts.get(event.request_attempt_id or "")
            cut_at = self._cut_at.get(ceiling.resource)
            acquired_at = None if attempt is None else attempt.acquired_at
            if cut_at is not None and acquired_at is not None and acquired_at < cut_at:
                report(
                    "cooldowns",
                    "a cascade cuts twice",
                    f"{event.request_attempt_id} was admitted before the last cut of "
                    f"{ceiling.resource} and cuts again",
                )
            self._cut_at[ceiling.resource] = now

    def _formed(self, state: State, event: RequestEvent) -> None:
        self._queue(event, True)

    def _drained(self, state: State, event: RequestEvent) -> None:
        self._queue(event, False)

    def _queue(self, event: RequestEvent, formed: bool) -> None:
        """A queue forms and drains in turn."""
        resource = resource_of(event)
        before = self._queue_formed.get(resource, not formed if self._unsure else False)
        if before == formed:
            self._book.report(
                "order", f"{event.event_kind} twice", f"{event.event_kind} of {resource}, as before"
            )
        self._queue_formed[resource] = formed

    # After

    def _within_limits(self, state: State, event: RequestEvent) -> None:
        ceiling = ceiling_of(state, event)
        if ceiling is None:
            return
        if event.diagnostics.get("probe") is True:
            return  # calls from before the outage may still be out
        if ceiling.limit and ceiling.in_flight > ceiling.limit:
            self._book.report(
                "caps",
                "more in flight than the limit",
                f"{event.request_lease_id} brings {ceiling.resource} to {ceiling.in_flight} in "
                f"flight, the limit is {ceiling.limit}",
            )
        shared = state.aggregates.get(ceiling.provider_model)
        cap = None if shared is None else shared.static_cap
        if shared is not None and cap is not None and shared.in_flight > cap:
            self._book.report(
                "caps",
                "more in flight than the aggregate cap",
                f"{event.request_lease_id} brings {shared.provider_model} to {shared.in_flight} "
                f"in flight, its cap is {cap}",
            )
        self._in_bounds(ceiling, event)
        if not self._book.foreign:
            self._compare_number(event, "in_flight", ceiling.in_flight)
            self._compare_number(event, "limit", ceiling.limit)
            if shared is not None:
                self._compare_number(event, "aggregate_in_flight", shared.in_flight)

    def _bounds(self, state: State, event: RequestEvent) -> None:
        ceiling = ceiling_of(state, event)
        if ceiling is not None:
            self._in_bounds(ceiling, event)

    def _in_bounds(self, ceiling: Ceiling, event: RequestEvent) -> None:
        if ceiling.effective_max and not 1 <= ceiling.limit <= ceiling.effective_max:
            self._book.report(
                "limits",
                "a limit out of bounds",
                f"the limit of {ceiling.resource} is {ceiling.limit}, its effective maximum "
                f"{ceiling.effective_max}",
            )

    def _recovered(self, state: State, event: RequestEvent) -> None:
        ceiling = ceiling_of(state, event)
        if ceiling is None:
            return
        now = event.captured_at_monotonic
        cooling = ceiling.blocked_until is not None and now < ceiling.blocked_until
        if cooling or ceiling.limit != ceiling.effective_max:
            self._book.report(
                "limits",
                "recovered too early",
                f"{ceiling.resource} is called fully recovered at {ceiling.limit} of "
                f"{ceiling.effective_max}{' in a cooldown' if cooling else ''}",
                note=self._book.foreign,
            )


def ceiling_of(state: State, event: RequestEvent) -> Ceiling | None:
    """The ceiling of the event's resource; None where the state knows none."""
    resource = event.request_resource_key
    return None if resource is None else state.ceilings.get(resource.label)


def resource_of(event: RequestEvent) -> str:
    """The event's resource, as a deviation names it."""
    return "no resource" if event.request_resource_key is None else event.request_resource_key.label
