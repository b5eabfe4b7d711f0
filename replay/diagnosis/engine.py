"""`Diagnosis`: blame and verdicts, kept up event by event.

Integration is lazy: an event marks what it may have changed, and what is marked is looked at again
only once time moves on, so that the many facts of one instant cost one look. Turning points that no
event announces (a cooldown runs out, a call becomes slow, a second ends) are timers.
"""

from __future__ import annotations

import heapq
import math

import msgspec

from engine.events import Event, RunInfo, SchedulerEvent
from replay.diagnosis import facts, observe, proof
from replay.diagnosis.capacity import WHOLE
from replay.diagnosis.cell import Key
from replay.diagnosis.division import divide, whole
from replay.diagnosis.leaks import holds_after_end
from replay.diagnosis.memory import DIAGNOSIS_VERSION, Memory
from replay.diagnosis.stalls import NORMAL, Slow, Stalls
from replay.diagnosis.verdicts import UNKNOWN, WORKING, Blame
from replay.diagnosis.wakeups import PENDING, Wakeup, harmless, pending
from replay.rows import BlameRow, VerdictRow
from replay.state import State

__all__ = ["DIAGNOSIS_VERSION", "Diagnosis"]

INSTANT = 0.0002
"""Events so close together count as one instant, that of the first: blame is exact to this."""
LONGEST_STEP = 3 * 3600.0
"""A longer leap of the clock is no time in which anything was waited for."""

LAG_LEAST = 0.5
"""A heartbeat may be so late."""
GROUPS_COMPARED = 64
"""Among more groups none is looked at for whether all deny each other."""

_FIXED: dict[str, str] = {
    "ready": "queue_order",
    "deferred": "retry_backoff",
    "own": WORKING,
    "provider": WORKING,
    "overdue": "provider_latency",
    "lost": UNKNOWN,
    "leaked": "leaked_lease",
}
"""Meters whose blame never changes."""


