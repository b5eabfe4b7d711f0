"""`AdaptiveRequestAdmissionController`: may this call go out now?

The controller is confined to the thread of the event loop and needs no lock; only `acquire_sync`
may be called from another thread. Waits are in `pump.py`, outages and probes in `outages.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from engine.clock import Clock
from engine.events import EventStream
from engine.identity import ProviderModelKey, RequestResourceKey
from engine.request_admission.attempt import RequestAttempt
from engine.request_admission.budgets import BudgetSizes, ObservedBudget, RateBudgets
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.handoff import acquire_on_loop
from engine.request_admission.ledger import RequestLeaseLedger
from engine.request_admission.outages import Outages
from engine.request_admission.pressure import RequestPressure
from engine.request_admission.pump import CLOSED, RequestPump
from engine.request_admission.reporting import RequestReporter
from engine.request_admission.resources import (
    RequestResources,
    ResourceState,
)
from engine.request_admission.types import (
    RequestAdmissionDecision,
    RequestAdmissionDenied,
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestDenialReason,
    RequestReleaseOutcome,
    RequestReleaseResult,
)

MAX_RATE_REFUSALS = 3
"""Refusals in a row, with no answer between, that may be of the rate of requests alone."""
_DEFAULT_CONFIG = RequestAdmissionConfig()
_RELEASED = RequestReleaseResult(True, "released", {})
_CANCELLED = RequestReleaseOutcome("local_cancelled")


class AdaptiveRequestAdmissionController:
    """Issues and releases the request leases of a run. `clock` must show the time of `loop`.
    `leases_issued`: leases that the run has issued before, whose ids are taken."""

    def __init__(
        self,
        *,
        stream: EventStream,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        config: RequestAdmissionConfig = _DEFAULT_CONFIG,
        source: random.Random | None = None,
        leases_issued: int = 0,
    ) -> None:
        self._config = config
        self._clock = clock
        self._loop = loop
        self._report = RequestReporter(stream)
        self._resources = RequestResources(config, source or random.Random(0))
        self.pressure = RequestPressure(self._resources, clock, stream)
        self._ledger = RequestLeaseLedger(leases_issued)
        self._pump = RequestPump(self._resources, self._ledger, stream, self._report, clock, loop)
        self.outages = Outages(self._resources, self._report, clock, loop)
        self._attempts_begun = 0
        self._draining = False

    def register(self, resource: RequestResourceKey, static_cap: int, alias: str) -> None:
        """Register a resource. Aliases of one provider/model share the lowest of their caps.

        Args:
            resource: Provider, model and domain.
            static_cap: Cap that the alias gives, over all domains of the model.
            alias: Name of the model in the workflow.

        Raises:
            ValueError: The cap is below 1.
        """
        now = self._clock.monotonic()
        registration = self._resources.register(resource, static_cap, alias, now)
        self._report.registered(registration, now)
        self._pump.arm(registration.state, now)
        self._pump.run(registration.state.provider_model, now)

    def limit_provider(self, name: str, cap: int | None, sizes: BudgetSizes) -> None:
        """Bound what all models of a provider may have in flight, and use per minute."""
        provider = self._resources.provider(name)
        provider.cap = cap
        if any(size is not None for size in sizes):
            provider.budgets = RateBudgets(sizes, self._clock.monotonic())

    def limit_model(self, key: ProviderModelKey, sizes: BudgetSizes) -> None:
        """Bound what a registered model may use per minute, over all its domains."""
        shared = self._resources.provider_model(key)
        if shared is not None and any(size is not None for size in sizes):
            shared.budgets = RateBudgets(sizes, self._clock.monotonic())

    def try_acquire(self, item: RequestAdmissionItem) -> RequestAdmissionDecision:
        """Issue a lease without waiting, or say why not; never ahead of an eligible waiter."""
        now = self._clock.monotonic()
        state = self._resources.get(item.resource)
        if state is None or self._pump.is_shut_down:
            return self._refuse(item, now)
        obstacle = state.obstacle(now)
        if self._pump.next_waiter(state.provider_model, now) is not None:
            return self._refuse(item, now, "queued_waiters_ahead")
        if obstacle is not None:
            return self._refuse(item, now, "cooldown" if obstacle in CLOSED else "no_capacity")
        return self._admit(self._begin(item, state, now), now)

    async def acquire_async(self, item: RequestAdmissionItem) -> RequestAdmissionLease:
        """Issue a lease, waiting for it in fair order. A cancelled wait leaves neither waiter nor
        lease.

        Raises:
            RequestAdmissionError: There is no lease; the error has the denial.
        """
        now = self._clock.monotonic()
        state = self._resources.get(item.resource)
        if state is None or self._pump.is_shut_down:
            raise RequestAdmissionError(self._refuse(item, now))
        self._pump.run(state.provider_model, now)
        attempt = self._begin(item, state, now)
        obstacle = state.obstacle(now)
        if obstacle is None:
            return self._admit(attempt, now)
        if self._draining and obstacle in CLOSED:
            raise RequestAdmissionError(self._refuse(item, now, "shutdown"))
        handle = self._pump.enqueue(attempt, obstacle, now)
        if obstacle == "suspended":
            self.outages.on_held()
        try:
            decision = await handle
        except BaseException:
            self._abandon(attempt)
            raise
        if isinstance(decision, RequestAdmissionDenied):
            raise RequestAdmissionError(decision)
        return decision

    def acquire_sync(self, item: RequestAdmissionItem) -> RequestAdmissionLease:
        """`acquire_async` for another thread, which blocks until the result.

        Release the lease on the loop:
        `loop.call_soon_threadsafe(controller.release, lease, outcome)`.

        Raises:
            RequestAdmissionError: There is no lease; the error has the denial.
            RuntimeError: This is the thread of the loop, or the loop does not run.
        """
        return acquire_on_loop(
            self._loop, item, self.acquire_async, lambda lease: self.release(lease, _CANCELLED)
        )

    def release(
        self, lease: RequestAdmissionLease, outcome: RequestReleaseOutcome
    ) -> RequestReleaseResult:
        """Release a lease exactly once. A release that is refused has a result and an event; none
        raises."""
        now = self._clock.monotonic()
        attempt = self._ledger.find(lease)
        if attempt is None:
            return self._refuse_release(lease, outcome, now)
        state = attempt.state
        binding = state.in_flight >= state.limits.limit
        self._ledger.close(attempt)
        for budgets, expected in attempt.reserved:
            used = outcome.prompt_tokens, outcome.completion_tokens
            budgets.settle((attempt.item.prompt_tokens, expected), used, now)
        if attempt.observed is not None:
            used = outcome.prompt_tokens, outcome.completion_tokens
            state.provider_model.observed.settle(attempt.observed, used, now)
        state.last_outcome = outcome.kind
        if self._loop.is_closed():
            return _RELEASED
        if attempt.probe:
            if outcome.kind == "rate_limited":
                self._report.rate_limited(attempt, state.limits.note_refused(), outcome, now)
            self._report.lease_released(attempt, outcome.kind, now)
            self.outages.on_probe_ended(attempt, outcome, now)
        else:
            new_cooldown = self._apply(attempt, outcome, binding, now)
            self._report.lease_released(attempt, outcome.kind, now)
            self.outages.on_call_ended(state, outcome, new_cooldown, now)
        self._pump.run_all(state.provider_model, now)
        if self._draining:
            self._pump.deny_closed(now)
        return _RELEASED

    def _apply(
        self, attempt: RequestAttempt, outcome: RequestReleaseOutcome, binding: bool, now: float
    ) -> bool:
        """What the end of a call does to the limit; returns whether it began a cooldown after the
        last one had ended."""
        state = attempt.state
        limits = state.limits
        if outcome.kind == "success":
            began = attempt.acquired_at if attempt.started_at is None else attempt.started_at
            changes = limits.note_answered(now, now - began, state.in_flight + 1, attempt.number)
            if limits.round_trip is not None:
                state.learned_rate.note_answered(now, limits.round_trip)
            changes += limits.on_success(now, attempt.cascade, binding)
            if changes:
                self._report.limit_changed(state, changes, attempt, now)
        elif outcome.kind == "rate_limited":
            ended = limits.blocked_until
            state.availability.refused += 1
            said = outcome.failure
            obeyed = (
                said is None or said.retry_after_said is None or self.outages.on_probe_due is None
            )
            if not outcome.cuts or not obeyed or state.availability.state != "up":
                effect = limits.note_refused()
            elif self._over_budget(state, now):
                effect = limits.wait_for_budget(now, outcome.retry_after_seconds)
                self._pump.arm(state, now)
            else:
                effect = limits.on_rate_limited(now, attempt.cascade, outcome.retry_after_seconds)
                self._pump.arm(state, now)
            self._report.rate_limited(attempt, effect, outcome, now)
            return ended is None or attempt.acquired_at >= ended
        return False

    def _over_budget(self, state: ResourceState, now: float) -> bool:
        """Whether a refusal is of a budget, and says nothing of how many calls at once are served:
        a told one is short, or requests are refused for their rate while others are answered."""
        limits, learned = state.limits, state.learned_rate
        if self._config.recovery == "published":
            return False
        learned.note_refused(now, limits.round_trip, limits.served_a_round)
        if state.provider_model.observed.short(now):
            return True
        return learned.rate is not None and limits.consecutive_rate_limits < MAX_RATE_REFUSALS

    def acquire_probe(self, item: RequestAdmissionItem) -> RequestAdmissionLease | None:
        """The lease of a probe, ahead of all waiters; None if the resource is not to be probed."""
        state = None if self._draining else self.outages.begin_probe(item.resource)
        if state is None:
            return None
        now = self._clock.monotonic()
        attempt = self._begin(item, state, now)
        attempt.probe = True
        return self._admit(attempt, now)

    def round_trip(self, resource: RequestResourceKey) -> float | None:
        """Seconds that a call of a registered resource usually takes; None before an answer."""
        return self._resources[resource].limits.round_trip

    @property
    def longest_wait(self) -> float:
        """Most seconds that a provider's `Retry-After` is obeyed."""
        return self._config.max_retry_after_seconds

    def observe_budgets(
        self, lease: RequestAdmissionLease, budgets: Sequence[ObservedBudget]
    ) -> None:
        """Keep to what a provider tells of its budgets, and report it as far as it is news."""
        now = self._clock.monotonic()
        resource = lease.item.resource
        state = self._resources[resource]
        attempt = self._ledger.find(lease)
        if (
            attempt is not None
            and attempt.observed is not None
            and self._config.recovery == "adaptive"
        ):
            state.provider_model.observed.observe(
                budgets, attempt.observed, attempt.acquired_at, now
            )
        for budget in budgets:
            if state.budget_news.is_news(budget, now):
                self._report.budget_observed(resource, budget, now)

    def drain(self) -> None:
        """Deny the waiters of resources that take no call now, and those to come: a run that stops
        waits for no cooldown and no outage."""
        self._draining = True
        self._pump.deny_closed(self._clock.monotonic())

    def _refuse_release(
        self, lease: RequestAdmissionLease, outcome: RequestReleaseOutcome, now: float
    ) -> RequestReleaseResult:
        refusal = self._ledger.refuse(lease)
        state = self._resources.get(lease.item.resource)
        if state is not None:
            state.refused_releases[refusal] = state.refused_releases.get(refusal, 0) + 1
        self._report.release_refused(lease, refusal, now)
        facts = {
            "lease_id": lease.lease_id,
            "resource": lease.item.resource.label,
            "outcome": outcome.kind,
            "lease_generation": str(lease.controller_generation),
            "controller_generation": str(self._ledger.generation),
        }
        return RequestReleaseResult(False, refusal, facts)

    def mark_started(self, lease: RequestAdmissionLease, at: float) -> None:
        """The call under this lease went out at `at`."""
        attempt = self._ledger.find(lease)
        if attempt is not None:
            attempt.phase = "in_provider"
            attempt.since = attempt.started_at = at

    def mark_returned(self, lease: RequestAdmissionLease, at: float) -> None:
        """The call under this lease came back, or was given up, at `at`."""
        attempt = self._ledger.find(lease)
        if attempt is not None:
            attempt.phase = "returned"
            attempt.since = at

    def shutdown(self) -> None:
        """Deny all waiters and all later requests; live leases may still be released."""
        if not self._pump.is_shut_down:
            self.outages.shutdown()
            self._pump.shutdown()

    def keyframe(self, full: bool) -> dict[str, Any]:
        """`requests` and `aggregates` of a keyframe; if `full`, also the live `attempts` by id."""
        keyframe = self._resources.keyframe()
        if full:
            live = list(self._pump.attempts())
            live.extend(self._ledger.attempts())
            rows = [row for attempt in live if (row := attempt.keyframe()) is not None]
            keyframe["attempts"] = sorted(rows, key=lambda row: str(row["attempt_id"]))
        return keyframe

    @property
    def release_diagnostics(self) -> dict[str, int]:
        """Refused releases by reason."""
        return dict(self._ledger.refusals)

    def _begin(
        self, item: RequestAdmissionItem, state: ResourceState, now: float
    ) -> RequestAttempt:
        self._attempts_begun += 1
        return RequestAttempt(self._attempts_begun, item, state, now)

    def _admit(self, attempt: RequestAttempt, now: float) -> RequestAdmissionLease:
        """Issue a lease without a wait."""
        self._report.wait_started(attempt, None, attempt.state.waiters())
        self._report.wait_completed(attempt, False, now)
        lease = self._ledger.issue(attempt, now)
        self._report.lease_acquired(attempt)
        return lease

    def _abandon(self, attempt: RequestAttempt) -> None:
        """The acquiring task was cancelled: remove its waiter, or release its lease."""
        if not self._pump.cancel(attempt) and attempt.lease is not None:
            self.release(attempt.lease, _CANCELLED)

    def _refuse(
        self, item: RequestAdmissionItem, now: float, reason: RequestDenialReason | None = None
    ) -> RequestAdmissionDenied:
        if reason is None:
            reason = "shutdown" if self._pump.is_shut_down else "hard_policy_denial"
        self._report.refused(item, reason, now)
        return self._pump.denied(item, reason, now)
