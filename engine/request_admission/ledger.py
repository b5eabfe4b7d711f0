"""`RequestLeaseLedger`: which request leases are live, and may this one be closed?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from engine.request_admission.attempt import RequestAttempt
from engine.request_admission.types import RequestAdmissionLease, RequestReleaseReason

_generations = itertools.count(1)


class RequestLeaseLedger:
    """Counts a lease in flight from `issue` to `close`. Ids are `r1`, `r2` and so on, behind the
    `issued` ones that the run has issued before."""

    def __init__(self, issued: int = 0) -> None:
        self.generation = next(_generations)
        self._issued = issued
        self._live: dict[str, RequestAttempt] = {}
        self.refusals: dict[str, int] = {}
        """Refused releases by reason."""

    def attempts(self) -> Iterable[RequestAttempt]:
        return self._live.values()

    def issue(self, attempt: RequestAttempt, now: float) -> RequestAdmissionLease:
        """Gives the attempt its lease, counted in flight from now on."""
        state = attempt.state
        limits = state.limits
        self._issued += 1
        lease = RequestAdmissionLease(
            f"r{self._issued}",
            attempt.item,
            now,
            limits.limit,
            limits.effective_max,
            self.generation,
        )
        attempt.lease = lease
        attempt.phase = "leased"
        attempt.since = attempt.acquired_at = now
        attempt.number = limits.admitted
        attempt.cascade = limits.note_admitted()
        state.in_flight += 1
        if state.in_flight > state.peak_in_flight:
            state.peak_in_flight = state.in_flight
        shared = state.provider_model
        shared.in_flight += 1
        shared.provider.in_flight += 1
        state.learned_rate.note_admitted(now)
        attempt.observed = shared.observed.reserve(attempt.item.prompt_tokens, now)
        for budgets in (shared.budgets, shared.provider.budgets):
            if budgets is not None:
                expected = budgets.reserve(attempt.item.prompt_tokens, now)
                attempt.reserved.append((budgets, expected))
        if shared.in_flight > shared.peak_in_flight:
            shared.peak_in_flight = shared.in_flight
        self._live[lease.lease_id] = attempt
        return lease

    def find(self, lease: RequestAdmissionLease) -> RequestAttempt | None:
        """The live attempt that holds exactly this lease."""
        attempt = self._live.get(lease.lease_id)
        return attempt if attempt is not None and attempt.lease is lease else None

    def close(self, attempt: RequestAttempt) -> None:
        """The attempt must be live, as `find` gave it."""
        if attempt.lease is not None:
            del self._live[attempt.lease.lease_id]
            attempt.state.in_flight -= 1
            attempt.state.limits.note_ended(attempt.cascade)
            attempt.state.provider_model.in_flight -= 1
            attempt.state.provider_model.provider.in_flight -= 1

    def refuse(self, lease: RequestAdmissionLease) -> RequestReleaseReason:
        """Why a lease that `find` does not know cannot be released; counted."""
        reason = self._refusal(lease)
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        return reason

    def _refusal(self, lease: RequestAdmissionLease) -> RequestReleaseReason:
        if lease.controller_generation != self.generation:
            return "wrong_controller_generation"
        if lease.lease_id in self._live:
            return "stale_lease"
        number = lease.lease_id[1:]
        if lease.lease_id[:1] == "r" and number.isdecimal() and 0 < int(number) <= self._issued:
            return "duplicate"
        return "unknown_lease"
