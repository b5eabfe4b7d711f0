"""`LoopStalls`: when the producer's event loop is known to have run, and when it had not.

A heartbeat covers the time since the one before it. Until it comes, the results for that interval
are provisional; when it comes, the intervals in which the loop did not run (the
*standstills*) are taken back from whatever they were counted under.

Where standstills come from:

- A producer with a watchdog tells of them itself (`loop_blocked`, `process_paused`).
- One with a heartbeat alone: a late beat shows that the loop did not run from when it was due.
  Silences beside a late beat are unknown: what held up the beat may have held up them as well.
- One without either: a silence is unknown in which code of the run was at work outside any
  provider, or in which calls became slow that were not before. The loop may have been held up, and
  nothing in the stream could tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from engine.events import RunInfo, SchedulerEvent
from replay.diagnosis.reattribution import HeldBins, Interval
from replay.diagnosis.verdicts import AnyVerdict, Context, VerdictRow, row_of
from replay.diagnosis.verdicts.broken import NO_HEARTBEAT, Unknown
from replay.diagnosis.verdicts.loop import (
    EventLoopLag,
    ProcessStopped,
    StandstillVerdict,
    custom_columns,
    frames_of,
    is_starved,
)
from replay.state.payload import number, text

HEARTBEAT = "scheduler_loop_heartbeat"
KINDS = frozenset({HEARTBEAT, "loop_blocked", "process_paused"})
"""Events that tell of the loop."""
LATE_SECONDS = 0.1
"""Delay of a heartbeat from which the loop did not run in it."""
SILENCE_SECONDS = 0.15
"""Time without an event from which it needs an explanation."""
UNKNOWN_SILENCE_SECONDS = 0.02
"""Time without an event that is unknown while code of the run is at work outside any provider."""
HEARTBEAT_TIMEOUT_SECONDS = 2.5
"""Time with events and without a heartbeat after which no more are waited for."""
WATCHDOG_TIMEOUT_SECONDS = 60.0
"""The same where there were heartbeats of a watchdog before."""
PROMPT_LATENESS_SECONDS = 0.2
"""Lateness of all beats since the last heartbeat up to which a loop counts as prompt."""
UNTOLD_LATENESS_SECONDS = 2 * LATE_SECONDS
"""A call waits for the loop to be sent and to be read: each time for less than what is told of."""
STANDSTILL_MIN_SECONDS = 0.5
"""Standstills that follow each other closely have a verdict from this sum on."""
SAME_STANDSTILL_SECONDS = 1.0
"""Standstills no further apart than this are one verdict."""
_MAX_INTERVALS = 100


class Standstill(msgspec.Struct):
    """An interval in which the loop did not run, or in which that is unknown."""

    start: float
    end: float
    detail: AnyVerdict
    ordinal: int
    ongoing: bool = False
    """It still goes on: a later event reports its end."""

    @property
    def verdict(self) -> str:
        return str(type(self.detail).__struct_config__.tag)


class Silence(msgspec.Struct):
    """Nothing came at all."""

    start: float
    end: float
    ordinal: int
    columns: list[str]
    """Columns whose own code was at work when it began."""
    in_doubt: bool
    """Tasks were at work outside any provider when it began, or calls became slow in it and none
    was before."""


class StandstillGroup(msgspec.Struct):
    """Standstills of one kind that follow each other closely: one verdict."""

    verdict: str
    start: float
    end: float
    seconds: float
    detail: AnyVerdict
    evidence: list[int]
    intervals: list[Interval]


class LoopStalls(msgspec.Struct):
    """What heartbeats and the watchdog have told, and what is still provisional."""

    since: float | None = None
    """The loop is known to have run, or not to have, up to here; None before the first event."""
    foreign: bool = False
    """The producer is not ours, whose engine always has a heartbeat."""
    beats: int = 0
    """Heartbeats seen."""
    watched: bool = False
    """The producer has a watchdog, which tells of standstills."""
    late_before: bool = False
    """The last heartbeat was late."""
    lateness: float = 0.0
    """Seconds by which an answer may have been read late without a standstill that tells of it."""
    doubtful: bool = False
    """The heartbeat that closes the time since `since`, or the one before it, was late."""
    beat_at: float | None = None
    """A heartbeat of the current instant: it closes the time since the one before."""
    reported: list[Standstill] = msgspec.field(name="told", default_factory=list)
    """Since `since`, by the producer or by a late beat."""
    silences: list[Silence] = []
    held: list[HeldBins] = []
    """Bins that were closed after `since`: not final yet."""
    renames: int = 0
    """How often blame that was pending had its name until now."""
    verdicts: list[VerdictRow] = []
    """Verdicts that end since then, which may yet be taken back."""
    group: StandstillGroup | None = None

    def handle(self, event: SchedulerEvent, run: RunInfo, ordinal: int) -> None:
        """A heartbeat, or a word of the watchdog."""
        if event.event_kind == HEARTBEAT:
            self._beat(event, run, ordinal)
        else:
            self._stood_still(event, run, ordinal)

    def _beat(self, event: SchedulerEvent, run: RunInfo, ordinal: int) -> None:
        now = event.captured_at_monotonic
        self.beats += 1
        self.beat_at = now
        self.watched = "watch" in event.diagnostics
        if self.watched:
            late = number(event.diagnostics.get("late_seconds")) or 0.0
            waited = number(event.diagnostics.get("core_wait")) or 0.0
            prompt = max(late, waited) <= PROMPT_LATENESS_SECONDS
            self.lateness = late if prompt else UNTOLD_LATENESS_SECONDS
            self.late_before = not prompt or bool(self.reported)
            return
        drift = number(event.diagnostics.get("drift")) or 0.0
        is_late = drift >= LATE_SECONDS
        self.lateness = min(drift, LATE_SECONDS)
        if is_late:
            detail = EventLoopLag(custom_columns=custom_columns(run))
            self.reported.append(Standstill(now - drift, now, detail, ordinal))
        self.doubtful = is_late or self.late_before
        if is_late:
            for silence in self.silences:
                silence.in_doubt = silence.in_doubt or silence.end >= now - drift
        self.late_before = is_late

    def _stood_still(self, event: SchedulerEvent, run: RunInfo, ordinal: int) -> None:
        facts = event.diagnostics
        begin, end = number(facts.get("from")), number(facts.get("to"))
        if begin is None or end is None or end <= begin:
            return
        self.watched = True
        reason = text(event.reason_or_result) or ""
        detail: AnyVerdict
        starved = is_starved(facts, reason, end - begin)
        if starved or event.event_kind == "process_paused":
            detail = ProcessStopped(
                reason="starved" if starved else reason,
                core_wait=number(facts.get("core_wait")),
                suspended_seconds=number(facts.get("suspended_seconds")),
            )
        else:
            detail = EventLoopLag(
                custom_columns=custom_columns(run), reason=reason, frames=frames_of(facts)
            )
        known = [other for other in self.reported if abs(other.start - begin) > 1e-9]
        ongoing = facts.get("ongoing") is True
        self.reported = [*known, Standstill(begin, end, detail, ordinal, ongoing)]

    def standstills(self, until: float) -> list[Standstill]:
        """Disjoint and in order, from `since` to `until`.

        A pause of the process hides a block of its loop, and either hides a silence.
        """
        begin = -math.inf if self.since is None else self.since
        ranked = sorted(
            self.reported, key=lambda standstill: not isinstance(standstill.detail, ProcessStopped)
        )
        if not self.watched and (self.doubtful or (self.foreign and not self.beats)):
            ranked += [
                Standstill(silence.start, silence.end, _unheard(silence), silence.ordinal)
                for silence in self.silences
                if silence.in_doubt
            ]
        parts: list[Standstill] = []
        for standstill in ranked:
            free = [(max(standstill.start, begin), min(standstill.end, until))]
            for other in parts:
                free = [piece for span in free for piece in _without(span, other.start, other.end)]
            parts += [
                msgspec.structs.replace(standstill, start=low, end=high)
                for low, high in free
                if high - low > 1e-6
            ]
        return sorted(parts, key=lambda standstill: standstill.start)

    def add_silence(
        self, begin: float, end: float, ordinal: int, columns: list[str], in_doubt: bool
    ) -> None:
        """Nothing came from `begin` to `end`, and no watchdog tells of it."""
        self.silences.append(Silence(begin, end, ordinal, columns, in_doubt))

    def rename(self, old: str, new: str, about: str) -> None:
        """Blame of held bins that was pending for `about` ("" for all) belongs to `new`."""
        self.renames += 1
        for entry in self.held:
            entry.rename(old, new, about)

    def is_due(self, now: float) -> bool:
        """What has come by `now` is all that will ever be told of the time since `since`."""
        if self.since is None:
            return False
        if self.beat_at is not None:
            return not any(standstill.ongoing for standstill in self.reported)
        elapsed = now - self.since
        if self.watched:
            return elapsed > WATCHDOG_TIMEOUT_SECONDS and not self.reported
        silent = sum(silence.end - silence.start for silence in self.silences)
        return elapsed - silent > HEARTBEAT_TIMEOUT_SECONDS and not self.reported

    @property
    def proves_running(self) -> bool:
        """The heartbeat that closes the time since `since` shows that the loop ran in it."""
        return self.beat_at is not None and self.beats > 1 and not self.late_before

    def settle(self, until: float) -> None:
        """The time up to `until` is settled, and its bins were given out."""
        self.since = until
        self.beat_at = None
        self.doubtful = False
        self.reported = [standstill for standstill in self.reported if standstill.end > until]
        self.silences = []
        self.held = []

    def settle_covered(self, until: float) -> None:
        """Events were lost up to `until`: that time is not reattributed."""
        self.since = until
        self.reported = []
        self.silences = []

    def drain_verdicts(self) -> list[VerdictRow]:
        """Verdicts that cannot be taken back any more, in the order in which they came."""
        settled = math.inf if self.since is None else self.since
        certain = 0
        for row in self.verdicts:
            if row.end > settled and row.detail.needs_live_loop:
                break
            certain += 1
        drained, self.verdicts = self.verdicts[:certain], self.verdicts[certain:]
        return drained

    def add_to_group(self, standstill: Standstill) -> VerdictRow | None:
        """Returns the verdict of the group that ends with this, if it is long enough for one."""
        ended = None
        group = self.group
        if group is not None and (
            group.verdict != standstill.verdict
            or standstill.start - group.end > SAME_STANDSTILL_SECONDS
        ):
            ended = self.end_group()
            group = None
        seconds = standstill.end - standstill.start
        if group is None:
            self.group = StandstillGroup(
                standstill.verdict,
                standstill.start,
                standstill.end,
                seconds,
                standstill.detail,
                [standstill.ordinal],
                [(standstill.start, standstill.end)],
            )
            return ended
        group.end = standstill.end
        group.seconds += seconds
        if isinstance(group.detail, StandstillVerdict | Unknown):
            group.detail = group.detail.joined(standstill.detail)
        if len(group.intervals) < _MAX_INTERVALS:
            group.intervals.append((standstill.start, standstill.end))
            group.evidence.append(standstill.ordinal)
        return ended

    def end_group(self) -> VerdictRow | None:
        """The row of the open group of standstills, which is over; None for none."""
        group, self.group = self.group, None
        return None if group is None else _row(group)

    def end_stale_group(self, now: float) -> VerdictRow | None:
        """The verdict of the group, once nothing can be added to it any more."""
        if self.group is None or now - self.group.end <= SAME_STANDSTILL_SECONDS:
            return None
        return self.end_group()

    def open_verdicts(self, until: float) -> list[VerdictRow]:
        """Of the standstills that are told of and not settled yet, and of the open group."""
        copy = msgspec.structs.replace(
            self, group=msgspec.structs.replace(self.group) if self.group is not None else None
        )
        if copy.group is not None:
            copy.group.intervals = list(copy.group.intervals)
            copy.group.evidence = list(copy.group.evidence)
        rows = [copy.add_to_group(standstill) for standstill in copy.standstills(until)]
        rows.append(copy.end_group())
        return [row for row in rows if row is not None]


def trimmed(row: VerdictRow, standstills: Iterable[Standstill]) -> VerdictRow | None:
    """What is left of a verdict that holds only while the loop runs; None where that is too little.

    The longest part counts, if it makes out half of the verdict.
    """
    if not row.detail.needs_live_loop:
        return row
    spans = [(row.start, row.end)]
    lost = 0.0
    for standstill in standstills:
        lost += max(0.0, min(standstill.end, row.end) - max(standstill.start, row.start))
        spans = [
            piece for span in spans for piece in _without(span, standstill.start, standstill.end)
        ]
    if lost <= 0.0:
        return row
    start, end = max(spans, key=lambda span: span[1] - span[0], default=(row.start, row.start))
    if end - start < max(STANDSTILL_MIN_SECONDS / 2, (row.end - row.start) / 2):
        return None
    detail = row.detail.without_time(lost)
    return (
        None
        if detail is None
        else msgspec.structs.replace(row, start=start, end=end, detail=detail)
    )


def _row(group: StandstillGroup) -> VerdictRow | None:
    if group.seconds < STANDSTILL_MIN_SECONDS:
        return None
    detail = msgspec.structs.replace(group.detail, stalled_seconds=group.seconds)
    if isinstance(detail, StandstillVerdict | Unknown):
        detail.intervals = [list(interval) for interval in group.intervals]
    return row_of(detail, "", group.start, group.end, group.evidence, Context())


def _unheard(silence: Silence) -> Unknown:
    return Unknown(cause=NO_HEARTBEAT, columns=list(silence.columns))


def _without(span: Interval, begin: float, end: float) -> list[Interval]:
    """What of a span lies outside `begin` to `end`."""
    low, high = span
    if end <= low or begin >= high:
        return [span]
    return [piece for piece in ((low, begin), (end, high)) if piece[1] - piece[0] > 0.0]
