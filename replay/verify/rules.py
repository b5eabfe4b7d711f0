"""What `headgate verify` holds a recording to, and the book it writes its results into."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

EXAMPLES_KEPT = 5
KINDS_KEPT = 200
"""Different things found, by rule; more of them are counted, not listed."""
MAX_UNSETTLED = 10_000

Severity = Literal["finding", "note"]
Status = Literal["ok", "found", "noted", "not_checked"]


class Rule(msgspec.Struct, frozen=True):
    """A promise that a recording is held against."""

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


BROKEN_BY_DISORDER = {
    "request_leases": ("",),
    "limits": ("",),
    "caps": ("more in flight",),
    "end_state": ("request", "waiting request"),
}
"""Rule -> beginnings of the kinds of deviation that an event out of order only seems to show."""


class Position(NamedTuple):
    """Where in a recording something is."""

    ordinal: int
    """Of the event."""
    at: float | None = None
    """Its monotonic seconds."""


class DeviationExample(msgspec.Struct, frozen=True):
    """One place at which a rule is broken."""

    ordinal: int | None
    """Of the event that shows it; None where it is not about one event."""
    at: float | None
    """Monotonic seconds of the producer."""
    sentence: str


class Deviation(msgspec.Struct):
    """A kind of deviation from a rule: how often, and its first examples."""

    what: str
    severity: Severity
    count: int = 0
    examples: list[DeviationExample] = []


class RuleBook:
    """Collects deviations by rule. Memory is bounded, however many there are."""

    def __init__(self) -> None:
        self.foreign = False
        """Another producer than headgate: what it never promised is noted, not found."""
        self.deviations: dict[str, dict[str, Deviation]] = {rule.name: {} for rule in RULES}
        self.looked_at: dict[str, int] = {rule.name: 0 for rule in RULES}
        self.unchecked: dict[str, dict[str, None]] = {rule.name: {} for rule in RULES}
        """Why a rule, or a part of it, could not be checked."""
        self.withdrawn = 0
        """Deviations that a loss may explain, which was noticed only behind them."""
        self.position: Position | None = None
        """The event that is being checked; None while none is."""
        self.unsettled: list[tuple[Position, str, str, str, bool]] = []
        """Deviations of which it is not known yet whether an event is missing before them."""
        self._producer_specific = {rule.name for rule in RULES if rule.producer_specific}

    def report(
        self,
        rule: str,
        what: str,
        sentence: str,
        *,
        note: bool = False,
        position: Position | None = None,
    ) -> None:
        """Record a deviation.

        Args:
            rule: The rule that is broken.
            what: The kind of deviation.
            sentence: This one.
            note: Whether it is only worth a note.
            position: The event that shows it, where that is not the one being checked.
        """
        position = position or self.position
        if position is not None and rule in NEED_ALL_EVENTS:
            self.unsettled.append((position, rule, what, sentence, note))
            if len(self.unsettled) >= MAX_UNSETTLED:
                self.settle(position.ordinal + 1)
        else:
            self._keep(position, rule, what, sentence, note)

    def settle(self, before: int) -> None:
        """Keep the deviations before that ordinal: no event is missing before it."""
        for deviation in self.unsettled:
            if deviation[0].ordinal < before:
                self._keep(*deviation)
        self.unsettled = [item for item in self.unsettled if item[0].ordinal >= before]

    def withdraw(self) -> None:
        """Drop the unsettled deviations: events are missing, which may explain them."""
        self.withdrawn += len(self.unsettled)
        self.unsettled.clear()

    def _keep(
        self, position: Position | None, rule: str, what: str, sentence: str, note: bool
    ) -> None:
        reported = self.deviations[rule]
        deviation = reported.get(what)
        if deviation is None:
            if len(reported) >= KINDS_KEPT:
                what = "and more"
            mild = note or (self.foreign and rule in self._producer_specific)
            severity: Severity = "note" if mild else "finding"
            deviation = reported.setdefault(what, Deviation(what, severity, 0, []))
        deviation.count += 1
        if len(deviation.examples) < EXAMPLES_KEPT:
            ordinal, at = position or (None, None)
            deviation.examples.append(DeviationExample(ordinal, at, sentence))

    def mark_unchecked(self, rules: str | Iterable[str], reason: str) -> None:
        """Note that these rules, or a part of them, could not be checked."""
        for rule in (rules,) if isinstance(rules, str) else rules:
            self.unchecked[rule][reason] = None

    def downgrade_out_of_order(self) -> None:
        """Turn findings that depend on the order of events into notes: the producer mixed it up."""
        for rule, kinds in BROKEN_BY_DISORDER.items():
            for deviation in self.deviations[rule].values():
                if deviation.severity == "finding" and deviation.what.startswith(kinds):
                    deviation.severity = "note"
                    self.mark_unchecked(
                        rule, "events were told late: their order may be all that is odd"
                    )

    def status(self, rule: str) -> Status:
        severities = {deviation.severity for deviation in self.deviations[rule].values()}
        if "finding" in severities:
            return "found"
        if severities:
            return "noted"
        return "ok" if self.looked_at[rule] else "not_checked"
