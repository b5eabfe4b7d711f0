"""`Diagnosis`: blame and verdicts, kept up event by event.

Integration is lazy: an event marks what it may have changed, and what is marked is looked at again
only once time moves on, so that the many facts of one instant cost one look. Turning points that no
event announces (a cooldown runs out, a call becomes slow, a second ends) are timers.
"""

from __future__ import annotations

import heapq
import math

import msgspec

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.diagnosis import evidence, index_sync
from replay.diagnosis.attribution import settle
from replay.diagnosis.diagnosis_state import DIAGNOSIS_VERSION, DiagnosisState
from replay.diagnosis.event_handlers import REQUEST_FACTS, SCHEDULER_FACTS, touch_resource
from replay.diagnosis.slot_ledger import WHOLE
from replay.diagnosis.stalls import Stalls
from replay.diagnosis.timers import fire
from replay.diagnosis.verdicts import UNKNOWN, Facts, VerdictRow
from replay.diagnosis.verdicts.broken import EventLoopLag, ProducerGone, Unknown
from replay.state.bins import bin_end, bin_of
from replay.state.model import State
from replay.state.rows import BlameRow

__all__ = ["DIAGNOSIS_VERSION", "Diagnosis"]

INSTANT = 0.0002
"""Events so close together count as one instant, that of the first: blame is exact to this."""
LONGEST_STEP = 3 * 3600.0
"""A longer leap of the clock is no time in which anything was waited for."""

LAG_LEAST = 0.5
"""A heartbeat may be so late."""


