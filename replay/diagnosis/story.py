"""The life of one task: every wait with the stalls that kept it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from replay.diagnosis.why import Step, TaskStory
from replay.rows import AttemptRow, LeaseRow, VerdictRow
from replay.state import State, Task
from replay.timeline import lease_row, open_attempt_row


class Bounds(Protocol):
    @property
    def last_ordinal(self) -> int: ...

    @property
    def t0(self) -> float: ...

    @property
    def t1(self) -> float: ...


class Reader(Protocol):
    def bounds(self) -> Bounds: ...

    def state_at(self, ordinal: int) -> State: ...

    def life(self, task_id: str) -> tuple[list[LeaseRow], list[AttemptRow]]: ...


def tell(reader: Reader, task_id: str, verdicts: Sequence[VerdictRow]) -> TaskStory:
    """Raises `LookupError` where the recording has no such task."""
    bounds = reader.bounds()
    leases, attempts = reader.life(task_id)
    state = reader.state_at(bounds.last_ordinal)
    task = state.tasks.get(task_id)
    if task is not None:
        known = {lease.lease_id for lease in leases}
        held = lease_row(task, None, None)
        if held is not None and held.lease_id not in known:
            leases.append(held)
        tried = {attempt.attempt_id for attempt in attempts}
        attempts += [
            open_attempt_row(one)
            for one in state.attempts.values()
            if one.execution_id == task.execution_id and one.attempt_id not in tried
        ]
    if task is None and not leases:
        raise LookupError(task_id)
    end = bounds.t1
    steps: list[Step] = []
    for lease in leases:
        steps += _of_lease(lease, [a for a in attempts if a.execution_id == lease.execution_id])
    if task is not None and task.lease_id is None:
        steps += _of_waiting(task)
    first = leases[0] if leases else task
    assert first is not None
    row = task.row if task is not None else first.row
    return TaskStory(
        task_id,
        first.column,
        first.row_group,
        row,
        task.phase if task is not None else (leases[-1].result or "unknown"),
        _position(state, task),
        tuple(_seen(step, verdicts, bounds.t0, end) for step in steps),
    )


def _of_lease(lease: LeaseRow, attempts: Sequence[AttemptRow]) -> list[Step]:
    group = lease.group
    steps = []
    if lease.ready_at is not None and lease.enqueued_at is not None:
        steps.append(Step(lease.ready_at, lease.enqueued_at, "ready, not yet queued"))
    if lease.enqueued_at is not None:
        steps.append(Step(lease.enqueued_at, lease.acquired_at, "queued for a task slot", group))
    busy = lease.spawned_at if lease.spawned_at is not None else lease.acquired_at
    for attempt in attempts:
        if attempt.wait_started_at is not None:
            until = attempt.acquired_at if attempt.acquired_at is not None else attempt.released_at
            if attempt.wait_started_at > busy:
                steps.append(Step(busy, attempt.wait_started_at, "own work"))
            steps.append(Step(attempt.wait_started_at, until, "waiting to call", attempt.resource))
            busy = until if until is not None else busy
        if attempt.started_at is not None:
            ended = attempt.completed_at
            outcome = f" ({attempt.outcome})" if attempt.outcome not in (None, "success") else ""
            steps.append(
                Step(attempt.started_at, ended, f"in the provider{outcome}", attempt.resource)
            )
            busy = ended if ended is not None else busy
    open_call = any(step.end is None for step in steps)
    if not open_call and (lease.released_at is None or lease.released_at > busy):
        steps.append(Step(busy, lease.released_at, "own work"))
    return steps


def _of_waiting(task: Task) -> list[Step]:
    if task.phase == "deferred":
        return [Step(task.since, None, "waiting to be tried again", task.request_resource)]
    since = task.ready_at if task.ready_at is not None else task.since
    if task.enqueued_at is None:
        return [Step(since, None, "ready, not yet queued")]
    steps = [Step(task.enqueued_at, None, "queued for a task slot", task.group)]
    return [Step(since, task.enqueued_at, "ready, not yet queued"), *steps]


def _position(state: State, task: Task | None) -> int | None:
    if task is None or task.phase not in ("queued", "selected"):
        return None
    before = 0
    for other in state.tasks.values():
        if other.group == task.group and other.phase == "queued" and other is not task:
            before += (other.enqueued_at or 0.0) < (task.enqueued_at or 0.0)
    return before


def _seen(step: Step, verdicts: Sequence[VerdictRow], t0: float, last: float) -> Step:
    """In run time, with the verdicts that lie over a wait."""
    end = step.end if step.end is not None else last
    over: dict[str, float] = {}
    if step.what.startswith(("queued", "waiting", "in the provider")):
        for row in verdicts:
            covered = min(row.end, end) - max(row.start, step.start)
            if covered > 0 and _concerns(row, step):
                over[row.verdict] = over.get(row.verdict, 0.0) + covered
    stop = None if step.end is None else step.end - t0
    return Step(step.start - t0, stop, step.what, step.resource, over)


def _concerns(row: VerdictRow, step: Step) -> bool:
    if row.resource is None or row.tier == "A":
        return True
    request = row.detail.get("request_resource")
    if step.what.startswith("queued"):
        return "/" not in row.resource or ":" in row.resource or request is not None
    return step.resource in (row.resource, request)
