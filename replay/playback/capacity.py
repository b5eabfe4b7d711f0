"""The capacity of a run: every value of its plan, and what was observed beside it.

One home for the console's Capacity screen and `headgate capacity`. What a producer does not tell of
its plan is taken from its events as far as they know it, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from engine.events import RunInfo
from replay.state.model import State

Part = Literal["configured", "runtime_snapshot", "observed_maxima"]
Peaks = Mapping[str, Mapping[str, float]]
"""Series -> key -> most at once, as the recording has them."""

CONFIGURED = (
    "buffer_size",
    "row_group_concurrency",
    "mode",
    "initial_target",
    "max_admitted_rows",
    "submission_capacity",
    "task_resource_limits",
    "request_resources",
    "provider_model_static_caps",
    "request_domain_initial_limits",
    "request_admission_config",
    "transport_pool_limits",
)
"""Every configured value; those of row group admission stand among the others."""
RUNTIME = (
    "current_limits",
    "effective_max",
    "blocked_until",
    "aggregate_in_flight",
    "row_group_target",
    "row_group_block_reasons",
)
OBSERVED = (
    "row_groups_in_flight",
    "row_group_target",
    "queued_by_group",
    "leases_by_resource",
    "waiters_by_resource",
    "in_flight_by_resource",
    "aggregate_in_flight",
    "current_limits",
    "transport_utilisation",
)
_BESIDE = {
    "row_group_concurrency": "row_groups_in_flight",
    "initial_target": "row_group_target",
    "submission_capacity": "leases_by_resource",
    "task_resource_limits": "leases_by_resource",
    "provider_model_static_caps": "aggregate_in_flight",
    "request_domain_initial_limits": "current_limits",
    "transport_pool_limits": "transport_utilisation",
}
"""Configured value -> the maximum that belongs beside it."""
_BOUNDS = frozenset(_BESIDE) - {"initial_target", "request_domain_initial_limits"}
"""Values that bound what is beside them."""
_OWN_KEY = {"submission_capacity": "submission"}
_SERIES = {
    "queued_by_group": "queue_depth",
    "leases_by_resource": "leased",
    "waiters_by_resource": "waiters",
    "in_flight_by_resource": "in_flight",
    "current_limits": "limit",
}
"""Maximum -> the series of the recording that has it."""
_UNTOLD = "the run's events do not tell it"
_NOT_ENDED = "the run has not ended"


class CapacityRow(msgspec.Struct, frozen=True, kw_only=True):
    """One value, or one entry of a value that is a map."""

    part: Annotated[Part, Meta(description="Set before the run, at its end, or most at once")]
    name: Annotated[str, Meta(description="The value")]
    key: Annotated[str, Meta(description='Resource, endpoint or setting of a map; "" of the value')]
    value: Annotated[Any, Meta(description="null where it is not known")]
    observed: Annotated[Any, Meta(description="Most that was observed; null where not known")]
    source: Annotated[str, Meta(description="Where the value comes from")]
    fallback_from: Annotated[str | None, Meta(description="Where the rest of it comes from")] = None
    missing_reason: Annotated[str | None, Meta(description="Why the value is not known")] = None
    observed_missing_reason: Annotated[
        str | None, Meta(description="Why the maximum is not known")
    ] = None

    @property
    def used_up(self) -> bool:
        """As much was in use at once as there is."""
        value = _mapping(self.value).get("cap", self.value)
        numbers = isinstance(value, int | float) and isinstance(self.observed, int | float)
        return bool(numbers and self.name in _BOUNDS and value and self.observed >= value)


Plan = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Part -> name -> value with its source and, where it is not known, the reason."""


def capacity_plan(run: RunInfo, state: State, peaks: Peaks) -> Plan:
    """Every value of the plan as of `state`. `peaks` may be empty."""
    plan = run.capacity_plan | state.capacity
    configured = _flat(_mapping(plan.get("configured"))) or _configured_of(run, state)
    untold = {"missing_reason": _UNTOLD}
    names = (*CONFIGURED, *sorted(configured.keys() - set(CONFIGURED)))
    ended = state.outcome is not None
    return {
        "configured": {name: configured.get(name) or untold for name in names},
        "runtime_snapshot": _completed(
            _mapping(plan.get("runtime_snapshot")), RUNTIME, _runtime_of(state), ended
        ),
        "observed_maxima": _completed(
            _mapping(plan.get("observed_maxima")), OBSERVED, _peaks(peaks), ended
        ),
    }


