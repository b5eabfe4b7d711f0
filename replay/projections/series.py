"""`Rollup`: which series of a run each event changes."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.projections.series_bins import RollupState, SeriesBins
from replay.state.model import Ceiling, State
from replay.state.rows import RollupRow
from replay.state.task import Task

MEMORY_VERSION = 3

MAY_REMOVE = frozenset(
    """
    dependency_ready worker_spawn_failed non_retryable_dropped cancelled task_lease_released
    model_request_completed
    """.split()
)
"""Kinds before which a task or a call is there that may not be found after them."""
QUIET_REQUEST_KINDS = frozenset(
    """
    request_queue_formed request_queue_drained request_wait_completed model_request_started
    """.split()
)


class Rollup:
    """Observer of a fold: a row for each series and bin in which it changed or is not zero.

    `mean` times the second is the exact integral; time before the first and after the last event
    counts as zero. Counts have the same number as mean, last and peak.
    """

    def __init__(self, run: RunInfo) -> None:
        self._bins = SeriesBins(run.monotonic_start, RollupState(MEMORY_VERSION))
        self.bin_end = self._bins.end
        """`before` must see the first event from here on."""
        self._task: Task | None = None
        self._call_began: float | None = None
        self._seen: dict[str, tuple[float | None, ...]] = {}
        """What rarely changes of each ceiling, as last counted."""

    def before(self, state: State, event: Event, ordinal: int) -> None:
        """To be called from `bin_end` on, and before each of `MAY_REMOVE`."""
        now = event.captured_at_monotonic
        if now >= self.bin_end:
            self._bins.advance(state.time, now, ordinal)
            self.bin_end = self._bins.end
        if event.event_kind not in MAY_REMOVE:
            return
        if isinstance(event, SchedulerEvent):
            self._task = state.tasks.get(event.task_id or "")
        else:
            attempt = state.attempts.get(event.request_attempt_id or "")
            self._call_began = None if attempt is None else attempt.started_at

    def after(self, state: State, event: Event, ordinal: int) -> None:
        """To be called after every event."""
        self._bins.now = state.time
        kind = event.event_kind
        if type(event) is SchedulerEvent:
            look = _AFTER.get(kind)
            if look is not None:
                look(self, state, event)
        elif type(event) is RequestEvent:
            if kind in QUIET_REQUEST_KINDS and event.pressure_snapshot is None:
                return
            resource = event.request_resource_key
            ceiling = None if resource is None else state.ceilings.get(resource.label)
            if kind == "model_request_completed":
                if ceiling is not None:
                    self._time_call(ceiling)
                progress = state.progress
                self._bins.count("tokens", "", progress.prompt_tokens + progress.completion_tokens)
            if ceiling is not None:
                self._see_ceiling(ceiling)

    def _after_queue_or_lease(self, state: State, event: SchedulerEvent) -> None:
        task, self._task = self._task, None
        self._see_task(state, task or state.tasks.get(event.task_id or ""))

    def _after_ready(self, state: State, event: SchedulerEvent) -> None:
        """It counts for nothing itself; what it replaced may have."""
        task, self._task = self._task, None
        self._see_task(state, task)

    def _after_orphan(self, state: State, event: SchedulerEvent) -> None:
        """A kind that changes counts only where a task's beginning was not seen."""
        if state.orphans != self._bins.rollup.orphans:
            self._bins.rollup.orphans = state.orphans
            self._see_task(state, state.tasks.get(event.task_id or ""))

    def _after_retry(self, state: State, event: SchedulerEvent) -> None:
        self._after_queue_or_lease(state, event)
        self._after_end(state, event)

    def _after_end(self, state: State, event: SchedulerEvent) -> None:
        if (event.task_id or "") not in state.tasks:
            self._see_queues(state)  # It ended without a lease.
        correlation = event.captured_correlation
        column = None if correlation is None else correlation.task_column
        if column is not None:
            self._bins.count(
                "tasks_done", column, state.progress.completed_by_column.get(column, 0)
            )

    def _after_block(self, state: State, event: SchedulerEvent) -> None:
        block = state.block
        reason = None if block is None else block.reason or block.kind
        held = self._bins.rollup.blocked_by
        if reason != held:
            if held is not None:
                self._bins.set_value("blocked", held, 0.0)
            if reason is not None:
                self._bins.set_value("blocked", reason, 1.0)
            self._bins.rollup.blocked_by = reason

    def _after_checkpoint(self, state: State, event: SchedulerEvent) -> None:
        self._bins.count("rows_done", "", state.progress.rows_done)

    def _after_keyframe(self, state: State, event: SchedulerEvent) -> None:
        """It may have corrected anything."""
        self._see_queues(state)
        for resource in self._bins.rollup.series.get("leased", {}).keys() | state.leased.keys():
            self._bins.set_value("leased", resource, state.leased.get(resource, 0))
        for ceiling in state.ceilings.values():
            self._see_ceiling(ceiling)
        for column, done in state.progress.completed_by_column.items():
            self._bins.count("tasks_done", column, done)
        self._bins.count("rows_done", "", state.progress.rows_done)

    def end_part(self, state: State) -> None:
        """The run was interrupted: as `finish`, and nothing goes on."""
        self.finish(state)
        self._bins.end_values()
        self._bins.rollup.blocked_by = None
        self._seen = {}

    def _after_resumption(self, state: State, event: SchedulerEvent) -> None:
        self._after_keyframe(state, event)
        self._after_block(state, event)

    def finish(self, state: State) -> None:
        """Close the bin of the last event."""
        rollup = self._bins.rollup
        if rollup.bin is not None:
            self._bins.close_last_bin(state.time, state.ordinal)
            rollup.bin = None
            self.bin_end = -math.inf

    def drain(self) -> list[RollupRow]:
        """Rows that have become certain since the last drain."""
        return self._bins.drain()

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._bins.rollup)

    @classmethod
    def load(cls, run: RunInfo, data: bytes) -> Rollup:
        """Raises `ValueError` for data of another version."""
        rollup = cls(run)
        stored = msgspec.msgpack.decode(data, type=RollupState)
        if stored.version != MEMORY_VERSION:
            raise ValueError(f"series of version {stored.version}, not {MEMORY_VERSION}")
        rollup._bins = SeriesBins(run.monotonic_start, stored)
        rollup.bin_end = rollup._bins.end
        return rollup

    def open_rows(self) -> list[RollupRow]:
        """Stretches that may go on, up to the end of the last closed bin."""
        return self._bins.open_rows()

    def forget_stretches(self) -> None:
        """Bins before the current one are written already."""
        self._bins.forget_stretches()

    def _see_task(self, state: State, task: Task | None) -> None:
        if task is None:
            return
        group = state.groups.get(task.group)
        if group is not None:
            self._bins.set_value("queue_depth", group.key, group.queued)
        leased, series = state.leased, self._bins.rollup.series.get("leased", {})
        for resource in task.resources:
            amount, bin_series = leased.get(resource, 0), series.get(resource)
            if bin_series is None or bin_series.value != amount:
                self._bins.set_value("leased", resource, amount)

    def _see_queues(self, state: State) -> None:
        for group in state.groups.values():
            self._bins.set_value("queue_depth", group.key, group.queued)

    def _time_call(self, ceiling: Ceiling) -> None:
        """Only of one that came back well, which the ceiling counts, and whose start is known."""
        began, self._call_began = self._call_began, None
        counted = self._bins.rollup.counted.get("completed", {}).get(ceiling.resource, 0)
        if began is not None and ceiling.completed > counted:
            self._bins.time_call(ceiling.resource, max(0.0, self._bins.now - began))

    def _see_ceiling(self, ceiling: Ceiling) -> None:
        key = ceiling.resource
        self._bins.set_value("in_flight", key, ceiling.in_flight)
        self._bins.set_value("waiters", key, ceiling.waiters)
        until = ceiling.blocked_until
        facts = (
            ceiling.limit,
            ceiling.effective_max,
            ceiling.completed,
            ceiling.rate_limited,
            ceiling.failed,
            until,
        )
        if self._seen.get(key) == facts:
            return
        self._seen[key] = facts
        self._bins.set_value("limit", key, ceiling.limit)
        self._bins.set_value("effective_max", key, ceiling.effective_max)
        self._bins.count("completed", key, ceiling.completed)
        self._bins.count("rate_limited", key, ceiling.rate_limited)
        self._bins.count("failed", key, ceiling.failed)
        self._bins.set_cooldown(key, until)


_AFTER: dict[str, Callable[[Rollup, State, SchedulerEvent], None]] = {
    "dependency_ready": Rollup._after_ready,
    "ready_enqueued": Rollup._after_queue_or_lease,
    "selected": Rollup._after_orphan,
    "task_lease_acquired": Rollup._after_queue_or_lease,
    "worker_spawned": Rollup._after_orphan,
    "worker_spawn_failed": Rollup._after_queue_or_lease,
    "task_completed": Rollup._after_end,
    "retry_deferred": Rollup._after_retry,
    "non_retryable_dropped": Rollup._after_queue_or_lease,
    "cancelled": Rollup._after_queue_or_lease,
    "task_lease_released": Rollup._after_queue_or_lease,
    "queue_empty": Rollup._after_block,
    "admission_blocked": Rollup._after_block,
    "group_capped": Rollup._after_block,
    "queue_drained": Rollup._after_block,
    "scheduler_job_completed": Rollup._after_block,
    "row_group_checkpointed": Rollup._after_checkpoint,
    "scheduler_health_snapshot": Rollup._after_keyframe,
    "run_resumed": Rollup._after_resumption,
}
