"""`Attribution`: recomputes what keeps each meter, each request resource and the run from doing
more."""

from __future__ import annotations

from engine.events import RunInfo
from replay.diagnosis import evidence, proofs
from replay.diagnosis.blame_log import BlameLog
from replay.diagnosis.cell_ledger import CellLedger, Key, queued_key
from replay.diagnosis.diagnosis_state import DiagnosisState
from replay.diagnosis.episodes import Slow
from replay.diagnosis.holders import holders_blame
from replay.diagnosis.queue_heads import QueueHeads
from replay.diagnosis.rolling_stats import STALL_MIN_SECONDS, CallTimes
from replay.diagnosis.slot_division import divide, whole
from replay.diagnosis.slot_ledger import WHOLE, CapacityLedger
from replay.diagnosis.stalls import Stalls, Watch
from replay.diagnosis.timers import StallDue
from replay.diagnosis.verdicts import NO_STALL, UNKNOWN, WORKING, Blame
from replay.diagnosis.wakeups import PENDING, Wakeups, harmless, pending
from replay.state.model import State

MAX_GROUPS_COMPARED = 64
"""With more groups, whether all deny each other is not checked."""

_NO_NEEDS: dict[str, int] = {}
_FIXED_BLAME: dict[str, str] = {
    "ready": "queue_order",
    "deferred": "retry_backoff",
    "provider": WORKING,
    "overdue": "provider_latency",
    "lost": UNKNOWN,
    "unsure": UNKNOWN,
    "backing_off": "client_backoff",
    "leaked": "leaked_lease",
}
"""By kind of meter, where the blame never changes."""


