"""Lost wake-ups: an eligible task or call was not admitted although the loop ran.

What is eligible by an independent selection (`proofs.queued_blame`, `proofs.ceiling_verdict`) is at
first only *pending*: a healthy engine lets it go within the same instant, and a loop that is held
up may only be late. It is lost once heartbeats show that the loop ran all the while and no lease
came.
Time that was pending gets its name in retrospect, so rows of blame that hold some are kept back.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from replay.diagnosis.verdicts import Blame, Facts
from replay.state.rows import BlameRow

MISSED_SECONDS = 0.5
"""Time in which the loop ran, after which what could go on all the while was missed."""

PENDING: dict[str, str] = {
    "pending_queue": "queue_order",
    "pending_request": "request_waiters_ahead",
}
"""What the pending time comes to if a lease did come."""


class Wakeup(msgspec.Struct, forbid_unknown_fields=True):
    """A time in which something eligible was not let in."""

    # Strict, so that a dump with untyped facts is refused rather than read without them.
    since: float
    evidence: list[int]
    facts: Facts | None = None
    """Once it is lost."""

    @property
    def lost(self) -> bool:
        return self.facts is not None

    def is_lost(self, since: float, now: float, ordinal: int) -> bool:
        """True when this proves it, once: the loop ran from `since` until `now`."""
        if self.lost or now - max(since, self.since) < MISSED_SECONDS:
            return False
        self.evidence.append(ordinal)
        return True


class Wakeups(msgspec.Struct):
    """Eligible heads, and since when nothing lets them in."""

    pending: dict[int, str] = {}
    """Meters of heads that nothing keeps from going on; what each is about, as in `open`."""
    open: dict[str, Wakeup] = {}
    """By request resource, "" for the task queue."""

    def set_pending(self, meter: int, about: str | None) -> None:
        """What the meter's heads are pending for; None where something keeps them."""
        if about is not None:
            self.pending[meter] = about
        elif self.pending:
            self.pending.pop(meter, None)

    def exclude(self, end: float) -> None:
        """The loop did not run until `end`: what could go on waits from then on."""
        for wakeup in self.open.values():
            if not wakeup.lost:
                wakeup.since = max(wakeup.since, end)

    def blame(self, about: str, now: float, ordinal: int) -> Blame:
        """Blame of an eligible head of `about`, whose wake-up begins now unless it is open."""
        wakeup = self.open.get(about)
        if wakeup is None:
            wakeup = self.open[about] = Wakeup(now, [ordinal])
        return ("lost_wakeup", about) if wakeup.lost else pending(about)

    def eligible(self) -> set[str]:
        """The keys of `open` for which some head is still pending."""
        return set(self.pending.values())


def pending(about: str) -> Blame:
    """`about` is a request resource, or "" for the task queue."""
    return ("pending_request", about) if about else ("pending_queue", "")


def pending_among(rows: Iterable[BlameRow]) -> list[str]:
    """Which of the verdicts of these rows are pending."""
    verdicts = {row.verdict for row in rows}
    return [verdict for verdict in PENDING if verdict in verdicts]


def harmless(about: str) -> Blame:
    """The blame for time that `about` spent pending and that turned out to be no lost wake-up."""
    return (PENDING[pending(about)[0]], about)
