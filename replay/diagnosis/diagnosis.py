"""`Diagnosis`: blame and verdicts, kept up to date event by event.

It is an incremental computation over dirty sets, with timers. The inputs are the state of the run
and its events. The results are the blame of each meter (what the cells of one kind wait for), the
division of each request resource's slots, and from these the stalls. Recomputing every result for
every event would cost time proportional to the number of groups and resources, so an event only
marks what it may have changed:

1. `EventHandlers` adds the event's task, call and resource to `Changes` and passes facts such as
   a 429 to `Stalls`.
2. When the first event of the next instant arrives, `IndexSync` applies `Changes` to the
   `LiveIndex` and the counts of cells, and marks dependent meters and resources in `DirtySets`.
   Events within `INSTANT_SECONDS` of the first belong to one instant and share one recomputation.
3. `Attribution` drains `DirtySets` and recomputes those results and no others.
4. Time moves on: ledgers integrate the results up to the next timer, end of a bin, or event.
   Changes that no event announces (a cooldown ends, a call becomes slow) are `timers`, which
   invalidate and recompute in the same way.

5. A heartbeat of the producer's loop closes a window of time: what was counted in it where the
   loop had not run is taken back (`LoopStalls`, `reattribution`), and its rows and verdicts are
   given out. Until then they are provisional.

So the results at any time are those of a full recomputation, as long as every change is marked:
where that cannot be known (a keyframe, a loss of events), everything is.

Each part has one writer: `IndexSync` the live index and the counts of cells, `Attribution` the
blame of cells, capacity, demand and wake-ups, `Diagnosis` time, bins and the timer queue's drain.
`DirtySets`, `Changes`, `TimerQueue` and `Stalls` are written through their methods only. This
module is the order in which they act, and nothing else.
"""

from __future__ import annotations

import math

import msgspec

from engine.events import Event, RequestEvent, RunInfo, SchedulerEvent
from replay.diagnosis.attribution import Attribution
from replay.diagnosis.diagnosis_state import DIAGNOSIS_VERSION, DiagnosisState
from replay.diagnosis.event_handlers import EventHandlers
from replay.diagnosis.index_sync import LOCAL_CODE, IndexSync
from replay.diagnosis.loop_watch import KINDS as LOOP_KINDS
from replay.diagnosis.loop_watch import SILENCE_SECONDS, UNKNOWN_SILENCE_SECONDS, trimmed
from replay.diagnosis.reattribution import HeldBins
from replay.diagnosis.rolling_stats import STALL_MIN_SECONDS
from replay.diagnosis.settlement import Settlement
from replay.diagnosis.stalls import Stalls
from replay.diagnosis.timers import StallDue
from replay.diagnosis.verdicts import UNKNOWN, Facts, VerdictRow
from replay.diagnosis.verdicts.broken import ProducerGone, Unknown
from replay.state.bins import bin_end, bin_of
from replay.state.model import State
from replay.state.rows import BlameRow
from replay.state.task_events import shared

__all__ = ["DIAGNOSIS_VERSION", "Diagnosis"]

INSTANT_SECONDS = 0.0002
"""Events within this time of the first belong to one instant; blame is exact to this."""
MAX_STEP_SECONDS = 3 * 3600.0
"""A longer step of the clock is left out of all waits."""


