"""What `headgate verify` holds a recording to, and the book it writes its results into."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

EXAMPLES_KEPT = 5
KINDS_KEPT = 200
"""Different things found, by rule; more of them are counted, not listed."""
DOUBTED_AT_MOST = 10_000

Severity = Literal["finding", "note"]
Status = Literal["ok", "found", "noted", "not_checked"]


class Rule(msgspec.Struct, frozen=True):
    name: str
    statement: str
    producer_specific: bool = False
    """A promise of headgate's engine that other producers never made: a deviation is a note."""


RULES: tuple[Rule, ...] = (
    Rule("sequence", "The numbers of each stream run on without a gap or a repetition"),
    Rule("time", "Time never goes back"),
    Rule("vocabulary", "Every event is of a known kind and can be used"),
    Rule("run_bounds", "The run begins once and ends once, and nothing follows its end"),
    Rule("task_leases", "Each task lease is acquired once and released once"),
    Rule("request_leases", "Each request lease is acquired once and released once"),
    Rule("end_state", "At the end of the run nothing is held, queued or waiting"),
    Rule("hidden_waiters", "No worker runs without its lease, none waits for a scheduler resource"),
    Rule("caps", "What is in flight stays within its limits"),
    Rule("limits", "1 <= limit <= effective maximum, and every change goes on from the last"),
    Rule("cooldowns", "No call goes out in a cooldown; none gets shorter; one cut a cascade", True),
    Rule("empty_blocked", "Empty is said with nothing queued, blocked only with work queued"),
    Rule("order", "The events of a task and of an attempt come in their order", True),
    Rule("attempts", "An attempt lies within the execution that it counts for", True),
    Rule("keyframes", "Folding the events gives the engine's own ledger at every keyframe", True),
    Rule("numbers", "The numbers that an event tells are those of the fold", True),
    Rule("debt", "0 <= debt <= leased, by group and resource", True),
    Rule("fairness", "Groups that could both run are served by weight, within one task each", True),
    Rule("rows", "Every row group is written once; every row is done or dropped"),
    Rule("content", "No canary and nothing shaped like a key stands anywhere in the recording"),
)


NEED_ALL_EVENTS = frozenset(
    """
    task_leases request_leases hidden_waiters caps limits cooldowns empty_blocked order attempts
    keyframes numbers debt fairness rows end_state
    """.split()
)
"""Rules that a missing event would seem to break."""


TOLD_LATE = {
    "request_leases": ("",),
    "limits": ("",),
    "caps": ("more in flight",),
    "end_state": ("request", "waiting request"),
}
"""Rule -> beginnings of what an event that is told late, behind others, may only seem to break."""


class Example(msgspec.Struct, frozen=True):
    ordinal: int | None
    """Of the event that shows it; None where it is not about one event."""
    at: float | None
    """Monotonic seconds of the producer."""
    sentence: str


class Found(msgspec.Struct):
    """One kind of thing that breaks a rule: how often, and where first."""

    what: str
    severity: Severity
    count: int = 0
    examples: list[Example] = []


class RuleBook:
    """Collects what is found. Memory is bounded, however much is wrong."""

    def __init__(self) -> None:
        self.foreign = False
        """Another producer than headgate: what it never promised is noted, not found."""
        self.found: dict[str, dict[str, Found]] = {rule.name: {} for rule in RULES}
        self.looked_at: dict[str, int] = {rule.name: 0 for rule in RULES}
        self.unchecked: dict[str, dict[str, None]] = {rule.name: {} for rule in RULES}
        """Why a rule, or a part of it, could not be checked."""
        self.withdrawn = 0
        """Deviations that a loss may explain, which was noticed only behind them."""
        self.doubtful: list[tuple[str, str, str, int, float | None, bool]] = []
        """Found, but not yet known to be behind events that are all there."""
        self._ours_alone = {rule.name for rule in RULES if rule.producer_specific}

    def report(
        self,
        rule: str,
        what: str,
        sentence: str,
        ordinal: int | None = None,
        at: float | None = None,
        *,
        note: bool = False,
    ) -> None:
        """`what` names the kind of deviation, `sentence` this one."""
        if ordinal is not None and rule in NEED_ALL_EVENTS:
            self.doubtful.append((rule, what, sentence, ordinal, at, note))
            if len(self.doubtful) >= DOUBTED_AT_MOST:
                self.settle(ordinal + 1)
        else:
            self._keep(rule, what, sentence, ordinal, at, note)

    def settle(self, before: int) -> None:
        """All events before that ordinal are known to be there: what was found stands."""
        for deviation in self.doubtful:
            if deviation[3] < before:
                self._keep(*deviation)
        self.doubtful = [deviation for deviation in self.doubtful if deviation[3] >= before]

    def withdraw(self) -> None:
        """Events are missing behind the last ordinal settled: they may explain all since."""
        self.withdrawn += len(self.doubtful)
        self.doubtful.clear()

    def _keep(
        self, rule: str, what: str, sentence: str, ordinal: int | None, at: float | None, note: bool
    ) -> None:
        known = self.found[rule]
        found = known.get(what)
        if found is None:
            if len(known) >= KINDS_KEPT:
                what = "and more"
            mild = note or (self.foreign and rule in self._ours_alone)
            severity: Severity = "note" if mild else "finding"
            found = known.setdefault(what, Found(what, severity, 0, []))
        found.count += 1
        if len(found.examples) < EXAMPLES_KEPT:
            found.examples.append(Example(ordinal, at, sentence))

    def leave_out(self, rules: str | Iterable[str], why: str) -> None:
        """These rules, or a part of what they say, could not be checked."""
        for rule in (rules,) if isinstance(rules, str) else rules:
            self.unchecked[rule][why] = None

    def doubt_late(self) -> None:
        """A foreign producer told request events late: what depends on their order is a note."""
        for rule, beginnings in TOLD_LATE.items():
            for found in self.found[rule].values():
                if found.severity == "finding" and found.what.startswith(beginnings):
                    found.severity = "note"
                    self.leave_out(
                        rule, "events were told late: their order may be all that is odd"
                    )

    def status(self, rule: str) -> Status:
        severities = {found.severity for found in self.found[rule].values()}
        if "finding" in severities:
            return "found"
        if severities:
            return "noted"
        return "ok" if self.looked_at[rule] else "not_checked"
