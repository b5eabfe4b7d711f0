"""Episodes of one request resource: blocked spans and their stall groups, storms of 429s, and times
in which its calls are slow."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from replay.diagnosis.rolling_stats import (
    LEVEL_FACTOR,
    LEVEL_NEEDED,
    SLOW_FACTOR,
    STALL_MIN_SECONDS,
)
from replay.diagnosis.verdicts import Blame, Context, Facts, Holder
from replay.diagnosis.verdicts.base import name_of
from replay.diagnosis.verdicts.cooldowns import (
    CooldownVerdict,
    RequestCooldown,
    RequestOutage,
    RequestOverload,
)
from replay.diagnosis.verdicts.requests import (
    ProviderLatency,
    SlowTasks,
)

STORM_GRACE_SECONDS = 1.0
MOST_OF_STORM = 0.5
"""Share of a storm in which its resource was out, from which it is told as an outage."""
SLOW_GAP_SECONDS = 2.0
"""Slow calls no further apart than this are one episode, whatever came back between them."""
OTHERS_NEEDED = 5
"""Tasks of other columns that took their usual time meanwhile: the producer's own process ran."""
_SAMPLES_KEPT = 256


class BlockedSpan(msgspec.Struct):
    """A period in which a resource admits nothing, with its time by blame."""

    since: float
    ordinal: int
    blame: Blame
    mark: float
    """Up to here `seconds_by_blame` is summed up."""
    seconds_by_blame: dict[Blame, float] = {}
    changes: list[tuple[float, Blame]] = []
    """Each change of blame since `mark`, with the blame until then."""
    facts: dict[Blame, Facts] = {}
    confirmed: bool = False
    """Long enough for a stall, so that its facts are collected."""

    def change(self, blame: Blame, now: float) -> None:
        """Another blame from `now` on."""
        self.changes.append((now, self.blame))
        self.blame = blame

    def totals(self, end: float) -> dict[Blame, float]:
        """Seconds by blame up to `end`."""
        seconds = dict(self.seconds_by_blame)
        begin = self.mark
        for at, blame in (*self.changes, (end, self.blame)):
            elapsed = min(at, end) - begin
            if elapsed > 0.0:
                seconds[blame] = seconds.get(blame, 0.0) + elapsed
                begin = at
        return seconds or {self.blame: max(0.0, end - self.since)}

    def settle(self, now: float) -> None:
        """Nothing before `now` will be taken back."""
        self.seconds_by_blame = self.totals(now)
        self.mark = max(self.mark, now)
        self.changes = []

    def rest_from(self, begin: float) -> BlockedSpan:
        """The span as if it had begun at `begin`."""
        changes = [change for change in self.changes if change[0] > begin]
        return BlockedSpan(begin, self.ordinal, self.blame, begin, {}, changes, self.facts)


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


class Storm(msgspec.Struct):
    """Refusals of one resource that follow each other, from the first 429 to the recovery."""

    start: float
    last_at: float
    until: float
    evidence: list[int]
    """Of the beginning: the first 429, the first cut, the first call that waited."""
    late_evidence: dict[str, int] = {}
    """The last of each kind, and the recovery."""
    rate_limited: int = 0
    overloaded: int = 0
    """Refusals because the provider is overloaded, and not because of a limit."""
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
    outage: Facts | None = None
    """Of the last stall in it in which the resource was out."""

    def recover(self, now: float, ordinal: int) -> None:
        """The resource admits calls again."""
        self.recovered_at = now
        self.late_evidence["recovery"] = ordinal

    def is_over(self, now: float, blocked: bool) -> bool:
        """`blocked`: calls wait that could not go yet."""
        return (
            self.recovered_at is not None
            and now >= self.recovered_at + self.grace
            and (self.success or not blocked)
        )

    def absorb(
        self, seconds_by_blame: dict[Blame, float], facts: dict[Blame, Facts], seconds: float
    ) -> None:
        """Count a stall that was part of it."""
        self.held += seconds
        self.longest = max(self.longest, seconds)
        add_seconds(self.seconds_by_blame, seconds_by_blame)
        for known in facts.values():
            if isinstance(known.detail, RequestOutage):
                self.outage = known
            elif isinstance(known.detail, CooldownVerdict) and self.facts is None:
                self.facts = known

    def facts_at_end(self, resource: str) -> Facts | None:
        """None where it held up too little to matter."""
        if self.longest <= STALL_MIN_SECONDS:
            return None
        if self.outage is not None:
            out = self.seconds_by_blame.get((name_of(RequestOutage), resource), 0.0)
            if out > MOST_OF_STORM * sum(self.seconds_by_blame.values()):
                return self._as_outage(self.outage, resource, out)
        known = self.facts
        detail: CooldownVerdict
        if self.overloaded > self.rate_limited:
            detail = RequestOverload(overloaded=self.overloaded, held_seconds=self.held)
        else:
            detail = RequestCooldown(rate_limited=self.rate_limited, held_seconds=self.held)
        detail.limited_seconds = self.last_at - self.start
        detail.unanswered = not self.success
        context, evidence = Context(), []
        if known is not None:
            context, evidence = known.context, known.evidence
            if isinstance(known.detail, CooldownVerdict):
                detail.limit = known.detail.limit
                detail.effective_max = known.detail.effective_max
            detail.missing = known.detail.missing
        also = also_shares(self.seconds_by_blame, (name_of(type(detail)), resource))
        context = replace(context, also=also, expected_release=self.until)
        return Facts(detail, context, [*self.evidence, *evidence, *self.late_evidence.values()])

    def _as_outage(self, outage: Facts, resource: str, seconds: float) -> Facts:
        """The refusals were the begin of an outage, which took most of the time."""
        assert isinstance(outage.detail, RequestOutage)
        detail = replace(outage.detail, out_seconds=seconds)
        also = also_shares(self.seconds_by_blame, (name_of(RequestOutage), resource))
        evidence = [*self.evidence, *outage.evidence, *self.late_evidence.values()]
        return Facts(detail, replace(outage.context, also=also), evidence)