class Diagnosis:
    """Observer of a fold: call `before` and `after` around the reduction of each event."""

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._memory = Memory()
        self._memory.standing.attempts_seen = run.producer == "headgate"
        self.instant_end = -math.inf
        """Events before this time belong to the instant of `memory.time`."""

    def before(self, state: State, event: Event, ordinal: int) -> None:
        """Integrate up to the event's time; `state` is as it was just before it."""
        now = event.captured_at_monotonic
        if now < self.instant_end:
            return
        memory = self._memory
        if memory.time is None:
            memory.bin = math.floor(now - self._run.monotonic_start)
        else:
            self._end_instant(state)
            if now - memory.time > LONGEST_STEP:
                self._end_wakeups()
                self._leap(state, now)
            elif _loses(state, event, self._run):
                self._skip_unknown(state, now)
            else:
                self._pass_lag(state, now, ordinal)
                self._advance(state, now)
        memory.time = now
        self.instant_end = now + INSTANT

    def after(self, state: State, event: Event, ordinal: int) -> None:
        """Take over what the event changed; `state` is as it is just after it."""
        memory = self._memory
        memory.ordinal = ordinal
        if state.lost_events != memory.lost_events:
            self._lose(state, event, ordinal)
        observe.observe(memory, state, event, ordinal, self._run)

    def _lose(self, state: State, event: Event, ordinal: int) -> None:
        """Events are missing just before this one."""
        memory = self._memory
        memory.lost_events = state.lost_events
        stream = "scheduler" if isinstance(event, SchedulerEvent) else "request"
        while memory.gaps_seen < len(state.gaps):
            gap = state.gaps[memory.gaps_seen]
            memory.gaps_seen += 1
            stream = gap.stream
            detail = {
                "stream": gap.stream,
                "lost_events": gap.last_lost - gap.first_lost + 1,
                "cause": gap.cause,
                "missing": [f"{gap.stream} events {gap.first_lost} to {gap.last_lost}"],
            }
            memory.stalls.emit(
                (UNKNOWN, ""), gap.from_time, gap.to_time, detail, [ordinal - 1, ordinal]
            )
        observe.take_over(memory, state, self._run)
        observe.lose_track(memory, stream, memory.time or 0.0)
        memory.doubt_all(state)

    def drain(self) -> tuple[list[BlameRow], list[VerdictRow]]:
        """Rows of bins and verdicts closed since the last drain."""
        memory = self._memory
        rows, memory.rows = memory.rows, []
        closed, memory.stalls.closed = memory.stalls.closed, []
        return rows, closed

    def open_verdicts(self, now: float) -> list[VerdictRow]:
        """Stalls that still go on, as if they ended at `now`; changes nothing."""
        memory = self._memory
        if memory.time is None:
            return []
        packed = msgspec.msgpack.encode(memory.stalls)
        stalls = msgspec.msgpack.decode(packed, type=Stalls)
        stalls.closed = []
        stalls.end_all(max(now, memory.time), memory.ordinal)
        for about, wakeup in memory.wakeups.items():
            if wakeup.lost:
                stalls.emit(
                    ("lost_wakeup", about), wakeup.since, now, wakeup.detail, wakeup.evidence
                )
        for about, leak in memory.population.leaks.open.items():
            stalls.emit(("leaked_lease", about), leak.since, now, *leak.told(now))
        return stalls.closed

    def finish(self, state: State, time: float) -> tuple[list[BlameRow], list[VerdictRow]]:
        """Close everything at `time`; without an end of the run, what follows is unknown."""
        memory = self._memory
        if memory.time is None:
            return self.drain()
        last = memory.time
        self._end_instant(state)
        if state.outcome is None:
            memory.stalls.end_all(last, memory.ordinal)
            open_tasks = len(state.tasks)
            self._skip_unknown(state, max(time, last))
            memory.stalls.emit(
                ("producer_gone", ""),
                last,
                max(time, last),
                {"open_tasks": open_tasks},
                [memory.ordinal],
            )
        else:
            if time > last:
                self._advance(state, time)
            self._settle(state)
            memory.stalls.end_all(memory.time, memory.ordinal)
        self._end_wakeups()
        for about, leak in memory.population.leaks.open.items():
            observe.tell_leak(memory, about, leak)
        self._close_bin()
        return self.drain()

    def dump(self) -> bytes:
        """All that `load` needs to go on as if nothing had happened."""
        return msgspec.msgpack.encode(self._memory)

    @classmethod
    def load(cls, run: RunInfo, data: bytes) -> Diagnosis:
        """Raises `ValueError` for data of another `DIAGNOSIS_VERSION` or none at all."""
        try:
            memory = msgspec.msgpack.decode(data, type=Memory)
        except msgspec.MsgspecError as error:
            raise ValueError("not a diagnosis") from error
        if memory.version != DIAGNOSIS_VERSION:
            raise ValueError(f"diagnosis version {memory.version}, not {DIAGNOSIS_VERSION}")
        diagnosis = cls(run)
        diagnosis._memory = memory
        if memory.time is not None:
            diagnosis.instant_end = memory.time + INSTANT
        return diagnosis

    def _end_instant(self, state: State) -> None:
        """All events of this instant are in: what do they come to?"""
        observe.take_over(self._memory, state, self._run)
        self._settle(state)
        self._look_at_wakeups(state)
        self._take_timers()

    def _look_at_wakeups(self, state: State) -> None:
        """Is something let in that could be? Asked with every instant: events show a live loop."""
        memory = self._memory
        if not memory.wakeups:
            return
        now = memory.time or 0.0
        for key in [key for key in memory.pending if key not in memory.cells.meters]:
            del memory.pending[key]
        able = {key[1] if key[0] == "waiting" else "" for key in memory.pending}
        for about in list(memory.wakeups):
            if about not in able:
                memory.end_wakeup(about)
            elif memory.wakeups[about].is_lost(now, memory.ordinal):
                detail = facts.able(state, memory.population, memory.pending, about)
                memory.wakeups[about].detail = detail
                memory.name_pending(about, lost=True)
                memory.stalls.watch(about).span = None  # It was this, and no other stall.

    def _end_wakeups(self) -> None:
        """Nothing more can be said of them."""
        for about in list(self._memory.wakeups):
            self._memory.end_wakeup(about)

    def _pass_lag(self, state: State, now: float, ordinal: int) -> None:
        """A heartbeat was due and nothing came at all: the loop was held up until now."""
        memory = self._memory
        if memory.heartbeat_due is None or state.outcome is not None:
            return
        begin = max(memory.heartbeat_due, memory.time or 0.0)
        if now - begin < LAG_LEAST:
            return
        before = memory.ordinal
        self._advance(state, begin)
        self._end_wakeups()
        memory.stalls.break_off(begin, before)
        self._cover(now, "event_loop_lag")
        memory.stalls.emit(
            ("event_loop_lag", ""),
            begin,
            now,
            {"open_tasks": len(state.tasks)},
            [before, ordinal],
        )
        memory.heartbeat_due = None
        memory.doubt_all(state)

    def _advance(self, state: State, until: float) -> None:
        memory = self._memory
        while True:
            stop = min(until, self._bin_end())
            if memory.timers and memory.timers[0][0] < stop:
                stop = memory.timers[0][0]
            memory.time = max(stop, memory.time or stop)
            while memory.timers and memory.timers[0][0] <= memory.time:
                _, kind, subject = heapq.heappop(memory.timers)
                self._fire(state, kind, subject, memory.time)
            self._settle(state)
            self._take_timers()
            if memory.time >= self._bin_end():
                self._close_bin()
            if memory.time >= until:
                return

    def _take_timers(self) -> None:
        stalls = self._memory.stalls
        if stalls.timers:
            for when, kind, subject in stalls.timers:
                self._memory.set_timer(when, kind, subject)
            stalls.timers = []

    def _bin_end(self) -> float:
        return self._run.monotonic_start + self._memory.bin + 1

    def _close_bin(self) -> None:
        memory = self._memory
        memory.close_bin(memory.time or 0.0)

    def _skip_unknown(self, state: State, until: float) -> None:
        """Events are missing: nothing is proved from the last event to `until`."""
        memory = self._memory
        last = memory.time or 0.0
        self._end_wakeups()
        memory.cells.run_to(last)
        memory.capacity.run_to(last)
        memory.stalls.end_all(last, memory.ordinal)
        memory.heartbeat_due = None
        if until - last > LONGEST_STEP:
            self._leap(state, until)
            memory.time = until
            return
        self._cover(until, UNKNOWN)

    def _cover(self, until: float, verdict: str) -> None:
        """All time up to `until` goes to one verdict."""
        memory = self._memory
        while memory.time is None or memory.time < until:
            stop = min(until, self._bin_end())
            memory.cells.cover(stop, verdict)
            memory.capacity.cover(stop, verdict)
            memory.time = stop
            if stop >= self._bin_end():
                self._close_bin()

    def _leap(self, state: State, now: float) -> None:
        """Close all at the last event and go on at `now`, with the time between uncounted."""
        memory = self._memory
        last = memory.time or 0.0
        memory.stalls.end_all(last, memory.ordinal)
        self._close_bin()
        memory.time = now
        memory.bin = math.floor(now - self._run.monotonic_start)
        memory.cells.leap(now)
        memory.capacity.leap(now)
        memory.doubt_all(state)

    def _settle(self, state: State) -> None:
        """Look again at everything that may have changed, as of `memory.time`."""
        memory = self._memory
        now = memory.time or 0.0
        if memory.doubtful_meters:
            meters, memory.doubtful_meters = memory.doubtful_meters, {}
            for key in meters:
                if key not in memory.cells.meters:
                    memory.pending.pop(key, None)
                else:
                    blame = self._blame(state, key, now)
                    if blame[0] in PENDING or blame[0] == "lost_wakeup":
                        memory.pending[key] = None
                    elif memory.pending:
                        memory.pending.pop(key, None)
                    changed = memory.cells.blame(key, blame, now)
                    if changed and key[0] == "queued":
                        resource = memory.population.request_of.get(key[1], "")
                        memory.doubtful_resources[resource] = None
                        memory.doubtful_resources[WHOLE] = None
        if not memory.doubtful_resources:
            return
        self._look_at_horizon(state)
        resources, memory.doubtful_resources = memory.doubtful_resources, {}
        changed = WHOLE in resources
        for resource in resources:
            if resource and self._divide(state, resource, now):
                changed = True
        if changed:
            self._divide_whole(state, now)

    def _divide_whole(self, state: State, now: float) -> None:
        memory = self._memory
        blame = whole(state, memory.population, memory.cells, memory.standing)
        if blame is None or memory.standing.demanding:
            memory.capacity.divide(WHOLE, {}, now)
        else:
            slots = sum(ceiling.effective_max for ceiling in state.ceilings.values())
            memory.capacity.divide(WHOLE, {blame[0]: float(slots or 1)}, now)
        wants = memory.population.wants.get("")
        if blame is not None and blame[0] == "dependency" and (wants is None or not wants.running):
            blame = None  # Nothing is upstream: the run has not begun, or is about to end.
        self._stand(state, WHOLE, blame, now)

    def _look_at_horizon(self, state: State) -> None:
        memory = self._memory
        wants = memory.population.wants.get("")
        rows = state.row_groups
        horizon = (
            rows.blocked_reason is not None
            and (self._run.row_groups is None or rows.admitted < self._run.row_groups)
            and (wants is None or wants.ready + wants.queued == 0)
        )
        if horizon != memory.standing.horizon:
            memory.standing.horizon = horizon
            for resource in memory.standing.demanding:
                memory.doubtful_resources[resource] = None

    def _divide(self, state: State, resource: str, now: float) -> bool:
        """Divide the slots of a resource anew. True if that may matter to the run as a whole."""
        memory = self._memory
        standing = memory.standing
        division = divide(state, memory.population, memory.cells, standing, resource, now)
        memory.capacity.divide(resource, division.parts, now)
        changed = False
        for flags, holds in (
            (standing.demanding, bool(division.parts)),
            (standing.wanting, division.rest is not None),
            (standing.full, division.full),
        ):
            if holds != (resource in flags):
                changed = True
                if holds:
                    flags[resource] = None
                else:
                    del flags[resource]
        self._stand(state, resource, division.rest, now)
        self._count_slow(resource, now)
        return changed

    def _stand(self, state: State, resource: str, blame: Blame | None, now: float) -> None:
        memory = self._memory
        if blame is not None and blame[0] in PENDING:
            blame = (PENDING[blame[0]], blame[1])
        if blame is not None and blame[0] in NORMAL:
            blame = None
        watch = memory.stalls.stand(resource, blame, now, memory.ordinal)
        span = watch.span
        if span is None:
            return
        if span.confirmed:
            self._collect(state, resource, now)
        elif not watch.timer:
            watch.timer = True
            memory.set_timer(span.since + watch.pace.threshold, "stall", resource)

    def _collect(self, state: State, resource: str, now: float) -> None:
        span = self._memory.stalls.watch(resource).span
        if span is not None and span.blame not in span.facts:
            span.facts[span.blame] = facts.collect(
                state, self._run, self._memory.population, span.blame, resource, now
            )

    def _count_slow(self, resource: str, now: float) -> None:
        memory = self._memory
        number = memory.population.overdue.get(resource, 0)
        watch = memory.stalls.watch(resource)
        slow = None
        if number > 0 and watch.slow is None:
            for attempt_id in memory.population.requests.get(resource, ()):
                call = memory.population.calls[attempt_id]
                if call.overdue and call.started_at is not None:
                    evidence = [call.started_ordinal, memory.ordinal]
                    p95 = watch.times.p95
                    slow = Slow(now, call.started_at, evidence, call.column, p95, number)
                    break
        memory.stalls.slow_calls(resource, number, slow, now)

    def _blame(self, state: State, key: Key, now: float) -> Blame:
        """What the cells of this meter are under, from `now` on."""
        kind, subject = key
        fixed = _FIXED.get(kind)
        if fixed is not None:
            return (fixed, subject)
        population = self._memory.population
        if kind == "queued":
            return self._queued_blame(state, subject, now)
        ceiling = state.ceilings.get(subject)
        if ceiling is None:
            return (UNKNOWN, subject) if kind == "waiting" else (WORKING, subject)
        aggregate = state.aggregates.get(ceiling.provider_model)
        verdict = proof.ceiling_verdict(ceiling, aggregate, now)
        if kind == "waiting":
            if verdict is None:
                return self._able(subject, now)
            full = verdict in ("request_domain_limit", "request_aggregate_cap")
            leaked = full and population.leaks.amounts.get(subject)
            return ("leaked_lease" if leaked else verdict, subject)
        if verdict is not None and ceiling.waiters >= max(1, ceiling.in_flight):
            return (verdict, subject)
        return (WORKING, subject)

    def _queued_blame(self, state: State, group: str, now: float) -> Blame:
        population = self._memory.population
        needs = population.needs.get(group, {})
        request = population.request_of.get(group, "")
        leaked = population.leaks.amounts
        blame = proof.queued_blame(state, group, needs, request, population.needing, leaked, now)
        if blame[0] == "group_cap" or blame[0] == "borrow_debt":
            if len(population.needs) <= GROUPS_COMPARED and proof.deny_each_other(
                state, population.needs, population.needing
            ):
                return ("policy_mutual_denial", blame[1])
        elif blame[0] == "queue_order" and proof.is_eligible(state, group, needs):
            return self._able("", now)
        return blame

    def _able(self, about: str, now: float) -> Blame:
        """Nothing keeps this head from going on, that can be seen in the stream."""
        if self._run.producer != "headgate":
            return harmless(about)
        memory = self._memory
        wakeup = memory.wakeups.get(about)
        if wakeup is None:
            wakeup = memory.wakeups[about] = Wakeup(now, [memory.ordinal])
        return ("lost_wakeup", about) if wakeup.lost else pending(about)

    def _fire(self, state: State, kind: str, subject: str, now: float) -> None:
        memory = self._memory
        if kind == "cooldown":
            observe.doubt_cooling(memory, subject)
            self._settle(state)
            blind = not memory.standing.attempts_seen
            memory.stalls.cooled_down(subject, now, memory.ordinal, blind)
            memory.doubtful_resources[subject] = None
            memory.stalls.storm_check(subject, now)
        elif kind == "storm":
            memory.stalls.storm_check(subject, now)
        elif kind == "episode":
            memory.stalls.episode_check(subject, now)
        elif kind == "stall":
            self._check_stall(state, subject, now)
        elif kind == "overdue":
            self._turn_slow(state, subject, now)
        elif kind == "leak":
            self._find_leak(state, subject)

    def _check_stall(self, state: State, resource: str, now: float) -> None:
        watch = self._memory.stalls.watch(resource)
        watch.timer = False
        span = watch.span
        if span is None:
            return
        when = span.since + watch.pace.threshold
        if when > now:
            watch.timer = True
            self._memory.set_timer(when, "stall", resource)
        else:
            span.confirmed = True
            self._collect(state, resource, now)

    def _find_leak(self, state: State, subject: str) -> None:
        """A lease was still held after the end of its owner: is it so now?"""
        memory = self._memory
        leaks = memory.population.leaks
        if not holds_after_end(state, subject, memory.population.executions):
            leaks.suspects.pop(subject, None)
            return
        suspect = leaks.confirm(subject)
        if suspect is not None:
            observe.doubt_leaked(memory, suspect)
            if subject in memory.population.placed:
                observe.place(memory, state, subject, self._run, memory.ordinal)

    def _turn_slow(self, state: State, resource: str, now: float) -> None:
        """Mark the calls of a resource that have become slow, the oldest first."""
        memory = self._memory
        population = memory.population
        watch = memory.stalls.watch(resource)
        watch.slow_timer = False
        allowance = watch.times.allowance
        for attempt_id in population.requests.get(resource, ()):
            call = population.calls[attempt_id]
            if call.phase != "in_provider" or call.overdue or call.lost:
                continue
            if call.started_at is None:
                continue
            if allowance is None or call.started_at + allowance > now:
                break
            population.count_overdue(call, True)
            memory.doubtful_resources[resource] = None
            task_id = population.executions.get(call.execution_id or "")
            if task_id is not None:
                observe.place(memory, state, task_id, self._run, memory.ordinal)
        observe.expect_slow(memory, resource)


def _loses(state: State, event: Event, run: RunInfo) -> bool:
    """Events are missing just before this one."""
    if isinstance(event, SchedulerEvent):
        if event.event_kind == "recording_gap":
            return True
        stream, semantics = "scheduler", run.scheduler_sequence_semantics
    else:
        stream, semantics = "request", run.request_sequence_semantics
    last = state.last_sequence.get(stream)
    return semantics == "gapless" and last is not None and event.sequence > last + 1
