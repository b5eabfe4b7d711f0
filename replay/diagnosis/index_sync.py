"""`IndexSync`: brings the live index up to date with the state, once an instant."""

from __future__ import annotations

from collections.abc import Iterator

from engine.events import RunInfo
from replay.diagnosis.cell_ledger import Cell, Key, cell_of, queued_key
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.leaks import CALL, LEAK_SECONDS, Leak, Suspect, holds_after_end
from replay.diagnosis.live_index import BUCKETS, Call, TaskEntry, entry_of
from replay.diagnosis.timers import CallOverdue, CooldownEnd, LeakDue
from replay.state.model import State
from replay.state.task import Task

LOST: Key = ("lost", "")
LOCAL_CODE: Key = ("own", "")
"""Tasks of columns that call no model, at work."""


class IndexSync:
    """Writes the live index and the counts of cells, and marks as dirty what depends on them."""

    def __init__(self, run: RunInfo, parts: DiagnosisState) -> None:
        self._run = run
        self._changes = parts.changes
        self._index = parts.index
        self._dirty = parts.dirty
        self._cells = parts.cells
        self._stalls = parts.stalls
        self._timers = parts.timers
        self._loop = parts.loop

    def apply(self, state: State, now: float, ordinal: int) -> None:
        """Put every task, call, group and resource that has changed where the state has it."""
        index, changes = self._index, self._changes
        calls, tasks = changes.calls, changes.tasks
        if calls:
            changes.drain_calls()
            self._apply_calls(state, calls, now, ordinal)
        if tasks:
            changes.drain_tasks()
            for task_id, task_ordinal in tasks.items():
                self.apply_task(state, task_id, now, task_ordinal)
            self._dirty.invalidate_run()
        if len(state.tasks) != len(index.tasks) or len(state.attempts) != len(index.calls):
            self.resync(state, now, ordinal)
        if changes.groups:
            for group in changes.drain_groups():
                self._dirty.invalidate_group(state, index, group)
        if changes.resources:
            for resource in changes.drain_resources():
                if resource in state.ceilings:
                    self._dirty.invalidate_ceiling(state, resource)
                    self.follow_cooldown(state, resource, now, ordinal)

    def resync(self, state: State, now: float, ordinal: int) -> None:
        """Apply the whole state, where it did not change event by event."""
        index = self._index
        for attempt_id in [known for known in index.calls if known not in state.attempts]:
            self._apply_call(state, attempt_id, now, ordinal, ordinal)
        for attempt_id in state.attempts:
            self._apply_call(state, attempt_id, now, ordinal, ordinal)
        for task_id in [*index.tasks, *state.tasks]:
            self.apply_task(state, task_id, now, ordinal)
        self._dirty.invalidate_all(self._cells.tallies, state.ceilings)

    def resync_keyframe(self, state: State, now: float, ordinal: int) -> None:
        """A keyframe lists every live call: none is unknown after it."""
        self.resync(state, now, ordinal)
        for call in self._index.calls.values():
            call.unknown = False

    def mark_unknown(self, stream: str, now: float) -> None:
        """Events were lost: what a live task does is unknown until the next event about it.

        A loss on the request stream leaves the facts about the queue as they are.
        """
        index, cells = self._index, self._cells
        for call in index.calls.values():
            call.unknown = True
            index.count_overdue(call, False)
        for task_id, entry in index.tasks.items():
            unknown = entry.unknown or stream != "request"
            key = entry.key
            if key != LOST and (stream != "request" or entry.bucket == "running"):
                cells.add(entry.cell, key, -1, now)
                cells.add(entry.cell, LOST, 1, now)
                key = LOST
            if key != entry.key or unknown != entry.unknown:
                index.change(task_id, entry, key, entry.bucket, entry.execution_id, unknown)
        self._dirty.invalidate_meter(LOST)

    def apply_task(self, state: State, task_id: str, now: float, ordinal: int) -> None:
        """Put one task where the state has it; `ordinal` is of the event about it."""
        index = self._index
        task = state.tasks.get(task_id)
        entry = index.tasks.get(task_id)
        if task is None:
            if entry is not None:
                if task_id in index.leaks.suspects:
                    self._clear_suspect(task_id, now)
                self._suspect_calls_of(state, entry.execution_id, now, ordinal)
                self._remove(task_id, entry, now)
            return
        bucket = BUCKETS[task.phase]
        if entry is not None and (
            entry.group != task.group
            or (task.request_resource or entry.request_resource) != entry.request_resource
        ):
            self._remove(task_id, entry, now)
            entry = None
        if entry is None:
            request_resource = task.request_resource or self.request_resource_of(task)
            index.learn_group(task, request_resource)
            cell = cell_of(task.column, task.row_group)
            key = self._key_of(task, request_resource)
            entry = entry_of(cell, key, bucket, task.group, request_resource, task.execution_id)
            index.put(task_id, entry)
            self._count_cell(cell, key, now)
        else:
            if bucket == "queued":
                index.learn_group(task, entry.request_resource)
            key = self._key_of(task, entry.request_resource)
            changed = index.change(task_id, entry, key, bucket, task.execution_id)
            self._change_key(entry, changed, now)
            entry = changed
        index.update_lease(task_id, task)
        if key[0] == "assumed" and not self._stalls.watch(key[1]).overdue_scheduled:
            self.schedule_overdue(key[1])
        if task.result is not None and task.lease_id is not None:
            self._suspect_task(task, now, ordinal)
        elif task_id in index.leaks.suspects:
            self._clear_suspect(task_id, now)
        self._changes.add_group(entry.group)
        self._dirty.invalidate_resource(entry.request_resource)

    def follow_cooldown(self, state: State, resource: str, now: float, ordinal: int) -> None:
        """Schedule the end of the resource's cooldown, if it is another one than before."""
        watch = self._stalls.watch(resource)
        until = state.ceilings[resource].blocked_until
        before, watch.cooldown_seen_at = watch.cooldown_seen_at, now
        if until == watch.cooling_until:
            return
        watch.cooling_until = until
        self._dirty.invalidate_cooldown(self._index, resource)
        if until is not None and until > now:
            self._timers.schedule(CooldownEnd(until, resource))
            if not self._index.attempts_seen:
                before = now if before is None else before
                self._stalls.cooldown_seen(resource, now, ordinal, until, before)

    def schedule_overdue(self, resource: str) -> None:
        """Schedule a check for when the next call of this resource becomes slow."""
        watch = self._stalls.watch(resource)
        if watch.overdue_scheduled or not watch.times:
            return
        due = min((at for _, at in self._due_calls(resource)), default=None)
        if due is not None:
            watch.overdue_scheduled = True
            self._timers.schedule(CallOverdue(due, resource))

    def mark_overdue_calls(self, state: State, resource: str, now: float, ordinal: int) -> None:
        """Mark the calls of a resource that have become slow."""
        index = self._index
        self._stalls.watch(resource).overdue_scheduled = False
        for subject in [subject for subject, at in self._due_calls(resource) if at <= now]:
            task_id: str | None = subject
            if index.attempts_seen:
                call = index.calls[subject]
                index.count_overdue(call, True)
                task_id = index.executions.get(call.execution_id or "")
            else:
                index.unsure[subject] = None
            self._dirty.invalidate_resource(resource)
            if task_id is not None:
                self.apply_task(state, task_id, now, ordinal)
        self.schedule_overdue(resource)

    def _due_calls(self, resource: str) -> Iterator[tuple[str, float]]:
        """Calls in the provider that are not slow yet, each with when it becomes slow.

        Where no event tells of calls, tasks at work.
        """
        index = self._index
        times = self._stalls.watch(resource).times
        lateness = self._loop.lateness
        if not index.attempts_seen:
            for group, request in index.request_of.items():
                if request != resource:
                    continue
                for task_id, (acquired_at, _) in index.leases.get(group, {}).items():
                    entry = index.tasks.get(task_id)
                    if entry is not None and entry.key[0] == "assumed":
                        known = times.get(entry.cell[0])
                        allowance = None if known is None else known.allowance
                        if allowance is not None:
                            paused = index.paused.get(task_id, 0.0)
                            yield task_id, acquired_at + paused + allowance + lateness
            return
        for attempt_id in index.requests.get(resource, ()):
            call = index.calls[attempt_id]
            if call.phase != "in_provider" or call.overdue or call.unknown:
                continue
            known = times.get(call.column)
            allowance = None if known is None else known.allowance
            if allowance is not None and call.started_at is not None:
                yield attempt_id, call.started_at + call.paused + allowance + lateness

    def exclude(self, state: State, begin: float, end: float, now: float, ordinal: int) -> None:
        """The event loop did not run from `begin` to `end`: calls are not older for that."""
        index = self._index
        for call in index.calls.values():
            if call.started_at is None or call.started_at >= end:
                continue
            call.paused += end - max(begin, call.started_at)
            times = self._stalls.watch(call.resource).times.get(call.column)
            allowance = None if times is None else times.allowance
            age = now - call.started_at - call.paused
            if call.overdue and allowance is not None and age < allowance + self._loop.lateness:
                index.count_overdue(call, False)
                self._dirty.invalidate_resource(call.resource)
                task_id = index.executions.get(call.execution_id or "")
                if task_id is not None:
                    self._apply_calls_to_task(state, task_id, now)
                self.schedule_overdue(call.resource)
        if not index.attempts_seen:
            for held in index.leases.values():
                for task_id, (acquired_at, _) in held.items():
                    if acquired_at < end:
                        paused = index.paused.get(task_id, 0.0)
                        index.paused[task_id] = paused + end - max(begin, acquired_at)
        for task_id in list(index.unsure):
            del index.unsure[task_id]
            self.apply_task(state, task_id, now, ordinal)

    def check_leak(self, state: State, subject: str, now: float, ordinal: int) -> None:
        """Confirm a leak if the lease is still held after the end of its owner."""
        leaks = self._index.leaks
        if not holds_after_end(state, subject, self._index.executions):
            leaks.suspects.pop(subject, None)
            return
        suspect = leaks.confirm(subject)
        if suspect is not None:
            self._dirty.invalidate_leak(suspect.resources)
            if subject in self._index.tasks:
                self.apply_task(state, subject, now, ordinal)

    def emit_open_leaks(self, now: float) -> None:
        """Verdicts of the leaks that were never given back."""
        for about, leak in self._index.leaks.open.items():
            self._emit_leak(about, leak, now)

    def request_resource_of(self, task: Task) -> str:
        """The request resource of the task's group, from the run's columns if no event names it."""
        known = self._index.request_of.get(task.group)
        if known is None:
            columns = (column for column in self._run.columns if column.name == task.column)
            column = next(columns, None)
            known = "" if column is None else column.request_resource or ""
            self._index.learn_request(task.group, known)
        return known

    def _apply_calls(self, state: State, calls: dict[str, int], now: float, ordinal: int) -> None:
        index, tasks = self._index, self._changes.tasks
        executions: dict[str, None] = {}
        for attempt_id, call_ordinal in calls.items():
            call = self._apply_call(state, attempt_id, now, call_ordinal, ordinal)
            if call is not None:
                call.unknown = False
                self._changes.add_resource(call.resource)
                if call.execution_id is not None:
                    executions[call.execution_id] = None
        for execution_id in executions:
            task_id = index.executions.get(execution_id)
            if task_id is not None and task_id not in tasks:
                self._apply_calls_to_task(state, task_id, now)
        if executions and not index.attempts_seen:
            index.attempts_seen = True
            self.resync(state, now, ordinal)

    def _apply_call(
        self, state: State, attempt_id: str, now: float, call_ordinal: int, ordinal: int
    ) -> Call | None:
        """Put one request attempt where the state has it; `call_ordinal` is of its last event."""
        index = self._index
        attempt = state.attempts.get(attempt_id)
        if attempt is None:
            if index.leaks.suspects:
                self._clear_suspect(CALL + attempt_id, now)
            call = index.forget_call(attempt_id)
            if call is not None:
                index.count_overdue(call, False)
            return call
        call = index.observe(attempt_id, attempt, call_ordinal)
        if attempt.phase == "in_provider":
            if not self._stalls.watch(call.resource).overdue_scheduled:
                self.schedule_overdue(call.resource)
        else:
            if call.overdue:
                index.count_overdue(call, False)
            if attempt.phase == "returned" and attempt.released_at is None:
                self._suspect_call(state, attempt_id, now, ordinal)
        return call

    def _apply_calls_to_task(self, state: State, task_id: str, now: float) -> None:
        """Only calls of the task's worker have changed, the task itself has not."""
        index = self._index
        task, entry = state.tasks.get(task_id), index.tasks[task_id]
        if task is not None:
            key = self._key_of(task, entry.request_resource)
            if key != entry.key:
                bucket, execution_id = entry.bucket, entry.execution_id
                changed = index.change(task_id, entry, key, bucket, execution_id, entry.unknown)
                self._change_key(entry, changed, now)

    def _remove(self, task_id: str, entry: TaskEntry, now: float) -> None:
        self._index.remove(task_id, entry)
        self._cells.add(entry.cell, entry.key, -1, now)
        self._changes.add_group(entry.group)
        self._dirty.invalidate_resource(entry.request_resource)

    def _change_key(self, before: TaskEntry, after: TaskEntry, now: float) -> None:
        """Count the task under another key from `now` on."""
        if after.key != before.key:
            self._count_cell(after.cell, after.key, now)
            self._cells.add(before.cell, before.key, -1, now)

    def _count_cell(self, cell: Cell, key: Key, now: float) -> None:
        if self._cells.add(cell, key, 1, now):
            self._dirty.invalidate_meter(key)

    def _key_of(self, task: Task, request_resource: str) -> Key:
        phase = task.phase
        if phase == "queued":
            return queued_key(task.group)
        if task.lease_id is not None and task.result is not None:
            suspect = self._index.leaks.suspects.get(task.task_id)
            if suspect is not None and suspect.confirmed:
                return ("leaked", suspect.about)
        if phase == "ready" or phase == "selected":
            return ("ready", "")
        if phase == "deferred":
            return ("deferred", request_resource)
        if phase == "running":
            key = self._index.call_key(task.execution_id)
            if key is not None:
                return key
            if request_resource and not self._index.attempts_seen:
                unsure = task.task_id in self._index.unsure
                return ("unsure" if unsure else "assumed", request_resource)
            failed = self._index.failed.get(task.execution_id or "")
            if failed is not None and task.result is None:
                return ("backing_off", failed)
        return ("own", request_resource)

    def _suspect_task(self, task: Task, now: float, ordinal: int) -> None:
        """The task has ended and its lease is still held."""
        suspects = self._index.leaks.suspects
        if task.task_id not in suspects:
            acquired_at = task.acquired_at or task.since
            evidence = [task.acquired_ordinal or 0, ordinal]
            suspects[task.task_id] = Suspect(
                dict(task.resources), task.group, now, acquired_at, evidence
            )
            self._timers.schedule(LeakDue(now + LEAK_SECONDS, task.task_id))

    def _suspect_call(self, state: State, attempt_id: str, now: float, ordinal: int) -> None:
        """The call or its worker has ended, and its lease is still held."""
        suspects = self._index.leaks.suspects
        attempt = state.attempts[attempt_id]
        if CALL + attempt_id not in suspects and attempt.lease_id is not None:
            suspects[CALL + attempt_id] = Suspect(
                {attempt.resource: 1},
                attempt.column or attempt.resource,
                now,
                attempt.acquired_at or attempt.since,
                [attempt.first_ordinal, ordinal],
            )
            self._timers.schedule(LeakDue(now + LEAK_SECONDS, CALL + attempt_id))

    def _suspect_calls_of(
        self, state: State, execution_id: str | None, now: float, ordinal: int
    ) -> None:
        for attempt_id in self._index.calls_of.get(execution_id or "", ()):
            if attempt_id in state.attempts:
                self._suspect_call(state, attempt_id, now, ordinal)

    def _clear_suspect(self, subject: str, now: float) -> None:
        """The lease was released after all."""
        cleared = self._index.leaks.clear(subject)
        if cleared is None:
            return
        suspect, leak = cleared
        self._dirty.invalidate_leak(suspect.resources)
        if leak is not None:
            self._emit_leak(suspect.about, leak, now)

    def _emit_leak(self, about: str, leak: Leak, now: float) -> None:
        self._stalls.emit(leak.facts(now), about, leak.since, now)