class Attribution:
    """Drains the dirty sets into the blame of meters and the division of slots.

    It alone writes the blame of cells, the division of capacity, demand, and wake-ups.
    """

    def __init__(self, run: RunInfo, parts: DiagnosisState) -> None:
        self._run = run
        self._index = parts.index
        self._dirty = parts.dirty
        self._cells: CellLedger = parts.cells
        self._capacity: CapacityLedger = parts.capacity
        self._demand = parts.demand
        self._stalls: Stalls = parts.stalls
        self._wakeups: Wakeups = parts.wakeups
        self._blame: BlameLog = parts.blame
        self._timers = parts.timers
        self._loop = parts.loop
        self._heads: QueueHeads | None = None
        """None until they are collected."""
        self._pressing_sums: dict[tuple[str, int], tuple[float, int]] = {}
        self._pressing_version = -1

    def recompute(self, state: State, now: float, ordinal: int) -> None:
        """Recompute everything dirty, as of `now`.

        Meters come first: a resource whose queue has another blame is divided anew.
        """
        if not self._dirty.any:
            return
        meters, queues = self._dirty.drain_meters()
        resources = self._dirty.drain_resources()
        if meters or queues:
            self._recompute_meters(state, meters, queues, resources, now, ordinal)
        if not resources:
            return
        self._recompute_horizon(state, resources)
        changed = WHOLE in resources
        for resource in resources:
            if resource and self._divide(state, resource, now, ordinal):
                changed = True
        if changed:
            self._divide_whole(state, now, ordinal)

    def collect_evidence(self, state: State, resource: str, now: float) -> None:
        """Add the facts of this instant to a span that is long enough to be a stall."""
        span = self._stalls.watch(resource).span
        if span is not None and span.blame not in span.facts:
            span.facts[span.blame] = evidence.collect(
                state, self._run, self._index, self._cells, span.blame, resource, now
            )

    def check_wakeups(self, now: float, ordinal: int) -> None:
        """End the wake-ups of which nothing waits any more."""
        wakeups = self._wakeups
        if not wakeups.open:
            return
        for meter in [meter for meter in wakeups.pending if meter not in self._cells.meters]:
            del wakeups.pending[meter]
        eligible = wakeups.eligible()
        for about in list(wakeups.open):
            if about not in eligible:
                self.end_wakeup(about, now, ordinal)

    def prove_wakeups(self, state: State, since: float, now: float, ordinal: int) -> None:
        """The event loop is known to have run from `since` until now, without a pause."""
        for about, wakeup in self._wakeups.open.items():
            if wakeup.is_lost(since, now, ordinal):
                meters = [self._cells.meters[number] for number in self._wakeups.pending]
                pending_keys = [key for meter in meters for key in meter.keys]
                wakeup.facts = evidence.eligible_heads(state, self._index, pending_keys, about)
                self._resolve_pending(about, ("lost_wakeup", about), now)
                self._stalls.watch(about).span = None  # This is the verdict, and no other stall.

    def end_wakeup(self, about: str, now: float, ordinal: int) -> None:
        """A lease of `about` ("" for a task lease) came, or nothing waits any more."""
        wakeup = self._wakeups.open.pop(about, None)
        if wakeup is None:
            return
        if wakeup.facts is not None:
            evidence_of_loss = [*wakeup.evidence, ordinal]
            self._stalls.emit(wakeup.facts, about, wakeup.since, now, evidence_of_loss)
        else:
            self._resolve_pending(about, harmless(about), now)
        # What is alike is recomputed together: any of a meter's keys will do.
        meters = self._cells.meters
        pending_keys = [next(iter(meters[n].keys)) for n in self._wakeups.pending if n in meters]
        self._dirty.invalidate_pending(self._index, pending_keys)

    def end_all_wakeups(self, now: float, ordinal: int) -> None:
        """Nothing is known about them beyond `now`."""
        for about in list(self._wakeups.open):
            self.end_wakeup(about, now, ordinal)

    def _resolve_pending(self, about: str, blame: Blame, now: float) -> None:
        """Time that was pending for `about` is known to belong to `blame`."""
        old = pending(about)
        self._blame.resolve_pending(about, blame[0])
        self._loop.rename(old[0], blame[0], about)
        self._cells.rename(old, blame, now)
        self._capacity.rename(old[0], blame[0], about, now)

    def _recompute_meters(
        self,
        state: State,
        meters: dict[Key, None],
        queues: dict[str, None],
        resources: dict[str, None],
        now: float,
        ordinal: int,
    ) -> None:
        """Adds to `resources` those whose queue has another blame."""
        index, cells = self._index, self._cells
        if self._pressing_version != self._dirty.queues_version:
            self._pressing_version = self._dirty.queues_version
            self._pressing_sums = {}
        pressing = proofs.Pressing(state, index.needing, self._pressing_sums)
        heads = self._collected_heads(state, meters, resources, now)
        moved: dict[proofs.Head, str] = {}
        for key in meters:
            kind, subject = key
            tally = cells.tallies.get(key)
            if tally is None:
                if kind == "queued":
                    heads.forget(subject)
            elif kind != "queued":
                self._assign(tally.meter, self._meter_blame(state, key, now, ordinal), subject, now)
            else:
                moved[self._put_head(state, heads, subject, resources, now)] = subject
        for head, group in moved.items():
            self._assign_alike(state, head, group, pressing, resources, now, ordinal)
        if not queues:
            return
        for head, group in heads.taking_from(queues):
            if head not in moved:
                self._assign_alike(state, head, group, pressing, resources, now, ordinal)

    def _collected_heads(
        self, state: State, dirty: dict[Key, None], resources: dict[str, None], now: float
    ) -> QueueHeads:
        """The heads of all queues. Of a fold that was loaded those are collected that are not dirty
        anyway."""
        if self._heads is None:
            self._heads = QueueHeads(self._cells)
            for key in list(self._cells.tallies):
                if key[0] == "queued" and key not in dirty:
                    self._put_head(state, self._heads, key[1], resources, now)
        return self._heads

    def _put_head(
        self, state: State, heads: QueueHeads, group: str, resources: dict[str, None], now: float
    ) -> proofs.Head:
        """Put the group's queue among those that are like it."""
        needs = self._index.needs.get(group, _NO_NEEDS)
        request = self._index.request_of.get(group)
        head = proofs.head_of(state, group, needs, request)
        if heads.put(group, head, needs, now):
            resources[request or ""] = None
            resources[WHOLE] = None
        return head

    def _assign_alike(
        self,
        state: State,
        head: proofs.Head,
        group: str,
        pressing: proofs.Pressing,
        resources: dict[str, None],
        now: float,
        ordinal: int,
    ) -> None:
        """Assign the blame of all queues that are like that of `group`."""
        blame = pressing.blames.get(head)
        if blame is None:
            blame = self._queued_blame(state, group, pressing, now, ordinal)
            pressing.blames[head] = blame
        if self._assign(self._cells.tallies[queued_key(group)].meter, blame, "", now):
            resources[self._index.request_of.get(group, "")] = None
            resources[WHOLE] = None

    def _assign(self, meter: int, blame: Blame, about: str, now: float) -> bool:
        """True if that is another blame than before.

        `about` is what the meter's heads are pending for, if nothing keeps them.
        """
        pending_now = blame[0] in PENDING or blame[0] == "lost_wakeup"
        self._wakeups.set_pending(meter, about if pending_now else None)
        return self._cells.blame(meter, blame, now)

    def _recompute_horizon(self, state: State, resources: dict[str, None]) -> None:
        """Adds to `resources` those whose unused slots the row-group horizon explains."""
        counts = self._index.demand.get("")
        rows = state.row_groups
        horizon = (
            rows.blocked_reason is not None
            and (self._run.row_groups is None or rows.admitted < self._run.row_groups)
            and (counts is None or counts.ready + counts.queued == 0)
        )
        if horizon != self._demand.horizon:
            self._demand.horizon = horizon
            resources.update(self._demand.demanding)

    def _divide(self, state: State, resource: str, now: float, ordinal: int) -> bool:
        """Divide the slots of a resource. True if that may matter to the run as a whole."""
        demand = self._demand
        division = divide(state, self._index, self._cells, demand, resource, now)
        self._capacity.divide(resource, division.parts, now)
        changed = False
        for flags, holds in (
            (demand.demanding, bool(division.parts)),
            (demand.wanting, division.rest is not None),
            (demand.full, division.full),
        ):
            if holds != (resource in flags):
                changed = True
                if holds:
                    flags[resource] = None
                else:
                    del flags[resource]
        self._record_blocked(state, resource, division.rest, now, ordinal)
        self._record_slow_calls(state, resource, now, ordinal)
        return changed

    def _divide_whole(self, state: State, now: float, ordinal: int) -> None:
        blame = whole(state, self._index, self._cells, self._demand)
        if blame is None or self._demand.demanding:
            self._capacity.divide(WHOLE, {}, now)
        else:
            slots = sum(ceiling.effective_max for ceiling in state.ceilings.values())
            self._capacity.divide(WHOLE, {blame[0]: float(slots or 1)}, now)
        counts = self._index.demand.get("")
        if blame is not None and blame[0] == "dependency" and not (counts and counts.running):
            blame = None  # Nothing is upstream: the run has not begun, or is about to end.
        self._record_blocked(state, WHOLE, blame, now, ordinal)

    def _record_blocked(
        self, state: State, resource: str, blame: Blame | None, now: float, ordinal: int
    ) -> None:
        if blame is not None and blame[0] in PENDING:
            blame = (PENDING[blame[0]], blame[1])
        if blame is not None and blame[0] in NO_STALL:
            blame = None
        watch = self._stalls.record_blocked(resource, blame, now, ordinal)
        span = watch.span
        if span is None:
            return
        if span.confirmed:
            self.collect_evidence(state, resource, now)
        elif not watch.stall_scheduled:
            watch.stall_scheduled = True
            self._timers.schedule(StallDue(span.since + STALL_MIN_SECONDS, resource))

    def _record_slow_calls(self, state: State, resource: str, now: float, ordinal: int) -> None:
        index = self._index
        seen = index.attempts_seen
        number = index.overdue.get(resource, 0) if seen else self._cells.total(("unsure", resource))
        watch = self._stalls.watch(resource)
        if number == 0:
            self._stalls.no_slow_calls(resource, now)
            return
        if watch.slow is None and not seen:
            ceiling = state.ceilings[resource]
            if watch.storm is None and ceiling.waiters == 0:
                watch.slow = self._slow_tasks(resource, watch, ordinal)
        elif watch.slow is None:
            for attempt_id in index.requests.get(resource, ()):
                call = index.calls[attempt_id]
                if call.overdue and call.started_at is not None:
                    times = watch.times[call.column]
                    evidence = [call.started_ordinal, ordinal]
                    since = _since(times, call.started_at)
                    watch.slow = Slow(
                        since,
                        call.column,
                        times.p95,
                        times.median,
                        evidence,
                        raised=times.is_raised,
                    )
                    for seconds in times.take_held() if times.is_raised else ():
                        watch.slow.add(seconds)
                    break
        self._stalls.slow_calls(resource, number)

    def _slow_tasks(self, resource: str, watch: Watch, ordinal: int) -> Slow | None:
        """The oldest of the tasks that are slow, where no event tells of calls."""
        index = self._index
        oldest: tuple[float, int, str] | None = None
        for task_id in index.unsure:
            entry = index.tasks.get(task_id)
            if entry is None or entry.request_resource != resource:
                continue
            acquired_at, began = index.leases.get(entry.group, {}).get(task_id, (None, 0))
            if acquired_at is not None and (oldest is None or acquired_at < oldest[0]):
                oldest = (acquired_at, began, entry.cell[0])
        if oldest is None:
            return None
        since, began, column = oldest
        times = watch.times[column]
        since = _since(times, since)
        return Slow(since, column, times.p95, times.median, [began, ordinal], of_tasks=True)

    def _meter_blame(self, state: State, key: Key, now: float, ordinal: int) -> Blame:
        """What the cells of this meter wait for, from `now` on."""
        kind, subject = key
        fixed = _FIXED_BLAME.get(kind)
        if fixed is not None:
            return (fixed, subject)
        if kind == "own":
            return (WORKING, "")
        ceiling = state.ceilings.get(subject)
        if ceiling is None:
            return (UNKNOWN, subject) if kind == "waiting" else (WORKING, subject)
        aggregate = state.aggregates.get(ceiling.provider_model)
        verdict = proofs.ceiling_verdict(ceiling, aggregate, now)
        if kind == "waiting":
            if verdict is None:
                return self._eligible_blame(subject, now, ordinal)
            full = verdict in ("request_domain_limit", "request_aggregate_cap")
            leaked = full and self._index.leaks.amounts.get(subject)
            return ("leaked_lease" if leaked else verdict, subject)
        if ceiling.waiters >= max(1, ceiling.in_flight):
            return (verdict or UNKNOWN, subject)
        return (WORKING, subject)

    def _queued_blame(
        self, state: State, group: str, pressing: proofs.Pressing, now: float, ordinal: int
    ) -> Blame:
        index = self._index
        needs = index.needs.get(group, {})
        request = index.request_of.get(group, "")
        leaked = index.leaks.amounts
        blame = proofs.queued_blame(state, group, needs, request, pressing, leaked, now)
        if blame[0] == "group_cap" or blame[0] == "borrow_debt":
            if len(index.needs) <= MAX_GROUPS_COMPARED and proofs.deny_each_other(
                state, index.needs, pressing
            ):
                return ("policy_mutual_denial", blame[1])
        elif blame[0] == "task_capacity":
            return holders_blame(index, self._cells, blame[1])
        elif blame[0] == "queue_order" and proofs.is_eligible(state, group, needs, pressing):
            return self._eligible_blame("", now, ordinal)
        return blame

    def _eligible_blame(self, about: str, now: float, ordinal: int) -> Blame:
        """Blame of a head that nothing in the stream keeps from going on."""
        if self._run.producer != "headgate":
            return harmless(about)
        return self._wakeups.blame(about, now, ordinal)


def _since(times: CallTimes, started_at: float) -> float:
    """When an episode began whose first call that is known to be slow began at `started_at`."""
    unusual = times.unusual_since
    return started_at if unusual is None or not times.is_raised else min(unusual, started_at)
