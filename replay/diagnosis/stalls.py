"""`Stalls`: which resource was blocked, from when to when, and what was to blame.

A *span* is a period in which a resource has demand and unused capacity and admits nothing; it is a
stall once it is longer than the resource's threshold. Stalls for one reason that follow each other
closely make a *stall group*, which is one verdict. The spans between the first 429 and the recovery
of admission belong to a *storm*, also one verdict; its cause is proved by the 429s, so it need only
be long enough to matter.

Timers that a stall needs are collected in `timers`, which `Diagnosis` drains into its queue.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from replay.diagnosis.rolling_stats import STALL_MIN_SECONDS, AdmissionRate, CallTimes
from replay.diagnosis.timers import StallGroupEnd, StormEnd, Timer
from replay.diagnosis.verdicts import (
    NO_STALL,
    Blame,
    Context,
    Facts,
    Holder,
    VerdictRow,
    kind_of,
    row_of,
)
from replay.diagnosis.verdicts.requests import ProviderLatency, RequestCooldown, RequestVerdict

STORM_GRACE_SECONDS = 1.0
SAME_COOLDOWN_SECONDS = 0.05
"""Snapshots give what is left of a cooldown; its end moves by their rounding."""

GROUP_GAP_SECONDS = 1.0
MAX_RECHECK_SECONDS = 60.0
EVIDENCE_KEPT = 12


class BlockedSpan(msgspec.Struct):
    since: float
    ordinal: int
    blame: Blame
    mark: float
    seconds_by_blame: dict[Blame, float] = {}
    facts: dict[Blame, Facts] = {}
    confirmed: bool = False

    def run_to(self, now: float) -> None:
        self.seconds_by_blame[self.blame] = (
            self.seconds_by_blame.get(self.blame, 0.0) + now - self.mark
        )
        self.mark = now


class Storm(msgspec.Struct):
    start: float
    last_at: float
    until: float
    evidence: list[int]
    """Of the beginning: the first 429, the first cut, the first call that waited."""
    late_evidence: dict[str, int] = {}
    """The last of each kind, and the recovery."""
    rate_limited: int = 0
    held: float = 0.0
    longest: float = 0.0
    seconds_by_blame: dict[Blame, float] = {}
    facts: Facts | None = None
    recovered_at: float | None = None
    success: bool = False
    """A call that got its lease after the last 429 has succeeded."""
    grace: float = STORM_GRACE_SECONDS
    cooldown: float = 0.0
    """The longest seen to be left, where snapshots are all that tells of it."""


class StallGroup(msgspec.Struct):
    """Stalls of one resource for one reason that follow each other closely: one verdict."""

    blame: Blame
    start: float
    end: float
    stalled: float
    seconds_by_blame: dict[Blame, float]
    facts: Facts
    due: float
    """From here on nothing can be added to it."""


class Slow(msgspec.Struct):
    """A period in which calls are overdue."""

    since: float
    started_at: float
    evidence: list[int]
    column: str
    p95: float
    calls: int


class Watch(msgspec.Struct):
    """What is tracked about one request resource ("" for the run as a whole)."""

    rate: AdmissionRate = msgspec.field(default_factory=AdmissionRate)
    times: CallTimes = msgspec.field(default_factory=CallTimes)
    span: BlockedSpan | None = None
    storm: Storm | None = None
    slow: Slow | None = None
    group: StallGroup | None = None
    stall_scheduled: bool = False
    """A timer will check whether the span is a stall."""
    overdue_scheduled: bool = False
    """A timer will check whether a call has become slow."""
    cooling_until: float | None = None
    cooldown_seen_at: float | None = None
    """When a snapshot last showed whether it cools down."""
    wait_ordinal: int | None = None
    """Of the last event in which a call began to wait while no other did."""


class Stalls(msgspec.Struct):
    watches: dict[str, Watch] = {}
    closed: list[VerdictRow] = []
    timers: list[Timer] = []
    """To be scheduled."""

    def watch(self, resource: str) -> Watch:
        watch = self.watches.get(resource)
        if watch is None:
            watch = self.watches[resource] = Watch()
        return watch

    def record_blocked(self, resource: str, blame: Blame | None, now: float, ordinal: int) -> Watch:
        """From `now` on `resource` is blocked because of `blame`; None: it is not blocked."""
        watch = self.watch(resource)
        span = watch.span
        if blame is None:
            if span is not None:
                self._close(resource, watch, now, ordinal)
        elif span is None:
            watch.span = BlockedSpan(now, ordinal, blame, now)
        elif span.blame != blame:
            span.run_to(now)
            span.blame = blame
        return watch

    def admitted(self, resource: str, now: float, ordinal: int) -> None:
        """A lease of `resource` was granted."""
        watch = self.watch(resource)
        storm = watch.storm
        if storm is not None and storm.recovered_at is None and now >= storm.until:
            self._recover(storm, now, ordinal)
            self.timers.append(StormEnd(now + storm.grace, resource))
        self._close(resource, watch, now, ordinal)
        watch.rate.admit(now, usual=storm is None)

    def rate_limited(self, resource: str, now: float, ordinal: int, until: float) -> None:
        watch = self.watch(resource)
        storm = watch.storm
        if storm is not None and self._is_over(watch, storm, now):
            self._end_storm(resource, watch, storm, now)
            storm = None
        if storm is None:
            self._close(resource, watch, now, ordinal)
            storm = watch.storm = Storm(now, now, until, [ordinal])
        storm.rate_limited += 1
        storm.last_at = now
        storm.until = max(storm.until, until)
        storm.grace = max(STORM_GRACE_SECONDS, until - now)
        storm.recovered_at = None
        storm.success = False
        storm.late_evidence["rate_limited"] = ordinal
        storm.late_evidence.pop("recovery", None)

    def cooldown_seen(
        self, resource: str, now: float, ordinal: int, until: float, before: float
    ) -> None:
        """A snapshot shows a cooldown, in a stream without events about the 429s themselves.

        Its 429 came after the snapshot at `before`; how long ago follows from the longest cooldown
        of the storm.
        """
        storm = self.watch(resource).storm
        if storm is None or until > storm.until + SAME_COOLDOWN_SECONDS:
            longest = until - now if storm is None else max(storm.cooldown, until - now)
            self.rate_limited(resource, now, ordinal, until)
            storm = self.watch(resource).storm
            if storm is not None:
                storm.rate_limited = 0
                storm.cooldown = longest
                storm.last_at = min(now, max(before, storm.start, until - longest))

    def limit_cut(self, resource: str, ordinal: int) -> None:
        storm = self.watch(resource).storm
        if storm is not None:
            if "cut" not in storm.late_evidence:
                storm.evidence.append(ordinal)
            storm.late_evidence["cut"] = ordinal

    def waiting_began(self, resource: str, ordinal: int) -> None:
        watch = self.watch(resource)
        watch.wait_ordinal = ordinal
        storm = watch.storm
        if storm is not None and "wait" not in storm.late_evidence:
            storm.late_evidence["wait"] = ordinal

    def succeeded(self, resource: str, acquired_at: float, now: float) -> None:
        watch = self.watch(resource)
        storm = watch.storm
        if storm is not None and acquired_at >= storm.last_at:
            storm.success = True
            if self._is_over(watch, storm, now):
                self._end_storm(resource, watch, storm, now)

    def cooled_down(self, resource: str, now: float, ordinal: int, blind: bool) -> None:
        """The cooldown is over. That ends the storm if no call waits to go, or none could be seen.

        With `blind` the stream has no events about single calls.
        """
        watch = self.watch(resource)
        storm, span = watch.storm, watch.span
        if storm is None or storm.recovered_at is not None or storm.until > now:
            return
        if span is None or span.blame[0] == "retry_backoff" or blind:
            self._recover(storm, now, ordinal)
            self._close(resource, watch, now, ordinal)

    def check_storm(self, resource: str, now: float) -> None:
        """End the storm if it is over."""
        watch = self.watch(resource)
        storm = watch.storm
        if storm is None or storm.recovered_at is None:
            return
        if self._is_over(watch, storm, now):
            self._end_storm(resource, watch, storm, now)
        else:
            due = storm.recovered_at + storm.grace
            due = due if due > now else now + _recheck_delay(storm.grace, now - due)
            self.timers.append(StormEnd(due, resource))

    def slow_calls(self, resource: str, number: int, slow: Slow | None, now: float) -> None:
        """`number` calls are overdue now; `slow` describes the stretch if it begins."""
        watch = self.watch(resource)
        if number > 0:
            if watch.slow is None:
                watch.slow = slow
            elif number > watch.slow.calls:
                watch.slow.calls = number
        elif watch.slow is not None:
            self._end_slow(resource, watch, watch.slow, now)

    def end_spans(self, now: float, ordinal: int) -> None:
        """End all spans: from `now` on what is blocked is so for another reason."""
        for resource, watch in self.watches.items():
            self._close(resource, watch, now, ordinal)

    def drain(self) -> list[VerdictRow]:
        """Verdicts closed since the last drain."""
        closed, self.closed = self.closed, []
        return closed

    def drain_timers(self) -> list[Timer]:
        timers, self.timers = self.timers, []
        return timers

    def end_all(self, now: float, ordinal: int) -> None:
        """Close everything that is open; nothing is known beyond `now`."""
        for resource, watch in self.watches.items():
            self._close(resource, watch, now, ordinal)
            self._end_group(watch)
            if watch.storm is not None:
                self._end_storm(resource, watch, watch.storm, now)
            if watch.slow is not None:
                self._end_slow(resource, watch, watch.slow, now)

    def emit(
        self,
        facts: Facts,
        about: str,
        start: float,
        end: float,
        evidence: Sequence[int] = (),
    ) -> None:
        """`about` is a resource, "" for the run; `evidence` comes beside that of the facts."""
        proof = [*facts.evidence, *evidence]
        self.closed.append(row_of(facts.detail, about, start, end, proof, facts.context))

    def _recover(self, storm: Storm, now: float, ordinal: int) -> None:
        storm.recovered_at = now
        storm.late_evidence["recovery"] = ordinal

    def _is_over(self, watch: Watch, storm: Storm, now: float) -> bool:
        return (
            storm.recovered_at is not None
            and now >= storm.recovered_at + storm.grace
            and (storm.success or watch.span is None)
        )

    def _close(self, resource: str, watch: Watch, now: float, ordinal: int) -> None:
        span = watch.span
        if span is None:
            return
        watch.span = None
        span.run_to(now)
        seconds = now - span.since
        storm = watch.storm
        if storm is not None and (storm.recovered_at is None or now <= storm.recovered_at):
            _absorb(storm, span, seconds)
            return
        if seconds <= watch.rate.threshold:
            return
        blame = max(span.seconds_by_blame, key=lambda loser: (span.seconds_by_blame[loser], loser))
        if blame[0] in NO_STALL:
            return
        facts = span.facts.get(blame) or Facts(kind_of(blame[0])())
        detail = facts.detail
        evidence = [span.ordinal, *facts.evidence, ordinal]
        if (
            isinstance(detail, RequestVerdict)
            and watch.wait_ordinal is not None
            and facts.context.longest_waiter is None
        ):
            evidence.append(watch.wait_ordinal)
        if resource and resource != blame[1]:
            detail = replace(detail, request_resource=resource)
        due = now + max(GROUP_GAP_SECONDS, watch.rate.threshold) if resource else now
        group = watch.group
        if group is not None and group.blame == blame and span.since <= group.due:
            group.end, group.due = now, due
            group.stalled += seconds
            group.facts.evidence = [*group.facts.evidence[:EVIDENCE_KEPT], ordinal]
            _add(group.seconds_by_blame, span.seconds_by_blame)
        else:
            self._end_group(watch)
            known = Facts(detail, facts.context, evidence)
            watch.group = StallGroup(
                blame, span.since, now, seconds, span.seconds_by_blame, known, due
            )
            self.timers.append(StallGroupEnd(due, resource))

    def check_group(self, resource: str, now: float) -> None:
        """End the group if nothing can be added to it any more."""
        watch = self.watch(resource)
        group = watch.group
        if group is None:
            return
        span = watch.span
        if now < group.due:
            self.timers.append(StallGroupEnd(group.due, resource))
        elif span is not None and span.blame == group.blame and span.since <= group.due:
            due = now + _recheck_delay(GROUP_GAP_SECONDS, now - group.due)
            self.timers.append(StallGroupEnd(due, resource))
        else:
            self._end_group(watch)

    def _end_group(self, watch: Watch) -> None:
        group, watch.group = watch.group, None
        if group is not None:
            facts = Facts(
                replace(group.facts.detail, stalled_seconds=group.stalled),
                replace(group.facts.context, also=_also(group.seconds_by_blame, group.blame)),
                group.facts.evidence,
            )
            self.emit(facts, group.blame[1], group.start, group.end)

    def _end_storm(self, resource: str, watch: Watch, storm: Storm, now: float) -> None:
        watch.storm = None
        if storm.longest <= STALL_MIN_SECONDS:
            return
        end = storm.recovered_at if storm.recovered_at is not None else now
        known = storm.facts or Facts(RequestCooldown())
        detail = replace(
            known.detail,
            rate_limited=storm.rate_limited,
            held_seconds=storm.held,
            limited_seconds=storm.last_at - storm.start,
        )
        also = _also(storm.seconds_by_blame, ("request_cooldown", resource))
        context = replace(known.context, also=also, expected_release=storm.until)
        evidence = [*storm.evidence, *known.evidence, *storm.late_evidence.values()]
        self.emit(Facts(detail, context, evidence), resource, storm.start, end)

    def _end_slow(self, resource: str, watch: Watch, slow: Slow, now: float) -> None:
        watch.slow = None
        if now - slow.since <= STALL_MIN_SECONDS:
            return
        age = now - slow.started_at
        facts = Facts(
            ProviderLatency(calls=slow.calls, p95=slow.p95, oldest_age=age),
            Context(holders=[Holder(slow.column, slow.calls, age)]),
            slow.evidence,
        )
        self.emit(facts, resource, slow.since, now)


def _recheck_delay(usual: float, overdue: float) -> float:
    """Seconds until the next check, of something that was due `overdue` seconds ago.

    The delay grows with the time in which no event changed anything, up to `MAX_RECHECK_SECONDS`,
    so that a long silence costs few checks.
    """
    return max(usual, min(overdue, MAX_RECHECK_SECONDS))


def _absorb(storm: Storm, span: BlockedSpan, seconds: float) -> None:
    storm.held += seconds
    storm.longest = max(storm.longest, seconds)
    _add(storm.seconds_by_blame, span.seconds_by_blame)
    if storm.facts is None:
        for blame, facts in span.facts.items():
            if blame[0] == "request_cooldown":
                storm.facts = facts


def _add(seconds_by_blame: dict[Blame, float], more: dict[Blame, float]) -> None:
    for blame, seconds in more.items():
        seconds_by_blame[blame] = seconds_by_blame.get(blame, 0.0) + seconds


def _also(seconds_by_blame: dict[Blame, float], winner: Blame) -> dict[str, float]:
    total = sum(seconds_by_blame.values())
    if total <= 0.0:
        return {}
    shares: dict[str, float] = {}
    for blame, seconds in seconds_by_blame.items():
        if blame != winner and seconds > 0.0:
            shares[blame[0]] = shares.get(blame[0], 0.0) + seconds / total
    return shares
