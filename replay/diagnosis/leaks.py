"""Leaked leases: acquired, their owner has ended, and they are still not given back."""

from __future__ import annotations

import msgspec

from replay.diagnosis.verdicts import MODEL_SLOTS, Context, Facts, Holder
from replay.diagnosis.verdicts.broken import LeakedLease
from replay.state.model import State

LEAK_SECONDS = 1.0
"""Time a producer may take from the end of a task or call to the release of its lease."""
SUSPECTS_SHOWN = 5
CALL = "call "
"""Prefix of attempt ids, where ids of tasks and attempts share a mapping."""


class Suspect(msgspec.Struct):
    """A lease whose owner has ended; leaked once it is older than `LEAK_SECONDS`."""

    resources: dict[str, int]
    """What it holds: of scheduler resources, or 1 of a request resource."""
    label: str
    """The group of the task, or the column of the call."""
    since: float
    acquired_at: float
    evidence: list[int]
    confirmed: bool = False

    @property
    def about(self) -> str:
        """The most specific of its resources, under which it is reported."""
        own = [name for name in self.resources if name.startswith(MODEL_SLOTS)]
        return own[0] if own else next(iter(sorted(self.resources)), "")


class Leak(msgspec.Struct):
    """A period in which some lease of a resource is leaked."""

    since: float
    suspects: list[Suspect]
    open: int

    def facts(self, now: float) -> Facts:
        shown = self.suspects[:SUSPECTS_SHOWN]
        holders = [Holder(suspect.label, 1, now - suspect.acquired_at) for suspect in shown]
        evidence = [ordinal for suspect in shown for ordinal in suspect.evidence]
        return Facts(LeakedLease(leases=len(self.suspects)), Context(holders=holders), evidence)


class Leaks(msgspec.Struct):
    """Leases whose owner has ended: suspects, and the leaks among them by resource."""

    suspects: dict[str, Suspect] = {}
    amounts: dict[str, int] = {}
    """What leaked leases hold, by scheduler resource or request resource."""
    open: dict[str, Leak] = {}
    """By `Suspect.about`."""

    def confirm(self, subject: str) -> Suspect | None:
        """The suspect has held its lease for too long."""
        suspect = self.suspects.get(subject)
        if suspect is None or suspect.confirmed:
            return None
        suspect.confirmed = True
        for resource, amount in suspect.resources.items():
            self.amounts[resource] = self.amounts.get(resource, 0) + amount
        leak = self.open.setdefault(suspect.about, Leak(suspect.since, [], 0))
        leak.suspects.append(suspect)
        leak.open += 1
        return suspect

    def clear(self, subject: str) -> tuple[Suspect, Leak | None] | None:
        """The lease was released after all. Returns its leak too, if that ends it."""
        suspect = self.suspects.pop(subject, None)
        if suspect is None or not suspect.confirmed:
            return None
        for resource, amount in suspect.resources.items():
            self.amounts[resource] -= amount
        leak = self.open[suspect.about]
        leak.open -= 1
        return suspect, self.open.pop(suspect.about) if leak.open == 0 else None


def holds_after_end(state: State, subject: str, executions: dict[str, str]) -> bool:
    """The lease of this task or call outlives its owner; `executions` are those that live."""
    if not subject.startswith(CALL):
        task = state.tasks.get(subject)
        return task is not None and task.lease_id is not None and task.result is not None
    attempt = state.attempts.get(subject.removeprefix(CALL))
    if attempt is None or attempt.lease_id is None or attempt.released_at is not None:
        return False
    if attempt.phase == "returned":
        return True
    return attempt.execution_id is not None and attempt.execution_id not in executions