class Diagnosis:
    """Observer of a fold: call `before` and `after` around the reduction of each event."""

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._memory = DiagnosisState()
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
            memory.bin = bin_of(now - self._run.monotonic_start)
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
        if type(event) is SchedulerEvent:
            task_id = event.task_id
            if task_id is None:
                memory.doubtful_resources[WHOLE] = None
            else:
                memory.touched_tasks[task_id] = ordinal
            fact = SCHEDULER_FACTS.get(event.event_kind)
            if fact is not None:
                fact(memory, state, event, ordinal, self._run)
        elif type(event) is RequestEvent:
            attempt_id = event.request_attempt_id
            if attempt_id is not None:
                memory.touched_calls[attempt_id] = ordinal
            request_fact = REQUEST_FACTS.get(event.event_kind)
            if request_fact is not None:
                request_fact(memory, state, event, ordinal)
            if event.pressure_snapshot is not None:
                touch_resource(memory, state, event)

    def _lose(self, state: State, event: Event, ordinal: int) -> None:
        """Events are missing just before this one."""
        memory = self._memory
        memory.lost_events = state.lost_events
        stream = "scheduler" if isinstance(event, SchedulerEvent) else "request"
        while memory.gaps_seen < len(state.gaps):
            gap = state.gaps[memory.gaps_seen]
            memory.gaps_seen += 1
            stream = gap.stream
            detail = Unknown(
                stream=gap.stream,
                lost_events=gap.last_lost - gap.first_lost + 1,
                cause=gap.cause,
                missing=[f"{gap.stream} events {gap.first_lost} to {gap.last_lost}"],
            )
            evidence = [ordinal - 1, ordinal]
            memory.stalls.emit(Facts(detail), "", gap.from_time, gap.to_time, evidence)
        index_sync.take_over(memory, state, self._run)
        index_sync.lose_track(memory, stream, memory.time or 0.0)
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
                stalls.emit(wakeup.facts, about, wakeup.since, now, wakeup.evidence)
        for about, leak in memory.index.leaks.open.items():
            stalls.emit(leak.facts(now), about, leak.since, now)
        return stalls.closed

    def open_blame(self) -> list[BlameRow]:
        """Blame that still goes on the same, up to the last bin that is closed."""
        return self._memory.open_blame()

    def forget_stretches(self) -> None:
        """Rows of closed bins are written already."""
        self._memory.stretches.end()

    def finish(
        self, state: State, time: float, going: bool = False
    ) -> tuple[list[BlameRow], list[VerdictRow]]:
        """Close everything at `time`; without an end of the run, what follows is unknown.

        `going`: the run was not over when it was read, or that can't be told.
        """
        memory = self._memory
        if memory.time is None:
            return self.drain()
        last = memory.time
        self._end_instant(state)
        if state.outcome is None and going:
            memory.stalls.end_all(last, memory.ordinal)
        elif state.outcome is None:
            memory.stalls.end_all(last, memory.ordinal)
            open_tasks = len(state.tasks)
            self._skip_unknown(state, max(time, last))
            detail = ProducerGone(open_tasks=open_tasks)
            memory.stalls.emit(Facts(detail), "", last, max(time, last), [memory.ordinal])
        else:
            if time > last:
                self._advance(state, time)
            settle(self._memory, self._run, state)
            memory.stalls.end_all(memory.time, memory.ordinal)
        self._end_wakeups()
        for about, leak in memory.index.leaks.open.items():
            index_sync.tell_leak(memory, about, leak)
        self._close_bin()
        memory.end_stretches()
        return self.drain()

    def dump(self) -> bytes:
        """All that `load` needs to go on as if nothing had happened."""
        return msgspec.msgpack.encode(self._memory)

    @classmethod
    def load(cls, run: RunInfo, data: bytes) -> Diagnosis:
        """Raises `ValueError` for data of another `DIAGNOSIS_VERSION` or none at all."""
        try:
            memory = msgspec.msgpack.decode(data, type=DiagnosisState)
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
        index_sync.take_over(self._memory, state, self._run)
        settle(self._memory, self._run, state)
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
                known = evidence.able(state, memory.index, memory.pending, about)
                memory.wakeups[about].facts = known
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
            Facts(EventLoopLag.of(state, self._run)), "", begin, now, [before, ordinal]
        )
        memory.heartbeat_due = None
        memory.doubt_all(state)

    def _advance(self, state: State, until: float) -> None:
        memory = self._memory
        whole = False  # The open bin begins here and now.
        while True:
            stop = min(until, self._bin_end())
            if memory.timers and memory.timers[0][0] < stop:
                stop = memory.timers[0][0]
            memory.time = max(stop, memory.time or stop)
            quiet = whole
            while memory.timers and memory.timers[0][0] <= memory.time:
                quiet = False
                _, kind, subject = heapq.heappop(memory.timers)
                fire(memory, self._run, state, kind, subject, memory.time)
            settle(self._memory, self._run, state)
            self._take_timers()
            whole = memory.time >= self._bin_end()
            if whole:
                self._close_bin()
                if quiet:
                    self._pass_quiet(min(until, memory.timers[0][0] if memory.timers else until))
            if memory.time >= until:
                return

    def _pass_quiet(self, until: float) -> None:
        """The last bin was quiet all through: at one go all that end before `until`, which are
        like it."""
        memory = self._memory
        start = self._run.monotonic_start
        bins = bin_of(until - start) - memory.bin
        if bins > 0:
            memory.pass_bins(bins, start + memory.bin + bins)

    def _take_timers(self) -> None:
        stalls = self._memory.stalls
        if stalls.timers:
            for when, kind, subject in stalls.timers:
                self._memory.set_timer(when, kind, subject)
            stalls.timers = []

    def _bin_end(self) -> float:
        return bin_end(self._run.monotonic_start, self._memory.bin)

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
        whole = False
        while memory.time is None or memory.time < until:
            stop = min(until, self._bin_end())
            memory.cells.cover(stop, verdict)
            memory.capacity.cover(stop, verdict)
            memory.time = stop
            quiet, whole = whole, stop >= self._bin_end()
            if whole:
                self._close_bin()
                if quiet:
                    self._pass_quiet(until)

    def _leap(self, state: State, now: float) -> None:
        """Close all at the last event and go on at `now`, with the time between uncounted."""
        memory = self._memory
        last = memory.time or 0.0
        memory.stalls.end_all(last, memory.ordinal)
        self._close_bin()
        memory.end_stretches()
        memory.time = now
        memory.bin = bin_of(now - self._run.monotonic_start)
        memory.cells.leap(now)
        memory.capacity.leap(now)
        memory.doubt_all(state)


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
