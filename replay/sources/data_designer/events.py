"""Data Designer's events in headgate's words (see plans/event-stream.md, "Data Designer")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from engine.events import Event, SchedulerEvent
from replay.sources.data_designer.requests import RequestMapper
from replay.sources.data_designer.run import RowIndex, rows_to_make
from replay.sources.data_designer.wire import (
    Snapshot,
    WireLine,
    debt_key,
    group_label,
)
from replay.state.payload import amounts, count, mapping, number, text

_OUTCOMES = {
    "success": "success",
    "cancelled": "cancelled",
    "error": "failed",
    "early_shutdown": "failed",
}
_IN_SNAPSHOT = (
    "queued_total",
    "queued_by_group",
    "queued_demand_by_resource",
    "leased_resources",
    "resource_limits",
    "resources_available",
    "target_row_groups",
    "deferred_tasks",
    "pending_pre_batch_tasks",
)


_NO_SNAPSHOT = Snapshot()


class EventMapper:
    """Maps lines of one run, in order of time, one event for each line."""

    def __init__(self, rows: RowIndex) -> None:
        self._rows = rows
        self._requests = RequestMapper()
        self._retries: dict[str, int] = {}
        self._ends: dict[str, str] = {}
        self._queued: dict[str, int] = {}
        self._needs: dict[str, dict[str, int]] = {}
        self._columns: dict[str, dict[str, Any]] = {}
        """What the start of the job said of a group's column, by hash of the group."""
        self._view = _NO_SNAPSHOT
        """The last that a keyframe was made of, and what it says by label of a group."""
        self._running: dict[str, int] = {}
        self._debt: dict[str, dict[str, int]] = {}
        self._row_groups: set[int] = set()
        self._admitted = 0
        self._checkpointed = 0
        self._rows_done = 0
        self._rows_dropped = 0
        self._scheduler: dict[str, Callable[[WireLine, dict[str, Any]], str | None]] = {
            "scheduler_job_started": self._job_started,
            "scheduler_job_completed": self._job_completed,
            "dependency_ready": self._ready,
            "ready_enqueued": self._ready,
            "task_lease_acquired": self._lease,
            "task_completed": self._completed,
            "retry_deferred": self._deferred,
            "non_retryable_dropped": self._dropped,
            "cancelled": self._cancelled,
            "task_lease_released": self._released,
            "admission_blocked": self._blocked,
            "group_capped": self._blocked,
            "request_pressure_advisory_skipped": self._skipped,
            "row_group_admitted": self._row_group_admitted,
            "row_group_admission_blocked": self._row_group_admission,
            "row_group_admission_target_changed": self._row_group_admission,
            "row_group_checkpointed": self._row_group_checkpointed,
        }

    def map(self, line: WireLine, *, late: bool = False, live: bool = False) -> Event:
        """`late`: what belongs behind the line was mapped already. `live`: such lines may come."""
        facts = dict(line.details.facts)
        if late:
            facts["late"] = True
        if live and line.event_kind == "scheduler_health_snapshot":
            facts["waits_told_late"] = True
        if line.is_request:
            return self._requests.map(line, facts)
        return self._of_scheduler(line, facts)

    def _of_scheduler(self, line: WireLine, facts: dict[str, Any]) -> SchedulerEvent:
        facts.pop("task_group_key", None)
        facts.pop("resource_request", None)
        group = line.details.group
        if group is not None:
            facts["group"] = group
            facts["resources"] = line.details.needs
        correlation = line.captured_correlation
        if correlation is not None and correlation.task_type == "from_scratch":
            correlation = msgspec.structs.replace(correlation, task_type="batch")
        reason = line.reason_or_result
        snapshot = None
        if line.event_kind == "scheduler_health_snapshot":
            snapshot = self._keyframe(line, facts)
        else:
            interpret = self._scheduler.get(line.event_kind)
            if interpret is not None:
                reason = interpret(line, facts) or reason
            elif line.task_id is not None:
                facts.pop("group", None)
                facts.pop("resources", None)
        return SchedulerEvent(
            line.event_kind,
            line.captured_at_monotonic,
            line.sequence,
            correlation,
            line.task_id,
            line.task_execution_id,
            line.task_lease_id,
            line.scheduler_resource_key,
            reason,
            snapshot,
            facts,
        )

    def _job_started(self, line: WireLine, facts: dict[str, Any]) -> None:
        for column in _dicts(facts.pop("column_scheduling", None)):
            self._columns[str(column.get("group_identity_hash"))] = column
        _set(facts, "records", rows_to_make(facts))
        if facts.get("num_records") == facts.get("records"):
            facts.pop("num_records", None)
        _rename(facts, "row_group_count", "row_groups")
        _rename(facts, "resource_limits", "limits")

    def _job_completed(self, line: WireLine, facts: dict[str, Any]) -> str:
        for name in (*_IN_SNAPSHOT, "request_pressure"):
            facts.pop(name, None)
        facts["rows_done"] = self._rows_done
        facts["rows_dropped"] = self._rows_dropped
        _rename(facts, "error_type", "message")
        return _OUTCOMES.get(line.reason_or_result or "", "failed")

    def _ready(self, line: WireLine, facts: dict[str, Any]) -> None:
        row = self._rows.find(line.captured_correlation, line.task_id)
        if row is not None:
            facts["row"] = row
        facts["attempt"] = self._attempt(line)
        needs = facts.get("resources")
        if line.event_kind == "dependency_ready":
            facts.pop("resources", None)
            return
        group = facts.get("group")
        if group is None:
            return
        self._queued[group] = self._queued.get(group, 0) + 1
        if needs:
            self._needs[group] = needs
        correlation = line.captured_correlation
        digest = correlation.scheduling_group_identity_hash if correlation else None
        column = self._columns.get(digest or "", {})
        _set(facts, "weight", number(column.get("group_weight")))
        _set(facts, "request_resource", text(column.get("request_resource")))

    def _lease(self, line: WireLine, facts: dict[str, Any]) -> None:
        group = facts.pop("group", None)
        if group is not None and self._queued.get(group):
            self._queued[group] -= 1

    def _completed(self, line: WireLine, facts: dict[str, Any]) -> str | None:
        """A deferred or dropped task is reported completed as well: the result tells them apart."""
        _forget_shape(facts)
        return self._ends.get(line.task_execution_id or "")

    def _deferred(self, line: WireLine, facts: dict[str, Any]) -> str | None:
        _forget_shape(facts)
        facts["attempt"] = self._attempt(line)
        if line.task_id is not None:
            self._retries[line.task_id] = facts["attempt"]
        execution = line.task_execution_id or ""
        self._ends[execution] = "deferred"
        return self._requests.last_failure.get(execution)

    def _dropped(self, line: WireLine, facts: dict[str, Any]) -> str | None:
        _forget_shape(facts)
        facts["attempt"] = self._attempt(line)
        self._ends[line.task_execution_id or ""] = "dropped"
        return text(facts.pop("error_type", None))

    def _cancelled(self, line: WireLine, facts: dict[str, Any]) -> None:
        _forget_shape(facts)

    def _released(self, line: WireLine, facts: dict[str, Any]) -> None:
        _forget_shape(facts)
        execution = line.task_execution_id or ""
        self._requests.last_failure.pop(execution, None)
        if self._ends.pop(execution, None) != "deferred" and line.task_id is not None:
            self._retries.pop(line.task_id, None)

    def _skipped(self, line: WireLine, facts: dict[str, Any]) -> str | None:
        facts.pop("resources", None)
        return text(facts.get("pressure_reason"))

    def _blocked(self, line: WireLine, facts: dict[str, Any]) -> str | None:
        reasons = amounts(facts.get("reasons"))
        view = line.view or _NO_SNAPSHOT
        policy = [reason for reason in reasons if reason != "no_capacity"]
        groups: dict[str, str] = {}
        resources: dict[str, dict[str, Any]] = {}
        for group, queued in self._queued.items():
            if queued <= 0:
                continue
            short = False
            for resource, needed in self._needs.get(group, {}).items():
                free = view.resources_available.get(resource, 0)
                if isinstance(needed, int) and free < needed:
                    short = True
                    if resource not in resources:
                        resources[resource] = _shortage(view, resource, needed, free)
            if short:
                groups[group] = "no_capacity"
            elif len(policy) == 1:
                groups[group] = policy[0]
        facts["groups"] = groups
        facts["resources"] = resources
        return max(reasons, key=reasons.__getitem__) if reasons else None

    def _row_group_admitted(self, line: WireLine, facts: dict[str, Any]) -> None:
        row_group = facts.get("row_group")
        if isinstance(row_group, int):
            self._row_groups.add(row_group)
        self._admitted += 1
        _rename(facts, "row_group_size", "rows")
        self._row_group_admission(line, facts)

    def _row_group_admission(self, line: WireLine, facts: dict[str, Any]) -> str | None:
        _rename(facts, "active_row_groups", "in_flight")
        _rename(facts, "target_row_groups", "target")
        _rename(facts, "old_target", "previous")
        _rename(facts, "new_target", "current")
        return text(facts.get("reason"))

    def _row_group_checkpointed(self, line: WireLine, facts: dict[str, Any]) -> str | None:
        row_group = facts.get("row_group")
        if isinstance(row_group, int):
            self._row_groups.discard(row_group)
            self._rows.forget(row_group)
        self._checkpointed += 1
        self._rows_done += count(facts.get("surviving_rows")) or 0
        self._rows_dropped += count(facts.get("dropped_rows")) or 0
        _rename(facts, "row_group_size", "rows")
        return text(facts.get("result"))

    def _keyframe(self, line: WireLine, facts: dict[str, Any]) -> dict[str, Any]:
        """headgate's keyframe as far as the line knows it; `facts` loses what went into it."""
        view = line.view or _NO_SNAPSHOT
        parts = {name: facts.pop(name, None) for name in _IN_SNAPSHOT}
        queued = {
            group_label(key): heads for key, heads in amounts(parts["queued_by_group"]).items()
        }
        self._queued = dict(queued)
        if view is not self._view:
            self._view, self._running, self._debt = view, _running(view), _debt(view)
        running = self._running
        row_groups: dict[str, Any] = {
            "admitted": self._admitted,
            "checkpointed": self._checkpointed,
        }
        if facts.get("active_row_groups") == len(self._row_groups):
            row_groups["in_flight"] = sorted(self._row_groups)
        if isinstance(parts["target_row_groups"], int):
            row_groups["target"] = parts["target_row_groups"]
        pressure = mapping(facts.pop("request_pressure", None))
        aggregates = _aggregates(mapping(pressure.get("provider_models")))
        requests = _requests(
            mapping(pressure.get("resources")), aggregates, line.captured_at_monotonic
        )
        facts["request_pressure"] = requests
        return {
            "queued_total": count(parts["queued_total"]) or 0,
            "queued_by_group": queued,
            "demand_by_resource": amounts(parts["queued_demand_by_resource"]),
            "limits": view.resource_limits or mapping(parts["resource_limits"]),
            "available": view.resources_available or mapping(parts["resources_available"]),
            "leased": amounts(view.leased_resources),
            "leased_by_group": running,
            "running_by_group": running,
            "debt_by_group": self._debt,
            "active_leases": sum(running.values()),
            "ready": count(parts["pending_pre_batch_tasks"]) or 0,
            "deferred": count(parts["deferred_tasks"]) or 0,
            "row_groups": row_groups,
            "requests": requests,
            "aggregates": aggregates,
        }

    def _attempt(self, line: WireLine) -> int:
        return self._retries.get(line.task_id or "", 0) + 1


