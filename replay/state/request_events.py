"""How each event of the request stream changes the state. One function per kind.

What the counts mean: an attempt counts among a resource's waiters in the phase `waiting`, as in
flight from its lease to the release of its lease. Where an event carries a `pressure_snapshot`, the
numbers of its resource are those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.events import RequestEvent, RunInfo
from replay.state import failures
from replay.state.model import Aggregate, Attempt, Ceiling, LimitChange, State
from replay.state.payload import amounts, count, number, text

Handler = Callable[[State, RequestEvent, int, RunInfo], None]

LOCAL_OUTCOMES = frozenset({"local_cancelled", "local_timeout"})


def ceiling_of(state: State, resource: str) -> Ceiling:
    """The ceiling of a resource, which is made if it is new."""
    ceiling = state.ceilings.get(resource)
    if ceiling is None:
        provider_model = resource.rpartition("/")[0] or resource
        ceiling = state.ceilings[resource] = Ceiling(resource, provider_model)
    return ceiling


def aggregate_of(state: State, provider_model: str) -> Aggregate:
    """The sum over the domains of a model, which is made if it is new."""
    aggregate = state.aggregates.get(provider_model)
    if aggregate is None:
        aggregate = state.aggregates[provider_model] = Aggregate(provider_model)
    return aggregate


def _ceiling(state: State, event: RequestEvent) -> Ceiling:
    resource = event.request_resource_key
    if resource is None:
        raise ValueError("no resource")
    return ceiling_of(state, resource.label)


def _attempt(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> Attempt:
    """The event's attempt; one whose beginning was not seen begins here.

    A foreign producer may yet tell of the beginning.
    """
    attempt_id = event.request_attempt_id
    attempt = state.attempts.get(attempt_id or "")
    if attempt is not None:
        return attempt
    if run.producer == "headgate":
        state.orphans += 1
    return _begin(state, event, ordinal, _ceiling(state, event))


def _begin(state: State, event: RequestEvent, ordinal: int, ceiling: Ceiling) -> Attempt:
    attempt_id = event.request_attempt_id
    if attempt_id is None:
        raise ValueError("no attempt")
    correlation = event.captured_correlation
    attempt = state.attempts[attempt_id] = Attempt(
        attempt_id,
        ceiling.resource,
        "waiting",
        event.captured_at_monotonic,
        correlation.task_execution_id if correlation is not None else None,
        correlation.task_column if correlation is not None else None,
        first_ordinal=ordinal,
    )
    ceiling.waiters += 1
    return attempt


def _stop_waiting(ceiling: Ceiling) -> None:
    ceiling.waiters -= 1
    if ceiling.waiters <= 0:
        ceiling.waiters = 0
        ceiling.wait_reason = None


def _take_lease(state: State, attempt: Attempt, lease_id: str, at: float) -> None:
    ceiling = ceiling_of(state, attempt.resource)
    _stop_waiting(ceiling)
    ceiling.in_flight += 1
    aggregate_of(state, ceiling.provider_model).in_flight += 1
    attempt.phase = "leased"
    attempt.lease_id = lease_id
    attempt.acquired_at = attempt.since = at


def _give_lease_back(state: State, resource: str) -> None:
    ceiling = ceiling_of(state, resource)
    ceiling.in_flight = max(0, ceiling.in_flight - 1)
    aggregate = aggregate_of(state, ceiling.provider_model)
    aggregate.in_flight = max(0, aggregate.in_flight - 1)


def _counted(state: State, run: RunInfo) -> bool:
    """Behind a gap the engine's ledger counts calls as well whose beginning is lost."""
    return state.out_of_step and run.producer == "headgate"


