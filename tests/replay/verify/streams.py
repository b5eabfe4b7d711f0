"""A healthy run of the engine, and ways to break its stream so that one rule must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import msgspec

from engine.events import Event, RunInfo, SchedulerEvent
from engine.workflow.demo import demo_workflow
from tests.engine_run import run_engine

Mutation = Callable[[list[Event]], list[Event]]


@cache
def healthy(records: int = 60) -> tuple[RunInfo, tuple[Event, ...]]:
    """A run of several row groups under virtual time, of 60 records with a rate-limit storm."""
    ran = run_engine(demo_workflow(records=records))
    return ran.run, tuple(ran.events)


def renumbered(events: Iterable[Event]) -> list[Event]:
    """As if the engine had said it like that: no number is missing or repeated."""
    last = {"scheduler": 0, "request": 0}
    result: list[Event] = []
    for event in events:
        stream = "scheduler" if isinstance(event, SchedulerEvent) else "request"
        last[stream] += 1
        result.append(msgspec.structs.replace(event, sequence=last[stream]))
    return result


def places(events: list[Event], kind: str, **facts: Any) -> list[int]:
    """Where events of the kind stand; `facts` are fields of diagnostics that must be equal."""
    return [
        index
        for index, event in enumerate(events)
        if event.event_kind == kind
        and all(event.diagnostics.get(name) == value for name, value in facts.items())
    ]


def without(kind: str, position: int = 5) -> Mutation:
    def mutate(events: list[Event]) -> list[Event]:
        index = places(events, kind)[position]
        return renumbered(events[:index] + events[index + 1 :])

    return mutate


def twice(kind: str, position: int = 5) -> Mutation:
    def mutate(events: list[Event]) -> list[Event]:
        index = places(events, kind)[position]
        return renumbered(events[: index + 1] + events[index:])

    return mutate


def changed(kind: str, position: int = 5, **fields: Any) -> Mutation:
    """`diagnostics` are merged, other fields replaced."""

    def mutate(events: list[Event]) -> list[Event]:
        index = places(events, kind)[position]
        event = events[index]
        new = dict(fields)
        if "diagnostics" in new:
            new["diagnostics"] = event.diagnostics | new["diagnostics"]
        events[index] = msgspec.structs.replace(event, **new)
        return events

    return mutate


def both(first: Mutation, then: Mutation) -> Mutation:
    return lambda events: then(first(events))


def added(kind: str, where: Callable[[list[Event]], int], **fields: Any) -> Mutation:
    """A scheduler event that nobody meant, at the time of its neighbour."""

    def mutate(events: list[Event]) -> list[Event]:
        index = where(events)
        event = SchedulerEvent(kind, events[index].captured_at_monotonic, 0, **fields)
        return renumbered([*events[: index + 1], event, *events[index + 1 :]])

    return mutate


def swapped(kind: str, with_kind: str, position: int = 5) -> Mutation:
    """An event changes places with the next one of another kind, of the same task or attempt."""

    def mutate(events: list[Event]) -> list[Event]:
        index = places(events, kind)[position]
        other = next(
            place
            for place in places(events, with_kind)
            if place > index and _owner(events[place]) == _owner(events[index])
        )
        first, second = events[index], events[other]
        events[index] = msgspec.structs.replace(
            second, captured_at_monotonic=first.captured_at_monotonic
        )
        events[other] = msgspec.structs.replace(
            first, captured_at_monotonic=second.captured_at_monotonic
        )
        return renumbered(events)

    return mutate


def _owner(event: Event) -> str | None:
    return event.task_id if isinstance(event, SchedulerEvent) else event.request_attempt_id