def _running(view: Snapshot) -> dict[str, int]:
    return {group_label(key): n for key, n in view.running_counts_by_group.items() if n}


def _debt(view: Snapshot) -> dict[str, dict[str, int]]:
    debt: dict[str, dict[str, int]] = {}
    for key, amount in view.policy_debt_by_group_resource.items():
        names = debt_key(key)
        if names is not None and amount:
            debt.setdefault(names[0], {})[names[1]] = amount
    return debt


def _shortage(view: Snapshot, resource: str, needed: int, free: int) -> dict[str, Any]:
    held = [
        (amounts.get(resource, 0), group_label(key))
        for key, amounts in view.leased_resources_by_group.items()
    ]
    return {
        "needed": needed,
        "limit": view.resource_limits.get(resource, 0),
        "free": free,
        "holders": [
            {"group": group, "leases": max(1, amount // max(1, needed))}
            for amount, group in sorted(held, reverse=True)
            if amount > 0
        ],
    }


def _requests(
    resources: dict[str, Any], aggregates: dict[str, Any], at: float
) -> dict[str, dict[str, Any]]:
    rows = {}
    for label, value in resources.items():
        pressure = mapping(value)
        row: dict[str, Any] = {
            "effective_max": count(pressure.get("effective_max")) or 0,
            "limit": count(pressure.get("current_limit")) or 0,
            "in_flight": count(pressure.get("in_flight_count")) or 0,
            "waiters": count(pressure.get("waiters")) or 0,
        }
        remaining = number(pressure.get("cooldown_remaining_seconds"))
        if pressure.get("blocked") and remaining is not None:
            row["blocked_until"] = at + remaining
        _set(row, "last_outcome", pressure.get("last_outcome"))
        aggregate = aggregates.get(label.rpartition("/")[0])
        if aggregate is not None:
            row["static_cap"] = aggregate["static_cap"]
        rows[label] = row
    return rows


def _aggregates(provider_models: dict[str, Any]) -> dict[str, Any]:
    return {
        label: {
            "static_cap": count(mapping(value).get("static_cap")) or 0,
            "in_flight": count(mapping(value).get("aggregate_in_flight")) or 0,
        }
        for label, value in provider_models.items()
    }


def _forget_shape(facts: dict[str, Any]) -> None:
    facts.pop("group", None)
    facts.pop("resources", None)


def _rename(facts: dict[str, Any], old: str, new: str) -> None:
    if old in facts:
        facts[new] = facts.pop(old)


def _set(facts: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        facts[name] = value


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