def apply_pressure(state: State, ceiling: Ceiling, facts: dict[str, Any]) -> None:
    """Take a ceiling's numbers from a foreign producer's own snapshot of it."""
    effective_max = count(facts.get("effective_max"))
    if effective_max is not None:
        ceiling.effective_max = effective_max
    limit = count(facts.get("current_limit", facts.get("limit")))
    if limit is not None:
        ceiling.limit = limit
    in_flight = count(facts.get("in_flight_count", facts.get("in_flight")))
    if in_flight is not None and in_flight != ceiling.in_flight:
        aggregate = aggregate_of(state, ceiling.provider_model)
        aggregate.in_flight = max(0, aggregate.in_flight + in_flight - ceiling.in_flight)
        ceiling.in_flight = in_flight
    waiters = count(facts.get("waiters"))
    if waiters is not None:
        ceiling.waiters = waiters
        if waiters == 0:
            ceiling.wait_reason = None
    if "blocked_until_monotonic" in facts:
        ceiling.blocked_until = number(facts["blocked_until_monotonic"])
    elif "blocked_until" in facts:
        ceiling.blocked_until = number(facts["blocked_until"])
    if "rate_limit_ceiling" in facts:
        ceiling.soft_ceiling = count(facts["rate_limit_ceiling"]) or None
    consecutive = count(facts.get("consecutive_rate_limits"))
    if consecutive is not None:
        ceiling.consecutive_rate_limits = consecutive
    if "last_outcome" in facts:
        ceiling.last_outcome = text(facts["last_outcome"])


def take_pressure(state: State, event: RequestEvent) -> None:
    """Takes over the numbers of the event's own pressure snapshot, if it has one."""
    if event.request_resource_key is not None and event.pressure_snapshot:
        apply_pressure(state, _ceiling(state, event), event.pressure_snapshot)


