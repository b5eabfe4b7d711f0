"""Nothing that could go on stands still: held against a stream at every instant time moves on.

Under virtual time all that follows from a fact happens at its own instant. So when time moves, no
queued head fits, no waiter could have a lease, no timer is overdue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.events import Event, RunInfo
from replay.state.model import State
from replay.state.payload import amounts, count, number
from replay.state.reducer import begin, reduce
from tests.engine.scheduling.harness import Broken


@dataclass(frozen=True)
class Promises:
    """What the stream itself doesn't tell."""

    row_groups: int
    """How many are to be admitted in the end; 0 where a stop may keep them from it."""
    queue_wait_timeout: float | None = None
    holds_back: bool = False
    """A policy may keep units free from a group that holds some, for groups to come."""


def check_conservation(events: list[Event], promises: Promises) -> None:
    """Raises `Broken` with `work_conservation`, `request_conservation`, `explanation` or
    `lost_timer`."""
    run = RunInfo("run", "test")
    state = begin(run)
    heads = _Heads()
    for ordinal, event in enumerate(events, 1):
        now = event.captured_at_monotonic
        if now > state.time and ordinal > 1:
            for sentence in heads.idle(state, promises.holds_back):
                raise Broken("work_conservation", f"at {state.time:g} s {sentence}")
            for sentence in heads.explained(state):
                raise Broken("explanation", f"at {state.time:g} s {sentence}")
            for sentence in _requests(state, now, promises):
                raise Broken("request_conservation", f"at {state.time:g} s {sentence}")
            for sentence in heads.overdue(now):
                raise Broken("lost_timer", f"at {now:g} s {sentence}")
            rows = state.row_groups
            room = rows.target is not None and len(rows.in_flight) < rows.target
            if room and rows.admitted < promises.row_groups:
                raise Broken(
                    "work_conservation", f"at {state.time:g} s a row group could be admitted"
                )
        heads.look(event)
        reduce(state, event, ordinal, run)


class _Heads:
    """What queued groups need, and which tasks wait for what."""

    def __init__(self) -> None:
        self.needs: dict[str, dict[str, int]] = {}
        self.caps: dict[str, int] = {}
        self.ready: dict[str, float] = {}
        self.retry_at: dict[str, float] = {}

    def look(self, event: Event) -> None:
        kind = event.event_kind
        task_id = getattr(event, "task_id", None)
        if task_id is None:
            return
        facts = event.diagnostics
        if kind == "dependency_ready":
            self.retry_at.pop(task_id, None)
            self.ready[task_id] = event.captured_at_monotonic
        elif kind == "ready_enqueued":
            self.ready.pop(task_id, None)
            self.needs[facts["group"]] = amounts(facts.get("resources"))
            cap = count(facts.get("admitted_limit"))
            if cap is not None:
                self.caps[facts["group"]] = cap
        elif kind == "retry_deferred":
            retry_at = number(facts.get("retry_at"))
            assert retry_at is not None
            self.retry_at[task_id] = retry_at
        elif kind in ("cancelled", "non_retryable_dropped"):
            self.ready.pop(task_id, None)
            self.retry_at.pop(task_id, None)

    def idle(self, state: State, holds_back: bool) -> Iterator[str]:
        yield from (f"{task_id} is ready and not queued" for task_id in self.ready)
        fitting = [
            name
            for name, group in state.groups.items()
            if group.queued
            and not (holds_back and group.leased)
            and group.leased < self.caps.get(name, group.leased + 1)
            and not self._lacks(state, name)
        ]
        if fitting:
            yield f"{', '.join(fitting)} could run"

    def explained(self, state: State) -> Iterator[str]:
        """Is what was last told of the queue still so?"""
        queued = {name for name, group in state.groups.items() if group.queued}
        block = state.block
        if not queued:
            return
        if block is None or block.kind == "queue_empty":
            yield "work is queued and nothing says why"
        elif block.groups.keys() != queued:
            yield f"{sorted(block.groups)} are told as denied, {sorted(queued)} are queued"
        else:
            for name, denial in block.groups.items():
                if (denial == "no_capacity") != bool(self._lacks(state, name)):
                    yield f"{name} is told as {denial} and lacks {self._lacks(state, name)}"

    def _lacks(self, state: State, group: str) -> list[str]:
        return [
            resource
            for resource, amount in self.needs[group].items()
            if state.limits[resource] - state.leased.get(resource, 0) < amount
        ]

    def overdue(self, now: float) -> Iterator[str]:
        return (
            f"{task_id} should have come back at {at:g}"
            for task_id, at in self.retry_at.items()
            if at < now
        )


def _requests(state: State, now: float, promises: Promises) -> Iterator[str]:
    for ceiling in state.ceilings.values():
        if not ceiling.waiters or ceiling.in_flight >= ceiling.limit:
            continue
        if ceiling.wait_reason in ("outage", "suspended", "request_rate_budget"):
            continue
        if ceiling.blocked_until is not None and ceiling.blocked_until >= now:
            continue
        shared = state.aggregates[ceiling.provider_model]
        if shared.static_cap is None or shared.in_flight < shared.static_cap:
            yield f"a waiter of {ceiling.resource} could have a lease"
    if promises.queue_wait_timeout is not None:
        for attempt in state.attempts.values():
            if attempt.phase == "waiting":
                deadline = attempt.since + promises.queue_wait_timeout
                if deadline < now:
                    yield f"{attempt.attempt_id} should have timed out at {deadline:g}"