def capacity_rows(plan: Plan) -> tuple[CapacityRow, ...]:
    """A row for each value of `plan`, and for each entry of one that is a map."""
    maxima = plan.get("observed_maxima", {})
    rows: list[CapacityRow] = []
    for part in get_args(Part):
        for name, value in _flat(plan.get(part, {})).items():
            beside = maxima.get(_BESIDE.get(name, "")) if part == "configured" else None
            rows.extend(_rows(part, name, value, beside))
    return tuple(rows)


def _rows(
    part: Part, name: str, value: Mapping[str, Any], beside: Mapping[str, Any] | None
) -> Iterator[CapacityRow]:
    content = value.get("value")
    missing = _text(value.get("missing_reason"))
    if content is None and missing is None:
        missing = _UNTOLD

    def row(key: str, entry: object, most: object) -> CapacityRow:
        return CapacityRow(
            part=part,
            name=name,
            key=key,
            value=entry,
            observed=most,
            source=str(value.get("source") or "not told"),
            fallback_from=_text(value.get("fallback_from")),
            missing_reason=missing,
            observed_missing_reason=_text(_mapping(beside).get("missing_reason")),
        )

    most = _mapping(beside).get("value")
    if not isinstance(content, Mapping) or not content:
        most = most.get(_OWN_KEY.get(name, "")) if isinstance(most, Mapping) else most
        yield row("", content, most)
        return
    for key, entry in content.items():
        yield row(str(key), entry, most.get(key) if isinstance(most, Mapping) else None)


def _completed(
    plan: Mapping[str, Any], names: tuple[str, ...], known: Mapping[str, Any], ended: bool
) -> dict[str, Mapping[str, Any]]:
    """Values as told; those that are missing, from the events, or with the reason."""
    complete: dict[str, Mapping[str, Any]] = {}
    for name in names:
        value = _mapping(plan.get(name))
        if value.get("value") is None:
            if known.get(name) is not None:
                value = {"value": known[name], "source": "runtime_snapshot"}
            elif not value:
                value = {
                    "source": "runtime_snapshot",
                    "missing_reason": _UNTOLD if ended else _NOT_ENDED,
                }
        complete[name] = value
    return complete


def _flat(configured: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """A struct of values is taken as those values."""
    flat: dict[str, Mapping[str, Any]] = {}
    for name, value in configured.items():
        if not isinstance(value, Mapping):
            continue
        if "source" in value or "missing_reason" in value or "value" in value:
            flat[name] = value
        else:
            flat.update((k, v) for k, v in value.items() if isinstance(v, Mapping))
    return flat


def _configured_of(run: RunInfo, state: State) -> dict[str, Mapping[str, Any]]:
    """What the events of a producer tell that writes no plan."""
    limits = dict(run.resource_limits) or dict(state.limits)
    caps: dict[str, Any] = {
        ceiling.provider_model: {"cap": ceiling.static_cap}
        for ceiling in state.ceilings.values()
        if ceiling.static_cap is not None
    }
    for name, aggregate in state.aggregates.items():
        if aggregate.static_cap is not None:
            caps[name] = {
                "cap": aggregate.static_cap,
                "aliases": list(aggregate.aliases),
                "raw_caps": aggregate.raw_caps,
            }
    known: dict[str, Any] = {
        "buffer_size": run.configuration.get("buffer_size"),
        "submission_capacity": limits.get("submission"),
        "task_resource_limits": limits or None,
        "request_resources": list(state.ceilings) or None,
        "provider_model_static_caps": caps or None,
    }
    return {
        name: {"value": value, "source": "runtime_snapshot"}
        for name, value in known.items()
        if value is not None
    }


def _runtime_of(state: State) -> dict[str, Any]:
    ceilings = state.ceilings
    if not ceilings:
        return {"row_group_target": state.row_groups.target}
    return {
        "current_limits": {name: ceiling.limit for name, ceiling in ceilings.items()},
        "effective_max": {name: ceiling.effective_max for name, ceiling in ceilings.items()},
        "blocked_until": {
            name: ceiling.blocked_until
            for name, ceiling in ceilings.items()
            if ceiling.blocked_until is not None
        },
        "aggregate_in_flight": {
            name: aggregate.in_flight for name, aggregate in state.aggregates.items()
        },
        "row_group_target": state.row_groups.target,
    }


def _peaks(peaks: Peaks) -> dict[str, Any]:
    return {
        name: {key: int(peak) for key, peak in peaks[series].items()}
        for name, series in _SERIES.items()
        if peaks.get(series)
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)
