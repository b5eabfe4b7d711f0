"""Lost wake-ups: something could go on, and nothing lets it, although the loop lives.

What is eligible by an independent selection (`proof.queued_blame`, `proof.ceiling_verdict`) is at
first only *pending*: a healthy engine lets it go within the same instant, and a loop that is held
up may only be late. It is lost once events show that the loop ran for a while and no lease came.
Time that was pending gets its name in retrospect, so rows of blame that hold some are kept back.
"""

from __future__ import annotations

import msgspec

from replay.diagnosis.cell_ledger import Key
from replay.diagnosis.verdicts import Blame, Facts
from replay.diagnosis.verdicts.broken import LostWakeup

GRACE_SECONDS = 0.1
"""The loop is given so long twice: to come to it at all, and to act once it is seen to live."""

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
    alive_at: float | None = None
    """First event that shows the loop alive when it should have acted."""
    lost: bool = False
    facts: Facts = msgspec.field(default_factory=lambda: Facts(LostWakeup()))

    def is_lost(self, now: float, ordinal: int) -> bool:
        """True when this check proves it, once. Checks come with events only."""
        if self.lost:
            return False
        if self.alive_at is None:
            if now - self.since > GRACE_SECONDS:
                self.alive_at = now
                self.evidence.append(ordinal)
            return False
        if now - self.alive_at <= GRACE_SECONDS:
            return False
        self.evidence.append(ordinal)
        self.lost = True
        return True


class Wakeups(msgspec.Struct):
    """Eligible heads, and since when nothing lets them in."""

    pending: dict[Key, None] = {}
    """Meters of heads that nothing keeps from going on."""
    open: dict[str, Wakeup] = {}
    """By request resource, "" for the task queue."""

    def set_pending(self, key: Key, is_pending: bool) -> None:
        if is_pending:
            self.pending[key] = None
        elif self.pending:
            self.pending.pop(key, None)

    def blame(self, about: str, now: float, ordinal: int) -> Blame:
        """Blame of an eligible head of `about`, whose wake-up begins now unless it is open."""
        wakeup = self.open.get(about)
        if wakeup is None:
            wakeup = self.open[about] = Wakeup(now, [ordinal])
        return ("lost_wakeup", about) if wakeup.lost else pending(about)

    def eligible(self) -> set[str]:
        """The keys of `open` for which some head is still pending."""
        return {subject if kind == "waiting" else "" for kind, subject in self.pending}


def pending(about: str) -> Blame:
    """`about` is a request resource, or "" for the task queue."""
    return ("pending_request", about) if about else ("pending_queue", "")


def harmless(about: str) -> Blame:
    return (PENDING[pending(about)[0]], about)
