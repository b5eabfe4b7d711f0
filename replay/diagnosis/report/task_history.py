"""The life of one task: every wait with what kept it.

What kept a wait is read off the cell blame of the task's column and row group, second by second:
those of its cells that waited in the same way had the same reason at each instant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from replay.diagnosis.report.readers import HistoryReader
from replay.diagnosis.report.schema import HistorySpan, TaskHistory
from replay.diagnosis.rolling_stats import SLOW_FACTOR
from replay.diagnosis.verdicts import BY_NAME, VerdictRow
from replay.diagnosis.verdicts.base import Wait
from replay.diagnosis.verdicts.requests import ProviderLatency
from replay.state.bins import within
from replay.state.model import State
from replay.state.rows import AttemptRow, BlameRow, LeaseRow, lease_row, open_attempt_row
from replay.state.task import Task

QUEUED, WAITING, PROVIDER, DEFERRED = (
    "queued for a task slot",
    "waiting to call",
    "in the provider",
    "waiting to be tried again",
)


def _explaining(wait: Wait) -> frozenset[str]:
    return frozenset(name for name, kind in BY_NAME.items() if wait in kind.explains)


_ANYWHERE = _explaining("any")
_REASONS: dict[str, tuple[frozenset[str], ...]] = {
    QUEUED: (_explaining("queue"), _explaining("queue_last")),
    WAITING: (_explaining("call"),),
    DEFERRED: (_explaining("retry"),),
}
"""What may keep a wait of each kind; a later set only in seconds without any of an earlier one."""
LEAST_KEPT = 0.001


def build_history(
    reader: HistoryReader, task_id: str, verdicts: Sequence[VerdictRow], at: float | None = None
) -> TaskHistory:
    """`at` (monotonic seconds, the end of the recording where None) is when its position is told.

    Raises `LookupError` where the recording has no such task.
    """
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
            open_attempt_row(attempt)
            for attempt in state.attempts.values()
            if attempt.execution_id == task.execution_id and attempt.attempt_id not in tried
        ]
    if task is None and not leases:
        raise LookupError(task_id)
    steps: list[HistorySpan] = []
    for before, lease in zip([None, *leases], leases, strict=False):
        if before is not None and before.released_at is not None and lease.ready_at is not None:
            steps.append(HistorySpan(before.released_at, lease.ready_at, DEFERRED))
        steps += _of_lease(lease, [a for a in attempts if a.execution_id == lease.execution_id])
    if task is not None and task.lease_id is None:
        steps += _of_waiting(task)
    first = leases[0] if leases else task
    assert first is not None
    row = task.row if task is not None else first.row
    then = state if at is None else reader.state_at(reader.ordinal_at(at))
    start = reader.run().monotonic_start
    blame = _Blame(reader, first.column, first.row_group, start, steps, bounds.t1)
    return TaskHistory(
        task_id,
        first.column,
        first.row_group,
        row,
        task.phase if task is not None else (leases[-1].result or "unknown"),
        _position(then, then.tasks.get(task_id)),
        tuple(_span_line(step, blame, verdicts, bounds.t0, bounds.t1) for step in steps),
    )


def _of_lease(lease: LeaseRow, attempts: Sequence[AttemptRow]) -> list[HistorySpan]:
    group = lease.group
    steps = []
    if lease.ready_at is not None and lease.enqueued_at is not None:
        steps.append(HistorySpan(lease.ready_at, lease.enqueued_at, "ready, not yet queued"))
    if lease.enqueued_at is not None:
        steps.append(HistorySpan(lease.enqueued_at, lease.acquired_at, QUEUED, group))
    busy = lease.spawned_at if lease.spawned_at is not None else lease.acquired_at
    for attempt in attempts:
        if attempt.wait_started_at is not None:
            until = attempt.acquired_at if attempt.acquired_at is not None else attempt.released_at
            if attempt.wait_started_at > busy:
                steps.append(HistorySpan(busy, attempt.wait_started_at, "own work"))
            steps.append(HistorySpan(attempt.wait_started_at, until, WAITING, attempt.resource))
            busy = until if until is not None else busy
        if attempt.started_at is not None:
            ended = attempt.completed_at
            outcome = f" ({attempt.outcome})" if attempt.outcome not in (None, "success") else ""
            steps.append(
                HistorySpan(attempt.started_at, ended, f"{PROVIDER}{outcome}", attempt.resource)
            )
            busy = ended if ended is not None else busy
    open_call = any(step.end is None for step in steps)
    if not open_call and (lease.released_at is None or lease.released_at > busy):
        steps.append(HistorySpan(busy, lease.released_at, "own work"))
    return steps


def _of_waiting(task: Task) -> list[HistorySpan]:
    if task.phase == "deferred":
        return [HistorySpan(task.since, None, DEFERRED, task.request_resource)]
    since = task.ready_at if task.ready_at is not None else task.since
    if task.enqueued_at is None:
        return [HistorySpan(since, None, "ready, not yet queued")]
    steps = [HistorySpan(task.enqueued_at, None, QUEUED, task.group)]
    return [HistorySpan(since, task.enqueued_at, "ready, not yet queued"), *steps]


def _position(state: State, task: Task | None) -> int | None:
    if task is None:
        return None
    if task.phase in ("queued", "selected"):
        queued = (other for other in state.tasks.values() if other.phase == "queued")
        return sum(
            (other.enqueued_at or 0.0) < (task.enqueued_at or 0.0)
            for other in queued
            if other.group == task.group and other is not task
        )
    waits = [attempt for attempt in state.attempts.values() if attempt.phase == "waiting"]
    for mine in waits:
        if mine.execution_id == task.execution_id and mine.execution_id is not None:
            since = mine.wait_started_at or mine.since
            others = (wait for wait in waits if wait.resource == mine.resource)
            return sum((other.wait_started_at or other.since) < since for other in others)
    return None


class _Blame:
    """Cell blame of one column and row group over the life of a task, by second."""

    def __init__(
        self,
        reader: HistoryReader,
        column: str,
        row_group: int | None,
        start: float,
        steps: Sequence[HistorySpan],
        last: float,
    ) -> None:
        self._start = start
        self._rows: list[BlameRow] = []
        if steps:
            ends = [last if step.end is None else step.end for step in steps]
            first = math.floor(min(step.start for step in steps) - start)
            for row in reader.blame(first, math.floor(max(ends) - start), "cell"):
                if row.column == column and row.row_group == row_group:
                    self._rows.append(row)

    def of(self, step: HistorySpan, end: float) -> dict[str, float]:
        """Seconds of a wait by what kept it; the most first."""
        sets = _REASONS.get(step.what, ())
        about = step.resource if step.what == WAITING else None
        kept: dict[str, float] = {}
        begin, end = step.start - self._start, end - self._start
        for first, after, rows in self._alike(math.floor(begin), math.ceil(end)):
            part = min(end, after) - max(begin, first)
            for verdict, share in _shares(rows, sets, about).items():
                kept[verdict] = kept.get(verdict, 0.0) + part * share
        return {
            name: seconds
            for name, seconds in sorted(kept.items(), key=lambda item: (-item[1], item[0]))
            if seconds >= LEAST_KEPT
        }

    def _alike(self, first: int, after: int) -> Iterator[tuple[int, int, Sequence[BlameRow]]]:
        """Stretches of seconds from `first` on and before `after` with the same blame: its rows,
        as of one second each."""
        begin: dict[int, list[BlameRow]] = {}
        end: dict[int, list[BlameRow]] = {}
        for row in within(self._rows, first, after - 1):
            second = msgspec.structs.replace(row, bins=1)
            begin.setdefault(row.bin, []).append(second)
            end.setdefault(row.bin + row.bins, []).append(second)
        now: dict[int, BlameRow] = {}
        for low, high in pairwise(sorted({first, after, *begin, *end})):
            for row in end.get(low, ()):
                del now[id(row)]
            now.update((id(row), row) for row in begin.get(low, ()))
            yield low, high, list(now.values())


def _shares(
    rows: Sequence[BlameRow], sets: Sequence[frozenset[str]], about: str | None
) -> dict[str, float]:
    total = sum(row.seconds for row in rows)
    shares: dict[str, float] = {}
    for row in rows:
        if row.verdict in _ANYWHERE:
            shares[row.verdict] = shares.get(row.verdict, 0.0) + row.seconds / total
    left = 1.0 - sum(shares.values())
    for names in sets:
        fit = [row for row in rows if row.verdict in names and about in (None, row.resource)]
        whole = sum(row.seconds for row in fit)
        for row in fit:
            more = left * row.seconds / whole
            shares[row.verdict] = shares.get(row.verdict, 0.0) + more
        if fit:
            break
    return shares


def _span_line(
    step: HistorySpan, blame: _Blame, verdicts: Sequence[VerdictRow], t0: float, last: float
) -> HistorySpan:
    """In run time, with what kept it."""
    end = step.end if step.end is not None else last
    kept = blame.of(step, end)
    if step.what.startswith(PROVIDER):
        slow = sum(
            max(0.0, min(row.end, end) - max(row.start, step.start + SLOW_FACTOR * row.detail.p95))
            for row in verdicts
            if isinstance(row.detail, ProviderLatency)
            and row.resource == step.resource
            and row.detail.p95 is not None
        )
        if slow > LEAST_KEPT:
            kept["provider_latency"] = slow
    stop = None if step.end is None else step.end - t0
    return HistorySpan(step.start - t0, stop, step.what, step.resource, kept)
