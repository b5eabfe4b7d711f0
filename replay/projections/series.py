"""Numbers over time: the series of a run in bins of one second, and the waits of one task."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.state.bins import LONGEST_STRETCH, bin_end, bin_of
from replay.state.model import Ceiling, State
from replay.state.rows import RollupRow
from replay.state.task import Task

LONGEST_LEAP = 3600
"""Bins. Over a longer silence no series is written: nobody was there to watch it."""

MEMORY_VERSION = 2

MAY_REMOVE = frozenset(
    """
    dependency_ready worker_spawn_failed non_retryable_dropped cancelled task_lease_released
    """.split()
)
"""Kinds before which a task counts for something that may not be found after them."""
QUIET_REQUEST_KINDS = frozenset(
    """
    request_queue_formed request_queue_drained request_wait_completed model_request_started
    """.split()
)


class Series(msgspec.Struct, array_like=True):
    """One piecewise-constant value. The first three are of the current bin, once it has changed in
    it; before that it has been `value` since the bin `since` began."""

    at: float
    value: float = 0.0
    integral: float = 0.0
    peak: float = 0.0
    changed: bool = False
    since: int = 0


class Cooldown(msgspec.Struct, array_like=True):
    at: float
    until: float | None = None
    seconds: float = 0.0


class RollupState(msgspec.Struct):
    """All that a `Rollup` keeps. `counted` holds totals as last seen, by series and key."""

    version: int = 0
    bin: int | None = None
    stretches_end: int = 0
    """The bin with which all stretches are written."""
    series: dict[str, dict[str, Series]] = {}
    cooldowns: dict[str, Cooldown] = {}
    counts: dict[str, dict[str, float]] = {}
    counted: dict[str, dict[str, int]] = {}
    blocked_by: str | None = None
    before_bin: int = 0
    """Ordinal of the last event before the current bin."""
    orphans: int = 0


class Rollup:
    """Observer of a fold: a row for each series and bin in which it changed or is not zero.

    `mean` times the second is the exact integral; time before the first and after the last event
    counts as zero. Counts have the same number as mean, last and peak.
    """

    def __init__(self, run: RunInfo) -> None:
        self.rows: list[RollupRow] = []
        self._start = run.monotonic_start
        self._memory = RollupState(MEMORY_VERSION)
        self.bin_end = -math.inf
        """`before` must see the first event from here on."""
        self._now = 0.0
        self._changed: dict[tuple[str, str], Series] = {}
        """Series that have changed in the current bin."""
        self._task: Task | None = None
        self._seen: dict[str, tuple[float | None, ...]] = {}
        """What rarely changes of each ceiling, as last counted."""

    def before(self, state: State, event: Event, ordinal: int) -> None:
        """To be called from `bin_end` on, and before each of `MAY_REMOVE`."""
        now = event.captured_at_monotonic
        if now >= self.bin_end:
            self._go_to(state, now, ordinal)
        if event.event_kind in MAY_REMOVE and isinstance(event, SchedulerEvent):
            self._task = state.tasks.get(event.task_id or "")

    def after(self, state: State, event: Event, ordinal: int) -> None:
        """To be called after every event."""
        self._now = state.time
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
            if ceiling is not None:
                self._see_ceiling(ceiling)
            if kind == "model_request_completed":
                progress = state.progress
                self._count("tokens", "", progress.prompt_tokens + progress.completion_tokens)

    def _after_queue_or_lease(self, state: State, event: SchedulerEvent) -> None:
        task, self._task = self._task, None
        self._see_task(state, task or state.tasks.get(event.task_id or ""))

    def _after_ready(self, state: State, event: SchedulerEvent) -> None:
        """It counts for nothing itself; what it replaced may have."""
        task, self._task = self._task, None
        self._see_task(state, task)

    def _after_orphan(self, state: State, event: SchedulerEvent) -> None:
        """A kind that changes counts only where a task's beginning was not seen."""
        if state.orphans != self._memory.orphans:
            self._memory.orphans = state.orphans
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
            self._count("tasks_done", column, state.progress.completed_by_column.get(column, 0))

    def _after_block(self, state: State, event: SchedulerEvent) -> None:
        block = state.block
        reason = None if block is None else block.reason or block.kind
        held = self._memory.blocked_by
        if reason != held:
            if held is not None:
                self._set("blocked", held, 0.0)
            if reason is not None:
                self._set("blocked", reason, 1.0)
            self._memory.blocked_by = reason

    def _after_checkpoint(self, state: State, event: SchedulerEvent) -> None:
        self._count("rows_done", "", state.progress.rows_done)

    def _after_keyframe(self, state: State, event: SchedulerEvent) -> None:
        """It may have corrected anything."""
        self._see_queues(state)
        for resource in self._memory.series.get("leased", {}).keys() | state.leased.keys():
            self._set("leased", resource, state.leased.get(resource, 0))
        for ceiling in state.ceilings.values():
            self._see_ceiling(ceiling)
        for column, done in state.progress.completed_by_column.items():
            self._count("tasks_done", column, done)
        self._count("rows_done", "", state.progress.rows_done)

    def finish(self, state: State) -> None:
        """Close the bin of the last event."""
        memory = self._memory
        if memory.bin is not None:
            self._close_last_bin(state.time, state.ordinal)
            memory.bin = None

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._memory)

    @classmethod
    def load(cls, run: RunInfo, data: bytes) -> Rollup:
        """Raises `ValueError` for data of another version."""
        rollup = cls(run)
        memory = rollup._memory = msgspec.msgpack.decode(data, type=RollupState)
        if memory.version != MEMORY_VERSION:
            raise ValueError(f"series of version {memory.version}, not {MEMORY_VERSION}")
        if memory.bin is not None:
            rollup.bin_end = bin_end(rollup._start, memory.bin)
        rollup._changed = {
            (name, key): one
            for name, series in memory.series.items()
            for key, one in series.items()
            if one.changed
        }
        return rollup

    def open_rows(self) -> list[RollupRow]:
        """Stretches that may go on, as far as their bins are over."""
        now = self._memory.bin
        return [] if now is None else self._stretches(now)

    def forget_stretches(self) -> None:
        """Bins before the current one are written already."""
        for series in self._memory.series.values():
            for one in series.values():
                one.since = max(one.since, self._memory.bin or 0)

    def _go_to(self, state: State, now: float, ordinal: int) -> None:
        """Close bins until the current one holds `now`, the time of event `ordinal`."""
        memory = self._memory
        target = bin_of(now - self._start)
        if memory.bin is None:
            memory.bin = target
            memory.stretches_end = target + LONGEST_STRETCH
            memory.before_bin = ordinal - 1
        elif target - memory.bin > LONGEST_LEAP:
            self._close_last_bin(state.time, ordinal - 1)
            memory.bin = target
            self._begin_anew(now)
        elif target > memory.bin:
            self._close_bin(bin_end(self._start, memory.bin), ordinal - 1)
            memory.bin += 1
            self._pass_to(target)
            if target >= memory.stretches_end:
                self._end_stretches()
                memory.stretches_end = target + LONGEST_STRETCH
        self.bin_end = bin_end(self._start, memory.bin)

    def _pass_to(self, target: int) -> None:
        """Bins in which nothing changes but that cooldowns run out."""
        memory = self._memory
        assert memory.bin is not None
        now = memory.bin
        ends = {
            bin_of(cooldown.until - self._start)
            for cooldown in memory.cooldowns.values()
            if cooldown.until is not None
        }
        for stop in (*sorted(stop for stop in ends if now <= stop < target), target):
            self._cool_to(stop)
            if stop < target:
                self._close_cooldowns(bin_end(self._start, stop))
                memory.bin = stop + 1

    def _cool_to(self, target: int) -> None:
        """Whole bins, in which what cools down does so all the time."""
        memory = self._memory
        first = memory.bin
        assert first is not None
        if target > first:
            until = bin_end(self._start, target - 1)
            for key, cooldown in memory.cooldowns.items():
                if cooldown.until is not None and cooldown.until >= until:
                    self.rows.append(
                        RollupRow(first, "cooling", key, 1.0, 1.0, 1.0, target - first)
                    )
                cooldown.at = until
            memory.bin = target

    def _begin_anew(self, now: float) -> None:
        """After a silence of which nothing is told, as if each value had begun at `now`."""
        memory = self._memory
        number = memory.bin
        assert number is not None
        memory.stretches_end = number + LONGEST_STRETCH
        for name, series in memory.series.items():
            for key, one in series.items():
                one.since = number
                if one.value:
                    self._change(name, key, one, now)
        for cooldown in memory.cooldowns.values():
            cooldown.at = now

    def _close_last_bin(self, end: float, last_ordinal: int) -> None:
        """Nothing is told beyond `end`, in the middle of the current bin."""
        self._end_stretches()
        number = self._memory.bin
        assert number is not None
        for name, series in self._memory.series.items():
            for key, one in series.items():
                if one.value and not one.changed:
                    self._change(name, key, one, self._start + number)
        self._close_bin(end, last_ordinal)

    def _change(self, name: str, key: str, one: Series, at: float) -> None:
        """The current bin gets a row of its own; of this value from `at` on."""
        one.at, one.integral, one.peak, one.changed = at, 0.0, one.value, True
        self._changed[name, key] = one

    def _end_stretches(self) -> None:
        """Write the bins before the current one of all that stands still."""
        now = self._memory.bin
        assert now is not None
        self.rows += self._stretches(now)
        for series in self._memory.series.values():
            for one in series.values():
                one.since = max(one.since, now)

    def _stretches(self, now: int) -> list[RollupRow]:
        return [
            RollupRow(one.since, name, key, one.value, one.value, one.value, now - one.since)
            for name, series in self._memory.series.items()
            for key, one in series.items()
            if one.value and not one.changed and one.since < now
        ]

    def _close_bin(self, end: float, last_ordinal: int) -> None:
        """Write the rows of the current bin, with every value held until `end`."""
        memory, rows = self._memory, self.rows
        number = memory.bin
        assert number is not None
        for (name, key), one in sorted(self._changed.items()):
            value = one.value
            integral = one.integral + value * max(0.0, end - one.at)
            rows.append(RollupRow(number, name, key, integral, value, one.peak))
            one.changed = False
            one.since = number + 1
        self._changed = {}
        self._close_cooldowns(end)
        if last_ordinal > memory.before_bin:
            amount = float(last_ordinal - memory.before_bin)
            rows.append(RollupRow(number, "events", "", amount, amount, amount))
            memory.before_bin = last_ordinal
        for name, counts in memory.counts.items():
            for key, amount in counts.items():
                rows.append(RollupRow(number, name, key, amount, amount, amount))
        memory.counts = {}

    def _close_cooldowns(self, end: float) -> None:
        number = self._memory.bin
        assert number is not None
        for key, cooldown in self._memory.cooldowns.items():
            self._cool(cooldown, end)
            if cooldown.seconds > 0:
                last = float(cooldown.until is not None and cooldown.until >= end)
                self.rows.append(RollupRow(number, "cooling", key, cooldown.seconds, last, 1.0))
                cooldown.seconds = 0.0

    def _set(self, name: str, key: str, value: float) -> None:
        memory = self._memory
        series = memory.series.get(name)
        if series is None:
            series = memory.series[name] = {}
        one = series.get(key)
        if one is None:
            if not value:
                return
            one = series[key] = Series(self._now, changed=True)
            self._changed[name, key] = one
        if one.value != value:
            now = self._now
            if one.changed:
                one.integral += one.value * (now - one.at)
            else:
                self._begin_change(name, key, one)
            one.at = now
            one.value = value
            if value > one.peak:
                one.peak = value

    def _begin_change(self, name: str, key: str, one: Series) -> None:
        """The value is about to change, for the first time in this bin."""
        number, before = self._memory.bin, one.value
        assert number is not None
        if before and one.since < number:
            self.rows.append(
                RollupRow(one.since, name, key, before, before, before, number - one.since)
            )
        begin = self._start + number
        self._change(name, key, one, begin)
        one.integral = before * max(0.0, self._now - begin)

    def _count(self, name: str, key: str, total: int) -> None:
        """Count what a running total has gained."""
        counted = self._memory.counted.setdefault(name, {})
        gained = total - counted.get(key, 0)
        if gained:
            counted[key] = total
            counts = self._memory.counts.setdefault(name, {})
            counts[key] = counts.get(key, 0.0) + gained

    def _cool(self, cooldown: Cooldown, now: float) -> None:
        if cooldown.until is not None:
            cooldown.seconds += max(0.0, min(now, cooldown.until) - cooldown.at)
        cooldown.at = now

    def _see_task(self, state: State, task: Task | None) -> None:
        if task is None:
            return
        group = state.groups.get(task.group)
        if group is not None:
            self._set("queue_depth", group.key, group.queued)
        leased, series = state.leased, self._memory.series.get("leased", {})
        for resource in task.resources:
            amount, one = leased.get(resource, 0), series.get(resource)
            if one is None or one.value != amount:
                self._set("leased", resource, amount)

    def _see_queues(self, state: State) -> None:
        for group in state.groups.values():
            self._set("queue_depth", group.key, group.queued)

    def _see_ceiling(self, ceiling: Ceiling) -> None:
        key = ceiling.resource
        self._set("in_flight", key, ceiling.in_flight)
        self._set("waiters", key, ceiling.waiters)
        until = ceiling.blocked_until
        facts = (
            ceiling.limit,
            ceiling.effective_max,
            ceiling.completed,
            ceiling.rate_limited,
            until,
        )
        if self._seen.get(key) == facts:
            return
        self._seen[key] = facts
        self._set("limit", key, ceiling.limit)
        self._set("effective_max", key, ceiling.effective_max)
        self._count("completed", key, ceiling.completed)
        self._count("rate_limited", key, ceiling.rate_limited)
        cooldown = self._memory.cooldowns.get(key)
        if cooldown is None:
            if until is None:
                return
            cooldown = self._memory.cooldowns[key] = Cooldown(self._now)
        if cooldown.until != until:
            self._cool(cooldown, self._now)
            cooldown.until = until


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
}
