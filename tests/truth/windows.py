"""What was true of a trial: windows of trouble from the log of its server, and from its clock."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from tests.truth.facts import Endpoint, Run, Source, Status, Window, joined
from tests.truth.server import Call
from tests.truth.trial import Trial

JOINED_SECONDS = 2.0
"""Failures of one kind that lie no further apart are one window."""
SLOW_FACTOR, SLOW_SECONDS = 3.0, 0.3
"""A call is slow that took so many times the median, and so much longer than it."""
BUSY_SHARE = 0.5
"""A machine on which something waits for a core for so much of the time has a busy neighbour."""
LOOP_FUNCTIONS = frozenset({"lag", "once", "spin", "burst", "gil"})


def run_of(trial: Trial, file: str, source: Source, began: float, seconds: float) -> Run:
    """The truth of one recording.

    Args:
        trial: What was seen.
        file: Name of the recording.
        source: What made it.
        began: Monotonic second of its first event.
        seconds: How long it is.
    """
    calls = [call for call in trial.calls if call.answered > began]
    windows = [
        *_failures(calls, began),
        *_cooldowns(calls, began),
        *_slow_calls(calls, began),
        *_process(trial, began),
    ]
    for provider in trial.situation.dead:
        for model in trial.situation.models:
            if model.provider == provider:
                resource = f"{provider}/{model.model}"
                windows.append(Window("refused connections", 0.0, seconds, resource))
    if trial.situation.neighbour or trial.busy_share > BUSY_SHARE:
        windows.append(Window("busy neighbour", 0.0, seconds))
    return Run(
        file=file,
        first_call=min((call.arrived - began for call in calls), default=0.0),
        last_answer=max((call.answered - began for call in calls), default=seconds),
        windows=tuple(sorted(windows, key=lambda window: window.start)),
        server=_endpoints(trial, calls, began),
        rows_kept=trial.rows_kept,
        rows_asked=trial.situation.records,
    )


def _failures(calls: list[Call], began: float) -> list[Window]:
    spans: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for call in calls:
        what = ""
        if call.status == "reset":
            what = "reset connections"
        elif call.status not in ("200", "abandoned"):
            what = f"{call.status} answers"
        elif call.note in ("malformed", "empty", "filter", "error_body"):
            what = f"{call.note} answers"
        if what:
            spans[what, call.resource].append((call.arrived - began, call.answered - began))
    return [
        Window(what, start, end, resource)
        for (what, resource), of_kind in spans.items()
        for start, end in joined(of_kind, JOINED_SECONDS)
    ]


def _cooldowns(calls: list[Call], began: float) -> list[Window]:
    spans: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for call in calls:
        if call.status == "429" and call.retry_after is not None:
            start = call.answered - began
            spans[call.resource].append((start, start + call.retry_after))
    return [
        Window("cooldown after 429", start, end, resource)
        for resource, of_resource in spans.items()
        for start, end in joined(of_resource, 0.05)
    ]


def _slow_calls(calls: list[Call], began: float) -> list[Window]:
    durations: defaultdict[str, list[float]] = defaultdict(list)
    for call in calls:
        if call.status == "200" and not call.note:
            durations[call.resource].append(call.answered - call.arrived)
    usual = {resource: median(times) for resource, times in durations.items()}
    spans: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for call in calls:
        took = call.answered - call.arrived
        least = usual.get(call.resource, 0.0)
        if call.note == "hung" or took > max(SLOW_FACTOR * least, least + SLOW_SECONDS):
            what = "hung call" if call.note == "hung" else "slow calls"
            spans[what, call.resource].append((call.arrived - began, call.answered - began))
    return [
        Window(what, start, end, resource)
        for (what, resource), of_kind in spans.items()
        for start, end in joined(of_kind, 0.1)
    ]


def _process(trial: Trial, began: float) -> list[Window]:
    windows = [Window("process stopped", a - began, b - began) for a, b in trial.stopped]
    for column, start, end in trial.work:
        what = "event loop blocked by" if column in LOOP_FUNCTIONS else "CPU work of"
        windows.append(Window(f"{what} column {column}", start - began, end - began))
    return windows


def _endpoints(trial: Trial, calls: list[Call], began: float) -> dict[str, Endpoint]:
    endpoints = {}
    for model in trial.situation.models:
        resource = f"{model.provider}/{model.model}"
        own = [call for call in calls if call.resource == resource]
        caps = [
            other.cap
            for other in trial.situation.models
            if (other.provider, other.model) == (model.provider, model.model)
        ]
        times: defaultdict[str, list[float]] = defaultdict(list)
        for call in own:
            times[call.status].append(call.answered - began)
        endpoints[resource] = Endpoint(
            cap=min(caps),
            max_in_flight=_most_at_once(own),
            calls=len(own),
            busy_slot_seconds=sum(call.answered - call.arrived for call in own),
            statuses={
                status: Status(len(at), min(at), max(at)) for status, at in sorted(times.items())
            },
        )
    return endpoints


def _most_at_once(calls: list[Call]) -> int:
    edges = sorted([(call.arrived, 1) for call in calls] + [(call.answered, -1) for call in calls])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