class Slow(msgspec.Struct):
    """A time in which calls of a resource are slower than usual."""

    since: float
    """Begin of the first slow call."""
    column: str
    p95: float
    usual: float
    """Median of earlier calls."""
    evidence: list[int]
    calls: int = 0
    """Slow calls that have completed."""
    at_once: int = 1
    longest: float = 0.0
    times: list[float] = []
    """Of those that came back, the first so many."""
    quiet_since: float | None = None
    """No call is overdue since then; None while one is."""
    excluded: float = 0.0
    """Time in it in which the event loop did not run."""
    of_tasks: bool = False
    """Tasks were slow; no event tells of their calls."""
    raised: bool = False
    """Nearly all calls were unusual when it was noticed."""
    others: int = 0
    """Tasks of other columns that took their usual time meanwhile."""

    @property
    def overdue_at(self) -> float:
        """When its first call became slow."""
        return self.since + SLOW_FACTOR * self.p95

    def exclude(self, begin: float, end: float) -> None:
        """The event loop did not run from `begin` to `end`: no call took longer for that."""
        last = end if self.quiet_since is None else min(end, self.quiet_since)
        overlap = last - max(begin, self.since)
        if overlap > 0.0:
            self.excluded += overlap
            self.longest = max(0.0, self.longest - overlap)

    def add(self, seconds: float) -> None:
        """A slow call has taken so many seconds."""
        self.calls += 1
        self.longest = max(self.longest, seconds)
        if len(self.times) < _SAMPLES_KEPT:
            self.times.append(seconds)

    def is_over(self, started_at: float, now: float) -> bool:
        """A call that began at `started_at` has come back in the usual time."""
        quiet = self.quiet_since
        return quiet is not None and started_at >= self.since and now - quiet > SLOW_GAP_SECONDS

    def facts(self, end: float) -> Facts | None:
        """None where none was slow after all, or it cannot be told from a slow process."""
        oldest = self.longest
        if self.quiet_since is None:
            oldest = max(oldest, end - self.since - self.excluded)
        calls = max(self.calls, self.at_once)
        times = sorted(self.times)
        median = times[len(times) // 2] if times else None
        raised = self.raised or len(times) >= LEVEL_NEEDED
        raised = raised and (median or 0.0) > LEVEL_FACTOR * self.usual
        if oldest <= SLOW_FACTOR * self.p95 and not raised:
            return None
        if self.of_tasks and self.others < OTHERS_NEEDED:
            return None
        context = Context(holders=[Holder(self.column, self.at_once, oldest)])
        if self.of_tasks:
            tasks = SlowTasks(
                column=self.column,
                tasks=calls,
                others=self.others,
                p95=self.p95,
                usual=self.usual,
                oldest_age=oldest,
                median=median,
            )
            return Facts(tasks, context, list(self.evidence))
        detail = ProviderLatency(
            calls=calls,
            at_once=self.at_once,
            p95=self.p95,
            usual=self.usual,
            oldest_age=oldest,
            median=median,
        )
        return Facts(detail, context, list(self.evidence))


def add_seconds(seconds_by_blame: dict[Blame, float], more: dict[Blame, float]) -> None:
    """Adds `more` to `seconds_by_blame`, in place."""
    for blame, seconds in more.items():
        seconds_by_blame[blame] = seconds_by_blame.get(blame, 0.0) + seconds


def also_shares(seconds_by_blame: dict[Blame, float], winner: Blame) -> dict[str, float]:
    """Share of the whole time, from 0 to 1, of each verdict other than the winner's."""
    total = sum(seconds_by_blame.values())
    if total <= 0.0:
        return {}
    shares: dict[str, float] = {}
    for blame, seconds in seconds_by_blame.items():
        if blame != winner and seconds > 0.0:
            shares[blame[0]] = shares.get(blame[0], 0.0) + seconds / total
    return shares
