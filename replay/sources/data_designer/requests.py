"""Data Designer's request events in headgate's words."""

from __future__ import annotations

from typing import Any

from engine.events import RequestEvent, RequestResource
from replay.sources.data_designer.wire import Pressure, WireLine
from replay.state.payload import mapping

_PRESSURE_KINDS = frozenset(
    {
        "request_resource_registered",
        "request_effective_cap_changed",
        "request_rate_limited",
        "request_limit_decreased",
        "request_limit_increased",
        "request_soft_ceiling_recovered",
        "request_fully_recovered",
    }
)
_OUTCOMES_OF_CALLS = {
    "success": "success",
    "rate_limit": "rate_limited",
    "timeout": "provider_timeout",
    "provider_timeout": "provider_timeout",
    "request_admission_timeout": "local_timeout",
    "local_cancelled": "local_cancelled",
    "unexpected_exception": "unexpected_exception",
}
"""Any other word of its own is an error of the provider's."""
_BEGINNINGS = frozenset({"request_wait_started", "request_lease_acquired"})
_ENDED_KEPT = 20_000
_WAIT_ENDS = frozenset(
    {
        "request_wait_completed",
        "request_wait_timeout",
        "request_wait_cancelled",
        "request_acquire_denied",
    }
)


class RequestMapper:
    """Maps the request lines of one run, in order of time."""

    def __init__(self) -> None:
        self.last_failure: dict[str, str] = {}
        """Outcome of the last failed attempt of a task execution: the owner of the execution
        takes it away."""
        self._wait_started: dict[str, float] = {}
        self._lease_acquired: dict[str, float] = {}
        self._over: dict[str, None] = {}
        """Attempts that have ended, the last so many: of one, the beginning may be told later."""
        self._cut: set[str | None] = set()
        self._raw_caps: dict[str, dict[str, int]] = {}

    def map(self, line: WireLine, facts: dict[str, Any]) -> RequestEvent:
        """`facts`: the line's diagnostics, to be changed here and the event's own from then on."""
        kind, at = line.event_kind, line.captured_at_monotonic
        pressure = line.pressure_snapshot or Pressure()
        resource, group = line.request_resource_key, line.request_group_key
        attempt_id = line.attempt_id
        attempt, lease = attempt_id or "", line.request_lease_id or ""
        outcome = line.reason_or_outcome
        over = attempt in self._over
        if over and kind in _BEGINNINGS:
            facts["attempt_over"] = True
        if facts and (provider_model := mapping(facts.get("provider_model"))):
            names = (provider_model.get("provider_name"), provider_model.get("model_id"))
            facts["provider_model"] = "/".join(str(name) for name in names)
        if kind == "request_wait_started":
            if not over:
                self._wait_started[attempt] = at
            waiters = max(0, pressure.waiters - 1)
            facts["reason"] = _wait_reason(pressure, waiters)
            facts["waiters"] = waiters
            facts["in_flight"] = pressure.in_flight_count
            facts["limit"] = pressure.current_limit
        elif kind in _WAIT_ENDS:
            started = self._wait_started.pop(attempt, None)
            if started is not None:
                facts["waited_seconds"] = max(0.0, at - started)
            if kind != "request_wait_completed":
                self._end(attempt)
        elif kind == "request_lease_acquired":
            if not over:
                self._lease_acquired[lease] = at
            facts["in_flight"] = pressure.in_flight_count
            facts["limit"] = pressure.current_limit
        elif kind == "request_lease_released":
            self._end(attempt)
            acquired = self._lease_acquired.pop(lease, None)
            if acquired is not None:
                facts["held_seconds"] = max(0.0, at - acquired)
            correlation = line.captured_correlation
            if outcome and outcome != "success" and correlation and correlation.task_execution_id:
                self.last_failure[correlation.task_execution_id] = outcome
        elif kind == "model_request_completed":
            result = facts.pop("outcome", None)
            if isinstance(result, str):
                outcome = _OUTCOMES_OF_CALLS.get(result, "provider_failure")
                if result != outcome:
                    facts["error_type"] = result
        elif kind == "request_rate_limited":
            label = _label(resource)
            facts["cut"] = label in self._cut
            self._cut.discard(label)
            _keep(facts, "blocked_until", pressure.blocked_until_monotonic)
        elif kind == "request_limit_decreased":
            self._cut.add(_label(resource))
            outcome = outcome or "rate_limited"
            _keep(facts, "soft_ceiling", pressure.rate_limit_ceiling or None)
            _keep(facts, "blocked_until", pressure.blocked_until_monotonic)
        elif kind == "request_limit_increased":
            outcome = outcome or "successes"
        elif kind in ("request_soft_ceiling_recovered", "request_fully_recovered"):
            facts["current"] = pressure.current_limit
        elif kind == "request_resource_registered":
            self._registered(facts, pressure)
        return RequestEvent(
            kind,
            at,
            line.sequence,
            line.captured_correlation,
            attempt_id,
            line.request_lease_id,
            resource,
            _label(group),
            outcome,
            _limits(pressure) if kind in _PRESSURE_KINDS else None,
            facts,
        )

    def _end(self, attempt: str) -> None:
        self._over[attempt] = None
        if len(self._over) > _ENDED_KEPT:
            del self._over[next(iter(self._over))]

    def _registered(self, facts: dict[str, Any], pressure: Pressure) -> None:
        caps = self._raw_caps.setdefault(str(facts.get("provider_model")), {})
        alias, cap = facts.pop("alias", None), facts.pop("max_parallel_requests", None)
        if isinstance(alias, str) and isinstance(cap, int):
            caps[alias] = cap
        if caps:
            facts["static_cap"] = min(caps.values())
        facts["aliases"] = sorted(caps)
        facts["raw_caps"] = dict(caps)
        facts["effective_max"] = pressure.effective_max
        facts["limit"] = pressure.current_limit


def _label(resource: RequestResource | None) -> str | None:
    return None if resource is None else resource.label


def _wait_reason(pressure: Pressure, waiters: int) -> str:
    if pressure.blocked_until_monotonic is not None:
        return "cooldown"
    if pressure.in_flight_count >= pressure.current_limit:
        return "domain_limit"
    return "waiters_ahead" if waiters else "none"


def _limits(pressure: Pressure) -> dict[str, Any]:
    """The limits alone: the counts stand between two events of one release and would mislead."""
    return {
        "effective_max": pressure.effective_max,
        "current_limit": pressure.current_limit,
        "blocked_until_monotonic": pressure.blocked_until_monotonic,
        "rate_limit_ceiling": pressure.rate_limit_ceiling,
        "consecutive_rate_limits": pressure.consecutive_rate_limits,
    }


def _keep(facts: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        facts[name] = value
