"""`AdaptiveRequestAdmissionController`: may this call go out now?

The controller is confined to the thread of the event loop and needs no lock; only `acquire_sync`
may be called from another thread. Nothing polls: whatever can make a waiter eligible (a release,
the end of a cooldown, a ramp step, a registration) runs `_pump`, which issues leases until no
waiter is eligible.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from engine.clock import Clock
from engine.events import EventStream
from engine.events.failures import scope_of
from engine.identity import ProviderModelKey, RequestResourceKey
from engine.request_admission.attempt import Attempt
from engine.request_admission.availability import FailureMark, Tally
from engine.request_admission.budgets import BudgetSizes, ObservedBudget, RateBudgets
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.degraded import is_unforeseen
from engine.request_admission.handoff import acquire_on_loop
from engine.request_admission.ledger import RequestLeaseLedger
from engine.request_admission.pressure import RequestPressure
from engine.request_admission.queue import RequestQueueSelection
from engine.request_admission.reporting import RequestReporter
from engine.request_admission.resources import (
    ProviderModelState,
    RequestResources,
    ResourceState,
)
from engine.request_admission.types import (
    FailureReport,
    ReleaseResult,
    RequestAdmissionDecision,
    RequestAdmissionDenied,
    RequestAdmissionError,
    RequestAdmissionItem,
    RequestAdmissionLease,
    RequestDenialReason,
    RequestReleaseOutcome,
    RequestWaiter,
    RequestWaitReason,
)

MAX_RATE_REFUSALS = 3
"""Refusals in a row, with no answer between, that may be of the rate of requests alone."""
_DEFAULT_CONFIG = RequestAdmissionConfig()
_RELEASED = ReleaseResult(True, "released", {})
_CANCELLED = RequestReleaseOutcome("local_cancelled")
_CLOSED = frozenset({"cooldown", "outage", "suspended"})
"""Wait reasons that a run that stops does not wait for."""


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
        self.on_probe_due: Callable[[RequestResourceKey], object] | None = None
        """Called when a resource that is out is to be asked whether it answers again; the callee
        acquires a probe lease. Without it no resource is ever taken to be out."""
        self.on_held: Callable[[], object] = lambda: None
        """Called when an attempt begins to wait for a resource that is suspended."""
        self._config = config
        self._clock = clock
        self._loop = loop
        self._stream = stream
        self._report = RequestReporter(stream)
        self._resources = RequestResources(config, source or random.Random(0))
        self.pressure = RequestPressure(self._resources, clock, stream)
        self._ledger = RequestLeaseLedger(leases_issued)
        self._waiting: dict[int, tuple[Attempt, RequestWaiter]] = {}
        self._attempts_begun = 0
        self._shut_down = False
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
        self._arm(registration.state, now)
        self._pump(registration.state.provider_model, now)

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
        if state is None or self._shut_down:
            return self._refuse(item, now)
        obstacle = state.obstacle(now)
        if self._next_waiter(state.provider_model, now) is not None:
            return self._refuse(item, now, "queued_waiters_ahead")
        if obstacle is not None:
            return self._refuse(item, now, "cooldown" if obstacle in _CLOSED else "no_capacity")
        return self._admit(self._begin(item, state, now), now)

    async def acquire_async(self, item: RequestAdmissionItem) -> RequestAdmissionLease:
        """Issue a lease, waiting for it in fair order. A cancelled wait leaves neither waiter nor
        lease.

        Raises:
            RequestAdmissionError: There is no lease; the error has the denial.
        """
        now = self._clock.monotonic()
        state = self._resources.get(item.resource)
        if state is None or self._shut_down:
            raise RequestAdmissionError(self._refuse(item, now))
        self._pump(state.provider_model, now)
        attempt = self._begin(item, state, now)
        obstacle = state.obstacle(now)
        if obstacle is None:
            return self._admit(attempt, now)
        if self._draining and obstacle in _CLOSED:
            raise RequestAdmissionError(self._refuse(item, now, "shutdown"))
        handle = self._enqueue(attempt, obstacle, now)
        if obstacle == "suspended":
            self.on_held()
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
    ) -> ReleaseResult:
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
            self._probe_ended(attempt, outcome, now)
        else:
            new_cooldown = self._apply(attempt, outcome, binding, now)
            self._report.lease_released(attempt, outcome.kind, now)
            self._judge(state, outcome, new_cooldown, now)
        self._pump_all(state.provider_model, now)
        if self._draining:
            self._deny_closed(now)
        return _RELEASED

    def _apply(
        self, attempt: Attempt, outcome: RequestReleaseOutcome, binding: bool, now: float
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
            obeyed = said is None or said.retry_after_said is None or self.on_probe_due is None
            if not outcome.cuts or not obeyed or state.availability.state != "up":
                effect = limits.note_refused()
            elif self._over_budget(state, now):
                effect = limits.wait_for_budget(now, outcome.retry_after_seconds)
                self._arm(state, now)
            else:
                effect = limits.on_rate_limited(now, attempt.cascade, outcome.retry_after_seconds)
                self._arm(state, now)
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

    def _judge(
        self, state: ResourceState, outcome: RequestReleaseOutcome, new_cooldown: bool, now: float
    ) -> None:
        """Whether the resource still answers."""
        availability = state.availability
        if outcome.kind == "success":
            availability.on_answer()
            state.failure_share.note(False)
            return
        report = outcome.failure
        if report is None or self.on_probe_due is None or self._shut_down:
            return
        if availability.state == "up" and is_unforeseen(report.failure):
            degraded = state.failure_share.note(True)
            if degraded is not None:
                self._report.degraded(state, *degraded, report, now)
        # A request that is refused by itself begins no cooldown, and waits in its own time.
        new_cooldown = new_cooldown or not outcome.cuts
        if availability.on_failure(now, report, state.limits.limit, new_cooldown=new_cooldown):
            if outcome.kind == "rate_limited":
                availability.delay_probe(state.limits.blocked_until)
            self._report.outage(state, "opened", now)
            self._arm_probe(state)

    # Outages

    def acquire_probe(self, item: RequestAdmissionItem) -> RequestAdmissionLease | None:
        """The lease of a probe, ahead of all waiters; None if the resource is not to be probed."""
        state = self._resources.get(item.resource)
        if state is None or self._shut_down or self._draining:
            return None
        availability = state.availability
        if availability.state != "out" or availability.probing:
            return None
        now = self._clock.monotonic()
        availability.begin_probe()
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

    def failure_mark(self, resource: RequestResourceKey) -> FailureMark:
        """Taken before a failed call is released; see `blames`."""
        return self._resources[resource].availability.mark()

    def blames(self, resource: RequestResourceKey, mark: FailureMark) -> bool | None:
        """`Availability.blames` of a resource."""
        return self._resources[resource].availability.blames(mark)

    def tally(self, resource: RequestResourceKey) -> Tally:
        return self._resources[resource].availability.tally()

    def held_attempts(self) -> int:
        """Attempts that wait for a resource that is suspended."""
        return sum(state.waiters() for state in self._resources if state.suspended)

    def suspensions(self) -> list[tuple[RequestResourceKey, FailureReport, float | None]]:
        """The suspended resources, what they answer, and in how many seconds they are back."""
        now = self._clock.monotonic()
        suspended = []
        for state in self._resources:
            cause, returns = state.availability.cause, state.availability.returns_at
            if state.suspended and cause is not None:
                suspended.append((state.key, cause, None if returns is None else returns - now))
        return suspended

    def _probe_ended(self, attempt: Attempt, outcome: RequestReleaseOutcome, now: float) -> None:
        state = attempt.state
        availability = state.availability
        report = outcome.failure
        if availability.state != "out":
            return
        answered = report is not None and scope_of(report.failure) in ("request", "answer")
        if outcome.kind == "success" or answered:
            self._report.outage(state, "closed", now)
            lasted = now - availability.since
            availability.on_probe_answered()
            changes = state.limits.after_outage(now, lasted)
            if changes:
                self._report.limit_changed(state, changes, None, now)
        elif report is None:
            availability.on_probe_lost(now)
            self._arm_probe(state)
        elif availability.on_probe_failed(
            now, report, outcome.retry_after_seconds, state.limits.round_trip
        ):
            self._report.suspended(state, now)
            self.on_held()
        else:
            self._report.outage(state, "probe_failed", now)
            self._arm_probe(state)

    def _arm_probe(self, state: ResourceState) -> None:
        due = state.availability.next_probe_at
        if due is None or self._shut_down:
            return
        if state.probe_timer is not None:
            state.probe_timer.cancel()
        state.probe_timer = self._loop.call_at(due, self._on_probe_due, state)

    def _on_probe_due(self, state: ResourceState) -> None:
        state.probe_timer = None
        if self.on_probe_due is not None and state.availability.state == "out":
            self.on_probe_due(state.key)

    def drain(self) -> None:
        """Deny the waiters of resources that take no call now, and those to come: a run that stops
        waits for no cooldown and no outage."""
        self._draining = True
        self._deny_closed(self._clock.monotonic())

    def _deny_closed(self, now: float) -> None:
        for attempt, waiter in list(self._waiting.values()):
            if attempt.state.obstacle(now) in _CLOSED and not waiter.handle.done():
                self._deny(attempt, waiter, "shutdown", now)

    def _refuse_release(
        self, lease: RequestAdmissionLease, outcome: RequestReleaseOutcome, now: float
    ) -> ReleaseResult:
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
        return ReleaseResult(False, refusal, facts)

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
        if self._shut_down:
            return
        self._shut_down = True
        now = self._clock.monotonic()
        for attempt, waiter in list(self._waiting.values()):
            if waiter.handle.done():
                self._stop_waiting(attempt, "cancellation", now)
            else:
                self._deny(attempt, waiter, "shutdown", now)
        for state in self._resources:
            for timer in (state.timer, state.probe_timer, state.budget_timer):
                if timer is not None:
                    timer.cancel()
            state.timer = state.probe_timer = state.budget_timer = None

    def keyframe(self, full: bool) -> dict[str, Any]:
        """`requests` and `aggregates` of a keyframe; if `full`, also the live `attempts` by id."""
        keyframe = self._resources.keyframe()
        if full:
            live = [attempt for attempt, _ in self._waiting.values()]
            live.extend(self._ledger.attempts())
            rows = [row for attempt in live if (row := attempt.keyframe()) is not None]
            keyframe["attempts"] = sorted(rows, key=lambda row: str(row["attempt_id"]))
        return keyframe

    @property
    def release_diagnostics(self) -> dict[str, int]:
        """Refused releases by reason."""
        return dict(self._ledger.refusals)

    def _begin(self, item: RequestAdmissionItem, state: ResourceState, now: float) -> Attempt:
        self._attempts_begun += 1
        return Attempt(self._attempts_begun, item, state, now)

    def _admit(self, attempt: Attempt, now: float) -> RequestAdmissionLease:
        """Issue a lease without a wait."""
        self._report.wait_started(attempt, None, attempt.state.waiters())
        self._report.wait_completed(attempt, False, now)
        lease = self._ledger.issue(attempt, now)
        self._report.lease_acquired(attempt)
        return lease

    def _enqueue(
        self, attempt: Attempt, obstacle: RequestWaitReason, now: float
    ) -> asyncio.Future[RequestAdmissionDecision]:
        state = attempt.state
        item = attempt.item
        handle: asyncio.Future[RequestAdmissionDecision] = self._loop.create_future()
        deadline = None if item.queue_wait_timeout is None else now + item.queue_wait_timeout
        waiter = RequestWaiter(attempt.serial, item, now, deadline, handle)
        ahead = state.waiters()
        state.peak_waiters = max(state.peak_waiters, ahead + 1)
        if state.wait_reason is None:
            state.wait_reason = obstacle
        self._report.wait_started(attempt, state.wait_reason, ahead)
        state.provider_model.queue.enqueue(waiter)
        if obstacle == "request_rate_budget":
            self._arm_budget(state, now)
        self._waiting[waiter.waiter_id] = (attempt, waiter)
        if deadline is not None:
            attempt.deadline_timer = self._loop.call_at(deadline, self._on_deadline, attempt)
        return handle

    def _next_waiter(self, shared: ProviderModelState, now: float) -> RequestQueueSelection | None:
        """The next waiter that is eligible at this instant; None for none."""
        if not len(shared.queue) or shared.in_flight >= shared.static_cap or shared.provider.full:
            return None
        return shared.queue.select_next(lambda key: self._resources[key].has_room(now))

    def _pump_all(self, shared: ProviderModelState, now: float) -> None:
        """Pump what the end of a call may have made room for."""
        if shared.provider.shared:
            for model in shared.provider.in_turn():
                self._pump(model, now)
        else:
            self._pump(shared, now)

    def _pump(self, shared: ProviderModelState, now: float) -> None:
        """Issue leases until no waiter of this provider/model is eligible."""
        if not len(shared.queue):
            return
        while (selection := self._next_waiter(shared, now)) is not None:
            attempt, waiter = self._waiting[selection.waiter.waiter_id]
            if waiter.handle.done():  # cancelled; its task has not run since
                self._stop_waiting(attempt, "cancellation", now)
                continue
            shared.queue.commit(selection)
            self._leave_queue(attempt)
            drained = not attempt.state.waiters()
            self._report.wait_completed(attempt, drained, now)
            lease = self._ledger.issue(attempt, now)
            self._report.lease_acquired(attempt)
            waiter.handle.set_result(lease)
        for key in shared.queue.resources():
            state = self._resources[key]
            obstacle = state.obstacle(now)
            if obstacle == "request_rate_budget":
                self._arm_budget(state, now)
            if obstacle is not None and obstacle != state.wait_reason:
                previous, state.wait_reason = state.wait_reason, obstacle
                self._report.wait_reason_changed(state, previous, obstacle, now)

    def _leave_queue(self, attempt: Attempt) -> None:
        """Clean up after a waiter has left the fair queue."""
        del self._waiting[attempt.serial]
        if attempt.deadline_timer is not None:
            attempt.deadline_timer.cancel()
            attempt.deadline_timer = None
        if not attempt.state.waiters():
            attempt.state.wait_reason = None

    def _stop_waiting(self, attempt: Attempt, reason: RequestDenialReason, now: float) -> None:
        """End a wait without a lease."""
        _, waiter = self._waiting[attempt.serial]
        attempt.state.provider_model.queue.discard(waiter)
        self._leave_queue(attempt)
        drained = not attempt.state.waiters()
        self._report.wait_ended(attempt, reason, drained, now)

    def _deny(
        self, attempt: Attempt, waiter: RequestWaiter, reason: RequestDenialReason, now: float
    ) -> None:
        self._stop_waiting(attempt, reason, now)
        waiter.handle.set_result(self._denied(attempt.item, reason, now))

    def _abandon(self, attempt: Attempt) -> None:
        """The acquiring task was cancelled: remove its waiter, or release its lease."""
        if attempt.serial in self._waiting:
            self._stop_waiting(attempt, "cancellation", self._clock.monotonic())
        elif attempt.lease is not None:
            self.release(attempt.lease, _CANCELLED)

    def _refuse(
        self, item: RequestAdmissionItem, now: float, reason: RequestDenialReason | None = None
    ) -> RequestAdmissionDenied:
        if reason is None:
            reason = "shutdown" if self._shut_down else "hard_policy_denial"
        self._report.refused(item, reason, now)
        return self._denied(item, reason, now)

    def _denied(
        self, item: RequestAdmissionItem, reason: RequestDenialReason, now: float
    ) -> RequestAdmissionDenied:
        state = self._resources.get(item.resource)
        if state is None or self._shut_down:
            return RequestAdmissionDenied(item, reason)
        available = state.obstacle_ends_at(state.obstacle(now), now)
        retry_after = None if available is None else available - now
        snapshot = state.snapshot(now, self._stream.request_sequence)
        return RequestAdmissionDenied(item, reason, retry_after, available, snapshot)

    def _on_deadline(self, attempt: Attempt) -> None:
        entry = self._waiting.get(attempt.serial)
        if entry is not None and not entry[1].handle.done():
            self._deny(attempt, entry[1], "queue_timeout", self._clock.monotonic())

    def _arm(self, state: ResourceState, now: float) -> None:
        """Set the one timer of a resource for the next time at which it changes by itself."""
        due = None if self._shut_down else state.limits.next_change_at(now)
        if due is None:
            return
        if state.timer is not None:
            if state.timer.when() <= due:
                return
            state.timer.cancel()
        state.timer = self._loop.call_at(due, self._on_timer, state)

    def _arm_budget(self, state: ResourceState, now: float) -> None:
        """Look again when the budgets of a resource, for which somebody waits, let a call begin."""
        last = state.last_budget_to_open(now)
        if last is not None and not self._shut_down and state.budget_timer is None:
            state.budget_timer = self._loop.call_at(last.at, self._on_budget, state)

    def _on_budget(self, state: ResourceState) -> None:
        state.budget_timer = None
        self._pump(state.provider_model, self._clock.monotonic())

    def _on_timer(self, state: ResourceState) -> None:
        state.timer = None
        now = self._clock.monotonic()
        changes = state.limits.advance(now)
        if changes:
            self._report.limit_changed(state, changes, None, now)
        self._arm(state, now)
        self._pump(state.provider_model, now)
