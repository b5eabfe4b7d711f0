"""`Stalls`: which resource was blocked, from when to when, and what was to blame.

A *span* is a period in which a resource has demand and unused capacity and admits nothing; it is a
stall once it is longer than the resource's threshold. Stalls for one reason that follow each other
closely make a *stall group*, which is one verdict. The spans between the first 429 and the recovery
of admission belong to a *storm*, also one verdict; its cause is proved by the 429s, so it need only
be long enough to matter.

Timers that a stall needs are collected in `timers`, which `Diagnosis` drains into its queue. What
becomes a verdict, and when, is one state machine for each resource, and stands in this module.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from replay.diagnosis.episodes import (
    STORM_GRACE_SECONDS,
    BlockedSpan,
    Slow,
    StallGroup,
    Storm,
    add_seconds,
    also_shares,
)
from replay.diagnosis.rolling_stats import (
    STALL_MIN_SECONDS,
    AdmissionRate,
    CallTimes,
    EarlyLevel,
)
from replay.diagnosis.timers import StallDue, StallGroupEnd, StormEnd, Timer
from replay.diagnosis.verdicts import (
    NO_STALL,
    Bare,
    Blame,
    Context,
    Facts,
    Holder,
    VerdictRow,
    row_of,
)
from replay.diagnosis.verdicts.cooldowns import CooldownVerdict
from replay.diagnosis.verdicts.requests import ProviderLatency, RequestVerdict

SAME_COOLDOWN_SECONDS = 0.05
"""Snapshots give what is left of a cooldown; its end moves by their rounding."""

GROUP_GAP_SECONDS = 1.0
MAX_RECHECK_SECONDS = 60.0
LEVEL_SECONDS = 2.0
"""A slow level at the begin that was shorter is told by nobody: connections have to be made."""
MOST_STOOD = 0.5
"""Part of such a level in which the event loop did not run, from which it is told by nobody."""
EXCLUDED_KEPT = 400
EVIDENCE_KEPT = 12


class Watch(msgspec.Struct):
    """What is tracked about one request resource ("" for the run as a whole)."""

    rate: AdmissionRate = msgspec.field(default_factory=AdmissionRate)
    times: dict[str, CallTimes] = {}
    """Of calls, by column."""
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
    """The open spans and stall groups of every resource. Groups that are over are in `closed`."""

    watches: dict[str, Watch] = {}
    excluded: list[tuple[float, float]] = []
    """The last times in which the event loop did not run."""
    closed: list[VerdictRow] = []
    timers: list[Timer] = []
    """To be scheduled."""

    def watch(self, resource: str) -> Watch:
        """What is known of a resource; made if it is new."""
        watch = self.watches.get(resource)
        if watch is None:
            watch = self.watches[resource] = Watch()
        return watch

    def times_of(self, resource: str, column: str) -> CallTimes:
        """How long calls of a column to a resource take."""
        times = self.watch(resource).times
        known = times.get(column)
        if known is None:
            known = times[column] = CallTimes()
        return known

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
            span.change(blame, now)
        return watch

    def admitted(self, resource: str, now: float, ordinal: int) -> None:
        """A lease of `resource` was granted."""
        watch = self.watch(resource)
        storm = watch.storm
        if storm is not None and storm.recovered_at is None and now >= storm.until:
            storm.recover(now, ordinal)
            self.timers.append(StormEnd(now + storm.grace, resource))
        self._close(resource, watch, now, ordinal)
        watch.rate.admit(now, usual=storm is None)

    def rate_limited(
        self, resource: str, now: float, ordinal: int, until: float, *, overload: bool = False
    ) -> None:
        """A call was refused because of load; `overload`: of the provider's, and not of a limit."""
        watch = self.watch(resource)
        storm = watch.storm
        if storm is not None and storm.is_over(now, watch.span is not None):
            self._end_storm(resource, watch, storm, now)
            storm = None
        if storm is None:
            self._close(resource, watch, now, ordinal)
            storm = watch.storm = Storm(now, now, until, [ordinal])
            if watch.slow is not None and watch.slow.of_tasks:
                watch.slow = None  # Its tasks may have waited for the cooldown.
        if overload:
            storm.overloaded += 1
        else:
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
        """A refusal lowered the limit of the resource."""
        storm = self.watch(resource).storm
        if storm is not None:
            if "cut" not in storm.late_evidence:
                storm.evidence.append(ordinal)
            storm.late_evidence["cut"] = ordinal

    def waiting_began(self, resource: str, ordinal: int) -> None:
        """A call waits where none did."""
        watch = self.watch(resource)
        watch.wait_ordinal = ordinal
        storm = watch.storm
        if storm is not None and "wait" not in storm.late_evidence:
            storm.late_evidence["wait"] = ordinal

    def succeeded(self, resource: str, acquired_at: float, now: float) -> None:
        """A call succeeded that has had its lease since `acquired_at`."""
        watch = self.watch(resource)
        storm = watch.storm
        if storm is not None and acquired_at >= storm.last_at:
            storm.success = True
            if storm.is_over(now, watch.span is not None):
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
            storm.recover(now, ordinal)
            self._close(resource, watch, now, ordinal)

    def check_storm(self, resource: str, now: float) -> None:
        """End the storm if it is over."""
        watch = self.watch(resource)
        storm = watch.storm
        if storm is None or storm.recovered_at is None:
            return
        if storm.is_over(now, watch.span is not None):
            self._end_storm(resource, watch, storm, now)
        else:
            due = storm.recovered_at + storm.grace
            due = due if due > now else now + _recheck_delay(storm.grace, now - due)
            self.timers.append(StormEnd(due, resource))

    def slow_calls(self, resource: str, number: int) -> None:
        """`number` calls are overdue now."""
        slow = self.watch(resource).slow
        if slow is not None:
            slow.quiet_since = None
            slow.at_once = max(slow.at_once, number)

    def no_slow_calls(self, resource: str, now: float) -> None:
        """No call is overdue any more; more may follow."""
        slow = self.watch(resource).slow
        if slow is not None and slow.quiet_since is None:
            slow.quiet_since = now

    def slow_call_ended(self, resource: str, seconds: float) -> None:
        """A call came back that took longer than usual."""
        slow = self.watch(resource).slow
        if slow is not None:
            slow.add(seconds)

    def usual_call_ended(self, resource: str, started_at: float, now: float) -> None:
        """A call came back in the usual time."""
        watch = self.watch(resource)
        slow = watch.slow
        if slow is not None and slow.is_over(started_at, now):
            self._end_slow(resource, watch, slow, now)

    def was_slow(self, resource: str, column: str, level: EarlyLevel, ordinal: int) -> None:
        """Calls were slow from the first one on, as those show that came after."""
        seconds = level.end - level.start
        if self.watch(resource).slow is not None or seconds < LEVEL_SECONDS:
            return
        stood = sum(
            max(0.0, min(end, level.end) - max(begin, level.start)) for begin, end in self.excluded
        )
        if stood > MOST_STOOD * seconds:
            return  # What its calls took may have been that, told in part when they came back.
        detail = ProviderLatency(
            calls=level.calls,
            p95=level.most,
            usual=level.usual,
            oldest_age=level.longest,
            median=level.median,
            by_later=True,
        )
        context = Context(holders=[Holder(column, level.calls, level.longest)])
        facts = Facts(detail, context, [ordinal])
        self.emit(facts, resource, level.start, level.end)

    def usual_task_ended(self, resource: str, column: str) -> None:
        """A task took its usual time: where others are slow, the producer's process is not."""
        for other, watch in self.watches.items():
            slow = watch.slow
            if slow is not None and (other != resource or slow.column != column):
                slow.others += 1

    def exclude(self, begin: float, end: float, ordinal: int) -> None:
        """The event loop did not run from `begin` to `end`: nothing was blocked or slow by itself.

        A stall that was under way goes on after it, as another one.
        """
        self.excluded = [*self.excluded[1 - EXCLUDED_KEPT :], (begin, end)]
        for resource, watch in self.watches.items():
            span = watch.span
            if span is not None and span.since < end and watch.storm is None:
                if span.since < begin - watch.rate.threshold:
                    self._record(resource, watch, span, begin, ordinal)
                watch.span = span.rest_from(end)
                watch.stall_scheduled = True
                self.timers.append(StallDue(end + STALL_MIN_SECONDS, resource))
            slow = watch.slow
            if slow is not None and slow.since < end and slow.overdue_at >= begin:
                watch.slow = None  # No call was slow before.
            elif slow is not None:
                slow.exclude(begin, end)

    def settle(self, now: float) -> None:
        """Nothing before `now` will be taken back."""
        for watch in self.watches.values():
            if watch.span is not None:
                watch.span.settle(now)

    def drain(self) -> list[VerdictRow]:
        """Verdicts closed since the last drain."""
        closed, self.closed = self.closed, []
        return closed

    def drain_timers(self) -> list[Timer]:
        """Timers to schedule; each is returned once."""
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

    def _close(self, resource: str, watch: Watch, now: float, ordinal: int) -> None:
        span = watch.span
        if span is None:
            return
        watch.span = None
        seconds = now - span.since
        storm = watch.storm
        if storm is not None and (storm.recovered_at is None or now <= storm.recovered_at):
            storm.absorb(span.totals(now), span.facts, seconds)
            return
        if seconds > watch.rate.threshold:
            self._record(resource, watch, span, now, ordinal)

    def _record(
        self, resource: str, watch: Watch, span: BlockedSpan, end: float, ordinal: int
    ) -> None:
        """The span was long enough to be a stall, which ended at `end`."""
        losers = span.totals(end)
        blame = max(losers, key=lambda loser: (losers[loser], loser))
        if blame[0] in NO_STALL:
            return
        facts = span.facts.get(blame) or Facts(Bare(name=blame[0]))
        detail = facts.detail
        evidence = [span.ordinal, *facts.evidence, ordinal]
        if (
            isinstance(detail, RequestVerdict)
            and watch.wait_ordinal is not None
            and facts.context.longest_waiter is None
        ):
            evidence.append(watch.wait_ordinal)
        if isinstance(detail, CooldownVerdict):
            detail = replace(detail, held_seconds=end - span.since)
        if resource and resource != blame[1]:
            detail = replace(detail, request_resource=resource)
        due = end + max(GROUP_GAP_SECONDS, watch.rate.threshold) if resource else end
        group = watch.group
        if group is not None and group.blame == blame and span.since <= group.due:
            group.end, group.due = end, due
            group.stalled += end - span.since
            group.facts.evidence = [*group.facts.evidence[:EVIDENCE_KEPT], ordinal]
            if isinstance(group.facts.detail, Bare):
                group.facts.detail = detail
            add_seconds(group.seconds_by_blame, losers)
        else:
            self._end_group(watch)
            known = Facts(detail, facts.context, evidence)
            watch.group = StallGroup(
                blame, span.since, end, end - span.since, dict(losers), known, due
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
                replace(group.facts.context, also=also_shares(group.seconds_by_blame, group.blame)),
                group.facts.evidence,
            )
            self.emit(facts, group.blame[1], group.start, group.end)

    def _end_storm(self, resource: str, watch: Watch, storm: Storm, now: float) -> None:
        watch.storm = None
        facts = storm.facts_at_end(resource)
        if facts is not None:
            end = storm.recovered_at if storm.recovered_at is not None else now
            self.emit(facts, resource, storm.start, end)

    def _end_slow(self, resource: str, watch: Watch, slow: Slow, now: float) -> None:
        watch.slow = None
        end = now if slow.quiet_since is None else slow.quiet_since
        facts = slow.facts(end)
        if facts is not None and end - slow.since > STALL_MIN_SECONDS:
            self.emit(facts, resource, slow.since, end)


def _recheck_delay(usual: float, overdue: float) -> float:
    """Seconds until the next check, of something that was due `overdue` seconds ago.

    The delay grows with the time in which no event changed anything, up to `MAX_RECHECK_SECONDS`,
    so that a long silence costs few checks.
    """
    return max(usual, min(overdue, MAX_RECHECK_SECONDS))