def registered(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    ceiling = _ceiling(state, event)
    diagnostics = event.diagnostics
    static_cap = count(diagnostics.get("static_cap"))
    if static_cap is None:
        static_cap = count(diagnostics.get("max_parallel_requests"))
    ceiling.static_cap = static_cap
    effective_max = count(diagnostics.get("effective_max"))
    if effective_max is not None:
        ceiling.effective_max = effective_max
    limit = count(diagnostics.get("limit"))
    if limit is not None:
        ceiling.limit = limit
    aggregate = aggregate_of(state, ceiling.provider_model)
    if static_cap is not None:
        aggregate.static_cap = static_cap
    listed = diagnostics.get("aliases")
    if isinstance(listed, list):
        aggregate.aliases = tuple(alias for alias in listed if type(alias) is str)
    aggregate.raw_caps = amounts(diagnostics.get("raw_caps"))


def effective_cap_changed(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """Another cap for the resource and its model. Raises `ValueError` without one."""
    current = count(event.diagnostics.get("current"))
    if current is None:
        raise ValueError("no cap")
    ceiling = _ceiling(state, event)
    ceiling.effective_max = ceiling.static_cap = current
    aggregate_of(state, ceiling.provider_model).static_cap = current


def wait_started(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """An attempt waits; a second wait of the same attempt is valid from foreign producers only."""
    ceiling = _ceiling(state, event)
    if event.diagnostics.get("attempt_over"):
        return
    attempt = state.attempts.get(event.request_attempt_id or "")
    if attempt is not None:
        if run.producer == "headgate" or attempt.wait_started_at is not None:
            raise ValueError("this attempt waits already")
        attempt.wait_started_at = event.captured_at_monotonic
        return
    attempt = _begin(state, event, ordinal, ceiling)
    attempt.wait_started_at = event.captured_at_monotonic
    reason = event.diagnostics.get("reason")
    if reason != "none":
        ceiling.wait_reason = text(reason)


def wait_reason_changed(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    ceiling = _ceiling(state, event)
    if ceiling.waiters > 0:
        ceiling.wait_reason = text(event.diagnostics.get("to"))


def wait_completed(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """The lease follows at the same instant and ends the wait."""


def wait_failed(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """Timeout, cancellation, denial: the attempt ends without a lease."""
    attempt = state.attempts.pop(event.request_attempt_id or "", None)
    if attempt is not None and attempt.phase == "waiting":
        _stop_waiting(ceiling_of(state, attempt.resource))
    elif attempt is not None and attempt.released_at is None:
        _give_lease_back(state, attempt.resource)
    elif attempt is None and _counted(state, run):
        _stop_waiting(_ceiling(state, event))


def lease_acquired(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """The attempt takes a place of its resource. Raises `ValueError` without a lease."""
    lease_id = event.request_lease_id
    if lease_id is None:
        raise ValueError("no lease")
    if event.diagnostics.get("attempt_over"):
        return
    if event.request_attempt_id not in state.attempts and _counted(state, run):
        _stop_waiting(_ceiling(state, event))
    attempt = _attempt(state, event, ordinal, run)
    if attempt.phase == "waiting":
        _take_lease(state, attempt, lease_id, event.captured_at_monotonic)
    elif attempt.acquired_at is None and run.producer != "headgate":
        attempt.acquired_at = event.captured_at_monotonic


def request_started(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    unseen = event.request_attempt_id not in state.attempts
    attempt = _attempt(state, event, ordinal, run)
    now = event.captured_at_monotonic
    if attempt.phase == "waiting" and _counted(state, run):
        if unseen:
            _stop_waiting(_ceiling(state, event))
        attempt.lease_id = event.request_lease_id or "unknown"
    elif attempt.phase == "waiting":
        _take_lease(state, attempt, event.request_lease_id or "unknown", now)
        attempt.acquired_at = None
    attempt.phase = "in_provider"
    attempt.started_at = attempt.since = now


def request_completed(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """The call is over; its lease is not, until `lease_released`."""
    diagnostics = event.diagnostics
    ceiling = _ceiling(state, event)
    progress = state.progress
    progress.requests_completed += 1
    outcome = text(event.reason_or_outcome) or text(diagnostics.get("outcome"))
    if outcome == "success":
        ceiling.completed += 1
        progress.prompt_tokens += count(diagnostics.get("prompt_tokens")) or 0
        progress.completion_tokens += count(diagnostics.get("completion_tokens")) or 0
        progress.cached_tokens += count(diagnostics.get("cached_tokens")) or 0
        progress.reasoning_tokens += count(diagnostics.get("reasoning_tokens")) or 0
        progress.answered_calls += 1
        cost = number(diagnostics.get("cost"))
        if cost is not None and cost >= 0:
            progress.cost += cost
            progress.priced_calls += 1
    elif outcome is not None and outcome != "rate_limited" and outcome not in LOCAL_OUTCOMES:
        ceiling.failed += 1
    if outcome is not None and outcome not in failures.NEVER_A_FAILURE:
        error = text(diagnostics.get("error_type")) or outcome
        at = event.captured_at_monotonic
        status = count(diagnostics.get("status"))
        column = _column_of(event)
        failures.record_call(state, ceiling.resource, column, error, at, ordinal, status)
    elif outcome == "rate_limited" and diagnostics.get("error_type") in failures.SPENT:
        at = event.captured_at_monotonic
        error = str(diagnostics["error_type"])
        failures.record_call(state, ceiling.resource, _column_of(event), error, at, ordinal)
    attempt = state.attempts.get(event.request_attempt_id or "")
    if attempt is None:
        state.orphans += 1
        return
    if outcome == "success" and attempt.started_at is not None:
        ceiling.call_seconds += max(0.0, event.captured_at_monotonic - attempt.started_at)
    if attempt.released_at is not None:
        del state.attempts[attempt.attempt_id]
        return
    attempt.phase = "returned"
    attempt.completed_at = attempt.since = event.captured_at_monotonic
    attempt.outcome = outcome


def _column_of(event: RequestEvent) -> str:
    correlation = event.captured_correlation
    return "" if correlation is None else correlation.task_column or ""


def rate_limited(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    ceiling = _ceiling(state, event)
    ceiling.rate_limited += 1
    ceiling.consecutive_rate_limits += 1
    ceiling.last_rate_limit_ordinal = ordinal
    ceiling.refused_class = text(event.diagnostics.get("class")) or ""
    until = number(event.diagnostics.get("blocked_until"))
    if until is not None:
        ceiling.blocked_until = until
    state.progress.rate_limited += 1


def _limit_changed(ceiling: Ceiling, event: RequestEvent, ordinal: int, cause: str) -> None:
    diagnostics = event.diagnostics
    current = count(diagnostics.get("current"))
    if current is None:
        raise ValueError("no limit")
    previous = count(diagnostics.get("previous"))
    ceiling.last_change = LimitChange(
        event.captured_at_monotonic,
        ordinal,
        ceiling.limit if previous is None else previous,
        current,
        text(event.reason_or_outcome) or cause,
        number(diagnostics.get("retry_after")),
    )
    ceiling.limit = current


def limit_decreased(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    ceiling = _ceiling(state, event)
    _limit_changed(ceiling, event, ordinal, "rate_limited")
    soft_ceiling = count(event.diagnostics.get("soft_ceiling"))
    if soft_ceiling is not None:
        ceiling.soft_ceiling = soft_ceiling


def recovered(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    _ceiling(state, event).soft_ceiling = None


def limit_increased(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    _limit_changed(_ceiling(state, event), event, ordinal, "unknown")


def nothing(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """A fact that changes no state."""


def lease_released(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    """The place is free again; the attempt leaves once its call is over as well."""
    ceiling = _ceiling(state, event)
    outcome = text(event.reason_or_outcome)
    ceiling.last_outcome = outcome
    if outcome == "success":
        ceiling.consecutive_rate_limits = 0
    attempt = state.attempts.get(event.request_attempt_id or "")
    if attempt is None or attempt.phase == "waiting" or attempt.released_at is not None:
        state.orphans += 1
        if _counted(state, run):
            _give_lease_back(state, ceiling.resource)
            state.attempts.pop(event.request_attempt_id or "", None)
        return
    _give_lease_back(state, attempt.resource)
    if attempt.phase == "in_provider" and run.producer != "headgate":
        # This producer reports the completion of the call after it has given the lease back.
        attempt.phase = "returned"
        attempt.since = attempt.released_at = event.captured_at_monotonic
        attempt.outcome = outcome
    else:
        del state.attempts[attempt.attempt_id]


def outage(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    ceiling = _ceiling(state, event)
    if event.reason_or_outcome == "closed":
        ceiling.availability = ceiling.out_ordinal = None
        ceiling.out_class = ceiling.out_because = ""
        ceiling.consecutive_rate_limits = 0
    else:
        _put_out(ceiling, "out", event, ordinal)


def suspended(state: State, event: RequestEvent, ordinal: int, run: RunInfo) -> None:
    _put_out(_ceiling(state, event), "suspended", event, ordinal)


def _put_out(ceiling: Ceiling, availability: str, event: RequestEvent, ordinal: int) -> None:
    ceiling.availability = availability
    failure_class = event.diagnostics.get("class") or event.reason_or_outcome
    ceiling.out_class = text(failure_class) or ""
    ceiling.out_because = text(event.diagnostics.get("message")) or ""
    if ceiling.out_ordinal is None:
        ceiling.out_ordinal = ordinal


HANDLERS: dict[str, Handler] = {
    "request_resource_registered": registered,
    "request_effective_cap_changed": effective_cap_changed,
    "request_queue_formed": nothing,
    "request_wait_started": wait_started,
    "request_wait_reason_changed": wait_reason_changed,
    "request_wait_completed": wait_completed,
    "request_wait_timeout": wait_failed,
    "request_wait_cancelled": wait_failed,
    "request_acquire_denied": wait_failed,
    "request_lease_acquired": lease_acquired,
    "model_request_started": request_started,
    "model_request_completed": request_completed,
    "request_queue_drained": nothing,
    "request_rate_limited": rate_limited,
    "request_limit_decreased": limit_decreased,
    "request_limit_increased": limit_increased,
    "request_soft_ceiling_recovered": recovered,
    "request_fully_recovered": recovered,
    "request_lease_released": lease_released,
    "request_release_diagnostic": nothing,
    "request_outage": outage,
    "request_suspended": suspended,
    "request_rate_budget_observed": nothing,
}