class Diagnosis:
    """Observer of a fold: call `before` and `after` around the reduction of each event."""

    def __init__(self, run: RunInfo) -> None:
        parts = DiagnosisState()
        parts.index.attempts_seen = run.producer == "headgate"
        parts.index.started = run.producer == "headgate"
        parts.loop.foreign = run.producer != "headgate"
        self._bind(run, parts)

    def _bind(self, run: RunInfo, parts: DiagnosisState) -> None:
        self._run = run
        self._parts = parts
        self._sync = IndexSync(run, parts)
        self._attribution = Attribution(run, parts)
        self._handlers = EventHandlers(parts, self._sync, self._attribution)
        self._settlement = Settlement(run, parts, self._sync, self._attribution)
        self.instant_end = -math.inf if parts.time is None else parts.time + INSTANT_SECONDS
        """Events before this time belong to the current instant."""

    @property
    def _now(self) -> float:
        return self._parts.time or 0.0

    def after_interruption(self, state: State) -> Diagnosis:
        """One for the part of the run that begins now. This one is finished."""
        later = Diagnosis(self._run)
        parts = later._parts
        parts.lost_events, parts.gaps_seen = state.lost_events, len(state.gaps)
        parts.errors.seen = self._parts.errors.seen
        return later

    def before(self, state: State, event: Event, ordinal: int) -> None:
        """Integrate up to the event's time; `state` is as it was just before the event."""
        now = event.captured_at_monotonic
        if now < self.instant_end:
            return
        parts = self._parts
        if parts.time is None:
            parts.bin = bin_of(now - self._run.monotonic_start)
            parts.loop.since = now
        else:
            self._end_instant(state)
            if now - parts.time > MAX_STEP_SECONDS:
                self._attribution.end_all_wakeups(parts.time, parts.ordinal)
                self._settle(state)
                self._skip_uncounted(state, now)
            elif _follows_loss(state, event, self._run):
                self._skip_unknown(state, now)
            elif now - parts.time >= UNKNOWN_SILENCE_SECONDS and not parts.loop.watched:
                self._pass_unheard(state, now, ordinal)
            else:
                self._advance(state, now)
        parts.time = now
        self.instant_end = now + INSTANT_SECONDS

    def after(self, state: State, event: Event, ordinal: int) -> None:
        """Record what the event changed; `state` is as it is just after the event."""
        parts = self._parts
        parts.ordinal = ordinal
        if state.lost_events != parts.lost_events:
            self._record_loss(state, event, ordinal)
        if type(event) is SchedulerEvent:
            self._handlers.handle_scheduler(state, event, parts.time or 0.0, ordinal)
            if event.event_kind in LOOP_KINDS:
                parts.loop.handle(event, self._run, ordinal)
        elif type(event) is RequestEvent:
            self._handlers.handle_request(state, event, parts.time or 0.0, ordinal)

    def _record_loss(self, state: State, event: Event, ordinal: int) -> None:
        """Events were lost just before this one."""
        parts = self._parts
        parts.lost_events = state.lost_events
        stream = "scheduler" if isinstance(event, SchedulerEvent) else "request"
        while parts.gaps_seen < len(state.gaps):
            gap = state.gaps[parts.gaps_seen]
            parts.gaps_seen += 1
            stream = gap.stream
            detail = Unknown(
                stream=gap.stream,
                lost_events=gap.last_lost - gap.first_lost + 1,
                cause=gap.cause,
                missing=[f"{gap.stream} events {gap.first_lost} to {gap.last_lost}"],
            )
            evidence = [ordinal - 1, ordinal]
            parts.stalls.emit(Facts(detail), "", gap.from_time, gap.to_time, evidence)
        self._sync.apply(state, self._now, ordinal)
        self._sync.mark_unknown(stream, self._now)
        self._invalidate_all(state)

    def drain(self) -> tuple[list[BlameRow], list[VerdictRow]]:
        """Rows of bins and verdicts that became certain since the last drain."""
        parts = self._parts
        parts.loop.verdicts += parts.stalls.drain()
        return parts.blame.drain(), parts.loop.drain_verdicts()

    def open_verdicts(self, now: float) -> list[VerdictRow]:
        """Verdicts that are not certain yet, as if they ended at `now`; changes nothing."""
        parts = self._parts
        if parts.time is None:
            return []
        now = max(now, parts.time)
        packed = msgspec.msgpack.encode(parts.stalls)
        stalls = msgspec.msgpack.decode(packed, type=Stalls)
        stalls.end_all(now, parts.ordinal)
        for about, wakeup in parts.wakeups.open.items():
            if wakeup.facts is not None:
                stalls.emit(wakeup.facts, about, wakeup.since, now, wakeup.evidence)
        for about, leak in parts.index.leaks.open.items():
            stalls.emit(leak.facts(now), about, leak.since, now)
        standstills = parts.loop.standstills(now)
        rows = (trimmed(row, standstills) for row in (*parts.loop.verdicts, *stalls.closed))
        return [
            *(row for row in rows if row is not None),
            *parts.loop.open_verdicts(now),
            *parts.errors.open_verdicts(),
        ]

    def open_blame(self) -> list[BlameRow]:
        """Stretches of blame that may go on, and bins that are provisional."""
        parts = self._parts
        held = self._settlement.provisional_bins(parts.time or 0.0)
        return parts.blame.open_rows((bins.bin, bins.bins, bins.rows) for bins in held)

    def forget_written(self, end: int) -> None:
        """Drop what is known of closed bins before `end`, whose rows are written already."""
        parts = self._parts
        parts.blame.stretches.forget(end)
        parts.loop.held = [bins for bins in parts.loop.held if bins.bin >= end]

    def finish(
        self, state: State, time: float, going: bool = False, interrupted: bool = False
    ) -> tuple[list[BlameRow], list[VerdictRow]]:
        """Close everything at `time`; without an end of the run, what follows is unknown.

        Args:
            state: The state after the last event.
            time: Monotonic time of the run.
            going: The run was not over when it was read, or that is not known.
            interrupted: The run has gone on later: this is the end of a part of it.

        Returns:
            Rows and verdicts not yet drained.
        """
        parts = self._parts
        if parts.time is None:
            return self.drain()
        last = parts.time
        self._end_instant(state)
        if state.outcome is None and going:
            parts.stalls.end_all(last, parts.ordinal)
        elif state.outcome is None:
            parts.stalls.end_all(last, parts.ordinal)
            open_tasks = len(state.tasks)
            self._skip_unknown(state, max(time, last))
            detail = ProducerGone(open_tasks=open_tasks)
            parts.stalls.emit(Facts(detail), "", last, max(time, last), [parts.ordinal])
        else:
            if time > last:
                self._advance(state, time)
            self._recompute(state)
            parts.stalls.end_all(parts.time, parts.ordinal)
        self._end_wakeups()
        self._sync.emit_open_leaks(self._now)
        self._close_bin()
        self._settle(state)
        self._settlement.end_group()
        if interrupted:
            parts.stalls.closed += parts.errors.end_spells(state, parts.ordinal)
        else:
            start, records = self._run.monotonic_start, self._run.records
            parts.stalls.closed += parts.errors.end(state, records, start, self._now, parts.ordinal)
        parts.blame.end_stretches()
        return self.drain()

    def dump(self) -> bytes:
        """All that `load` needs to go on as if nothing had happened."""
        return msgspec.msgpack.encode(self._parts, enc_hook=dict)

    @classmethod
    def load(cls, run: RunInfo, data: bytes) -> Diagnosis:
        """Raises `ValueError` for data of another `DIAGNOSIS_VERSION` or none at all."""
        try:
            parts = msgspec.msgpack.decode(data, type=DiagnosisState)
        except msgspec.MsgspecError as error:
            raise ValueError("not a diagnosis") from error
        if parts.version != DIAGNOSIS_VERSION:
            raise ValueError(f"diagnosis version {parts.version}, not {DIAGNOSIS_VERSION}")
        parts.index.needs = {group: shared(needs) for group, needs in parts.index.needs.items()}
        diagnosis = cls(run)
        diagnosis._bind(run, parts)
        return diagnosis

    def _end_instant(self, state: State) -> None:
        """Bring everything up to date with the events of the current instant."""
        now, ordinal = self._now, self._parts.ordinal
        self._sync.apply(state, now, ordinal)
        self._recompute(state)
        self._attribution.check_wakeups(now, ordinal)
        self._schedule_timers()
        if self._parts.loop.is_due(now):
            self._settle(state)

    def _recompute(self, state: State) -> None:
        self._attribution.recompute(state, self._now, self._parts.ordinal)

    def _invalidate_all(self, state: State) -> None:
        self._parts.dirty.invalidate_all(self._parts.cells.tallies, state.ceilings)

    def _end_wakeups(self) -> None:
        self._attribution.end_all_wakeups(self._now, self._parts.ordinal)

    def _pass_unheard(self, state: State, now: float, ordinal: int) -> None:
        """Integrate over a time without events, and note whether it can be explained."""
        parts = self._parts
        begin = self._now
        index, cells = parts.index, parts.cells
        columns = cells.columns_of(LOCAL_CODE)
        late = sum(index.overdue.values()) + len(index.unsure)
        self._advance(state, now)
        if state.outcome is not None or not index.started:
            return
        slowed = late == 0 and sum(index.overdue.values()) + len(index.unsure) > 0
        if now - begin >= SILENCE_SECONDS or columns:
            parts.loop.add_silence(begin, now, ordinal, columns, bool(columns) or slowed)

    def _settle(self, state: State) -> None:
        """Nothing more will be told of the time up to now: take back what did not hold in it."""
        if self._settlement.settle(state, self._now, self._bin_end() - 1):
            self._recompute(state)
            self._schedule_timers()

    def _advance(self, state: State, until: float) -> None:
        """Integrate up to `until`, with a stop at each timer and each end of a bin."""
        parts = self._parts
        timers = parts.timers
        whole = False  # The open bin begins here and now.
        while True:
            stop = min(until, self._bin_end(), timers.next_at)
            parts.time = max(stop, parts.time or stop)
            quiet = whole
            while (timer := timers.pop_due(parts.time)) is not None:
                quiet = False
                timer.fire(self, state, parts.time)
            self._recompute(state)
            self._schedule_timers()
            whole = parts.time >= self._bin_end()
            if whole:
                self._close_bin()
                if quiet:
                    self._pass_quiet_bins(min(until, timers.next_at))
            if parts.time >= until:
                return

    def _pass_quiet_bins(self, until: float) -> None:
        """Close all bins that end before `until` at once.

        The last bin was quiet all through and nothing happens until then, so they are like it. A
        long silence costs nothing for each of its seconds.
        """
        parts = self._parts
        start = self._run.monotonic_start
        bins = bin_of(until - start) - parts.bin
        if bins > 0:
            now = start + parts.bin + bins
            quiet = parts.loop.held[-1].rows
            rows = [msgspec.structs.replace(row, bin=parts.bin, bins=bins) for row in quiet]
            parts.loop.held.append(HeldBins(parts.bin, bins, rows))
            parts.cells.leap(now)
            parts.capacity.leap(now)
            parts.bin += bins
            parts.time = now

    def _schedule_timers(self) -> None:
        if self._parts.stalls.timers:
            for timer in self._parts.stalls.drain_timers():
                self._parts.timers.schedule(timer)

    # Handlers of timers

    def end_cooldown(self, state: State, resource: str, now: float) -> None:
        parts = self._parts
        parts.dirty.invalidate_cooldown(parts.index, resource)
        self._recompute(state)
        blind = not parts.index.attempts_seen
        parts.stalls.cooled_down(resource, now, parts.ordinal, blind)
        parts.dirty.invalidate_resource(resource)
        parts.stalls.check_storm(resource, now)

    def check_storm(self, resource: str, now: float) -> None:
        self._parts.stalls.check_storm(resource, now)

    def check_stall_group(self, resource: str, now: float) -> None:
        self._parts.stalls.check_group(resource, now)

    def check_stall(self, state: State, resource: str, now: float) -> None:
        watch = self._parts.stalls.watch(resource)
        watch.stall_scheduled = False
        span = watch.span
        if span is None:
            return
        due = span.since + STALL_MIN_SECONDS
        if due > now:
            watch.stall_scheduled = True
            self._parts.timers.schedule(StallDue(due, resource))
        else:
            span.confirmed = True
            self._attribution.collect_evidence(state, resource, now)

    def mark_overdue_calls(self, state: State, resource: str, now: float) -> None:
        self._sync.mark_overdue_calls(state, resource, now, self._parts.ordinal)

    def check_leak(self, state: State, subject: str, now: float) -> None:
        self._sync.check_leak(state, subject, now, self._parts.ordinal)

    def _bin_end(self) -> float:
        return bin_end(self._run.monotonic_start, self._parts.bin)

    def _close_bin(self) -> None:
        """Give the rows of the open bin, which ends now, to the log and open the next one."""
        parts, now = self._parts, self._now
        capacity = parts.capacity.close_bin(parts.bin, now)
        rows = [*capacity, *parts.cells.close_bin(parts.bin, now)]
        parts.loop.held.append(HeldBins(parts.bin, 1, rows))
        parts.bin += 1

    def _skip_unknown(self, state: State, until: float) -> None:
        """Events were lost: nothing is proved from the last event to `until`."""
        parts = self._parts
        last = parts.time or 0.0
        parts.index.started = True
        self._end_wakeups()
        parts.cells.run_to(last)
        parts.capacity.run_to(last)
        parts.stalls.end_all(last, parts.ordinal)
        self._settle(state)
        if until - last > MAX_STEP_SECONDS:
            self._skip_uncounted(state, until)
            parts.time = until
            return
        self._cover(until, UNKNOWN)
        parts.loop.settle_covered(until)

    def _cover(self, until: float, verdict: str) -> None:
        """Assign all time up to `until` to one verdict."""
        parts = self._parts
        whole = False
        while parts.time is None or parts.time < until:
            stop = min(until, self._bin_end())
            parts.cells.cover(stop, verdict)
            parts.capacity.cover(stop, verdict)
            parts.time = stop
            quiet, whole = whole, stop >= self._bin_end()
            if whole:
                self._close_bin()
                if quiet:
                    self._pass_quiet_bins(until)

    def _skip_uncounted(self, state: State, now: float) -> None:
        """Close everything at the last event and go on at `now`; time between is not counted."""
        parts = self._parts
        last = parts.time or 0.0
        parts.stalls.end_all(last, parts.ordinal)
        self._close_bin()
        self._settle(state)
        parts.blame.end_stretches()
        parts.loop.since = now
        parts.time = now
        parts.bin = bin_of(now - self._run.monotonic_start)
        parts.cells.leap(now)
        parts.capacity.leap(now)
        self._invalidate_all(state)


def _follows_loss(state: State, event: Event, run: RunInfo) -> bool:
    """Events were lost just before this one."""
    if isinstance(event, SchedulerEvent):
        if event.event_kind == "recording_gap":
            return True
        stream, semantics = "scheduler", run.scheduler_sequence_semantics
    else:
        stream, semantics = "request", run.request_sequence_semantics
    last = state.last_sequence.get(stream)
    return semantics == "gapless" and last is not None and event.sequence > last + 1
