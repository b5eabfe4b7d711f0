"""What must hold while a provider answers nobody, held against the stream of a run."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

from engine.events import Event, RequestEvent, SchedulerEvent
from engine.events.failures import FAILURES
from tests.engine.scheduling.harness import Broken


class Outage(NamedTuple):
    began: float
    ended: float

    def covers(self, time: float) -> bool:
        return self.began <= time <= self.ended


def check_outages(events: list[Event], max_attempts: int) -> None:
    """Raises `Broken`: `call_to_a_dead_resource` for a call other than a probe to a resource that
    is out, `attempt_lost_to_an_outage` for a task that was dropped before it had used up its
    attempts at times at which its resource was not."""
    confirmed = _confirmed_outages(events)
    out: set[str] = set()
    failed_at: dict[str, list[tuple[str, float]]] = defaultdict(list)
    failures: dict[str, int] = defaultdict(int)
    excused: dict[str, int] = defaultdict(int)
    for event in events:
        if isinstance(event, RequestEvent):
            _check_calls(event, out)
            correlation = event.captured_correlation
            if event.event_kind == "model_request_completed" and correlation is not None:
                resource = event.request_resource_key
                if event.diagnostics.get("class") is not None and resource is not None:
                    execution = correlation.task_execution_id or ""
                    failed_at[execution].append((resource.label, event.captured_at_monotonic))
        elif event.event_kind in ("retry_deferred", "non_retryable_dropped"):
            task = event.task_id or ""
            if event.event_kind == "retry_deferred" or event.task_lease_id is not None:
                failures[task] += 1
                last = failed_at.get(event.task_execution_id or "", [])[-1:]
                covered = any(o.covers(at) for name, at in last for o in confirmed.get(name, ()))
                excused[task] += covered
            if event.event_kind == "non_retryable_dropped" and _of_the_provider(event):
                own = failures[task] - excused[task]
                if own < max_attempts:
                    raise Broken(
                        "attempt_lost_to_an_outage",
                        f"{task} is dropped with {own} failures of its own",
                    )


def _check_calls(event: RequestEvent, out: set[str]) -> None:
    resource = event.request_resource_key
    label = "" if resource is None else resource.label
    if event.event_kind == "request_outage":
        if event.reason_or_outcome == "closed":
            out.discard(label)
        else:
            out.add(label)
    elif (
        event.event_kind == "request_lease_acquired"
        and label in out
        and event.diagnostics.get("probe") is not True
    ):
        raise Broken(
            "call_to_a_dead_resource", f"{event.request_lease_id} goes to {label}, which is out"
        )


def _of_the_provider(event: SchedulerEvent) -> bool:
    name = event.diagnostics.get("class")
    return (
        name in FAILURES
        and FAILURES[name].scope in ("resource", "person")
        and (event.reason_or_result != "RefusedAlways")
    )


def _confirmed_outages(events: list[Event]) -> dict[str, list[Outage]]:
    result: dict[str, list[Outage]] = defaultdict(list)
    began: dict[str, float] = {}
    confirmed: set[str] = set()
    for event in events:
        if event.event_kind not in ("request_outage", "request_suspended"):
            continue
        assert isinstance(event, RequestEvent)
        label = event.request_resource_key.label if event.request_resource_key else ""
        now = event.captured_at_monotonic
        if event.reason_or_outcome == "opened":
            began[label] = now
        elif event.reason_or_outcome == "closed":
            if label in confirmed:
                result[label].append(Outage(began[label], now))
            confirmed.discard(label)
            began.pop(label)
        else:
            confirmed.add(label)
    for label in confirmed:
        result[label].append(Outage(began[label], math.inf))
    return result
