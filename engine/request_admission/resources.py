"""`RequestResources`: the registered resources with their caps and ledgers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from engine.events import RequestResource
from engine.identity import (
    GlobalPressureSnapshot,
    PressureSnapshot,
    ProviderModelKey,
    RequestResourceKey,
)
from engine.request_admission.availability import Availability
from engine.request_admission.budgets import BudgetNews, Opening, RateBudgets, last_opening
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.degraded import FailureShare
from engine.request_admission.learned_rate import LearnedRate
from engine.request_admission.limits import AdaptiveRequestLimitState, LimitTransition
from engine.request_admission.observed_budgets import ObservedBudgets
from engine.request_admission.queue import RequestFairQueue
from engine.request_admission.types import (
    RequestOutcomeKind,
    RequestWaitReason,
)

_NOTHING: Mapping[str, int] = MappingProxyType({})


class ProviderState:
    """What the models of one provider share: a cap and budgets, where the workflow sets them."""

    __slots__ = ("budgets", "cap", "in_flight", "models", "next_model")

    def __init__(self) -> None:
        self.cap: int | None = None
        self.budgets: RateBudgets | None = None
        self.in_flight = 0
        self.models: list[ProviderModelState] = []
        self.next_model = 0
        """Which model is looked at first when room is free."""

    @property
    def full(self) -> bool:
        """The provider's own cap on calls in flight is reached."""
        return self.cap is not None and self.in_flight >= self.cap

    @property
    def shared(self) -> bool:
        """Whether the end of a call to one model may make room for another."""
        return len(self.models) > 1 and (self.cap is not None or self.budgets is not None)

    def in_turn(self) -> list[ProviderModelState]:
        """The models, each first in its turn."""
        first = self.next_model = (self.next_model + 1) % len(self.models)
        return self.models[first:] + self.models[:first]


class ProviderModelState:
    """What the domains of one provider/model share: the cap, the queue, calls in flight."""

    __slots__ = (
        "budgets",
        "in_flight",
        "key",
        "observed",
        "peak_in_flight",
        "provider",
        "queue",
        "raw_caps",
        "resources",
        "static_cap",
    )

    def __init__(self, key: ProviderModelKey, static_cap: int, provider: ProviderState) -> None:
        self.key = key
        self.provider = provider
        provider.models.append(self)
        self.budgets: RateBudgets | None = None
        self.observed = ObservedBudgets()
        self.static_cap = static_cap
        self.raw_caps: dict[str, int] = {}
        self.in_flight = 0
        self.peak_in_flight = 0
        self.queue = RequestFairQueue()
        self.resources: list[ResourceState] = []

    def last_budget_to_open(self, now: float) -> Opening | None:
        """The budget that holds another call up for longest; None where none does."""
        if self.budgets is None and self.provider.budgets is None and not self.observed.known:
            return None
        budgets = (self.budgets, self.provider.budgets, self.observed)
        return last_opening((b.last_to_open(now) for b in budgets if b is not None), now)

    def aliases(self) -> list[str]:
        return sorted(self.raw_caps)

    def snapshot(self, now: float, sequence: int) -> GlobalPressureSnapshot:
        return GlobalPressureSnapshot(
            self.key,
            now,
            sequence,
            self.static_cap,
            self.in_flight,
            self.in_flight,
            len(self.queue),
            tuple(self.aliases()),
            MappingProxyType(dict(self.raw_caps)),
            MappingProxyType({state.key.domain: state.limits.limit for state in self.resources}),
        )

    def keyframe(self) -> dict[str, Any]:
        """What a keyframe holds of the model."""
        facts: dict[str, Any] = {"static_cap": self.static_cap, "aliases": self.aliases()}
        if self.in_flight:
            facts["in_flight"] = self.in_flight
        return facts


class ResourceState:
    """The ledger of one resource: its limit, calls in flight, and why its waiters wait."""

    __slots__ = (
        "availability",
        "budget_news",
        "budget_timer",
        "failure_share",
        "in_flight",
        "key",
        "label",
        "last_outcome",
        "learned_rate",
        "limits",
        "peak_in_flight",
        "peak_waiters",
        "probe_timer",
        "provider_model",
        "refused_releases",
        "timer",
        "wait_reason",
        "wire",
    )

    def __init__(
        self,
        key: RequestResourceKey,
        provider_model: ProviderModelState,
        limits: AdaptiveRequestLimitState,
        availability: Availability,
    ) -> None:
        self.availability = availability
        self.failure_share = FailureShare()
        self.budget_news = BudgetNews()
        self.learned_rate = LearnedRate()
        self.key = key
        self.label = key.label
        self.wire = RequestResource(key.provider_name, key.model_id, key.domain)
        self.provider_model = provider_model
        self.limits = limits
        self.in_flight = 0
        self.peak_in_flight = 0
        self.peak_waiters = 0
        self.wait_reason: RequestWaitReason | None = None
        """What keeps the head of its queue waiting; None while nothing waits."""
        self.last_outcome: RequestOutcomeKind | None = None
        self.refused_releases: dict[str, int] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.probe_timer: asyncio.TimerHandle | None = None
        self.budget_timer: asyncio.TimerHandle | None = None

    @property
    def suspended(self) -> bool:
        return self.availability.state == "suspended"

    def has_room(self, now: float) -> bool:
        """Whether its own limit admits another call; the aggregate cap is not considered."""
        return (
            self.availability.state == "up"
            and self.in_flight < self.limits.limit
            and not self.limits.cooling(now)
            and self.last_budget_to_open(now) is None
        )

    def last_budget_to_open(self, now: float) -> Opening | None:
        """The budget, or learned rate, that holds another call up for longest; None for none."""
        shared = self.provider_model.last_budget_to_open(now)
        if self.learned_rate.rate is None:
            return shared
        learned = self.learned_rate.opens_at(now)
        rate = None if learned is None else Opening(learned, "requests")
        return last_opening((shared, rate), now)

    def obstacle(self, now: float) -> RequestWaitReason | None:
        """What prevents another call at this instant; None for nothing."""
        limits = self.limits
        if self.availability.state != "up":
            return "outage" if self.availability.state == "out" else "suspended"
        if limits.cooling(now):
            return "cooldown"
        if self.in_flight >= limits.limit:
            if limits.ramping:
                return "ramp"
            return "request_plateau" if limits.held_by_plateau else "domain_limit"
        if self.last_budget_to_open(now) is not None:
            return "request_rate_budget"
        shared = self.provider_model
        if shared.in_flight >= shared.static_cap or shared.provider.full:
            return "aggregate_cap"
        return None

    def obstacle_ends_at(self, obstacle: RequestWaitReason | None, now: float) -> float | None:
        """Monotonic time at which the obstacle ends by itself; None where that is not known."""
        if obstacle == "request_rate_budget":
            last = self.last_budget_to_open(now)
            return None if last is None else last.at
        if obstacle == "cooldown":
            return self.limits.blocked_until
        if obstacle == "ramp":
            return self.limits.next_step_at()
        if obstacle == "outage":
            return self.availability.next_probe_at
        return None

    def waiters(self) -> int:
        return self.provider_model.queue.waiting(self.key)

    def snapshot(self, now: float, sequence: int) -> PressureSnapshot:
        limits = self.limits
        blocked_until = limits.blocked_until
        return PressureSnapshot(
            self.key,
            now,
            sequence,
            limits.effective_max,
            limits.limit,
            self.in_flight,
            self.in_flight,
            self.waiters(),
            blocked_until,
            0.0 if blocked_until is None else max(0.0, blocked_until - now),
            limits.soft_ceiling,
            limits.consecutive_rate_limits,
            self.last_outcome,
            MappingProxyType(dict(self.refused_releases)) if self.refused_releases else _NOTHING,
        )

    def keyframe(self) -> dict[str, Any]:
        """What a keyframe holds of the resource."""
        limits = self.limits
        facts = {
            "static_cap": self.provider_model.static_cap,
            "effective_max": limits.effective_max,
            "limit": limits.limit,
            "in_flight": self.in_flight,
            "waiters": self.waiters(),
            "wait_reason": self.wait_reason,
            "blocked_until": limits.blocked_until,
            "soft_ceiling": limits.soft_ceiling,
            "consecutive_rate_limits": limits.consecutive_rate_limits,
            "last_outcome": self.last_outcome,
            "availability": None if self.availability.state == "up" else self.availability.state,
        }
        return {name: value for name, value in facts.items() if value is not None}


class CapChange(NamedTuple):
    """A registration lowered this resource's cap."""

    state: ResourceState
    previous: int
    transitions: tuple[LimitTransition, ...]


class Registration(NamedTuple):
    """What the registration of a resource has changed."""

    state: ResourceState
    new: bool
    """A new resource, or a new alias or cap of a known one."""
    cap_changes: tuple[CapChange, ...]


class RequestResources:
    """Resources by key and by provider/model. Caps are merged here and nowhere else."""

    def __init__(self, config: RequestAdmissionConfig, source: random.Random) -> None:
        self._config = config
        self._random = source
        self._resources: dict[RequestResourceKey, ResourceState] = {}
        self._provider_models: dict[ProviderModelKey, ProviderModelState] = {}
        self._providers: dict[str, ProviderState] = {}

    def __iter__(self) -> Iterator[ResourceState]:
        return iter(self._resources.values())

    def __getitem__(self, key: RequestResourceKey) -> ResourceState:
        return self._resources[key]

    def get(self, key: RequestResourceKey) -> ResourceState | None:
        return self._resources.get(key)

    def provider(self, name: str) -> ProviderState:
        return self._providers.setdefault(name, ProviderState())

    def provider_model(self, key: ProviderModelKey) -> ProviderModelState | None:
        return self._provider_models.get(key)

    def provider_models(self) -> Iterator[ProviderModelState]:
        return iter(self._provider_models.values())

    def register(
        self, key: RequestResourceKey, static_cap: int, alias: str, now: float
    ) -> Registration:
        """Register a resource. The cap of a provider/model is the minimum over its aliases, so that
        their order does not matter."""
        if static_cap < 1:
            raise ValueError(f"the cap of {alias} must be at least 1")
        shared = self._provider_models.get(key.provider_model)
        if shared is None:
            shared = ProviderModelState(
                key.provider_model, static_cap, self.provider(key.provider_name)
            )
            self._provider_models[key.provider_model] = shared
        raw_cap = min(static_cap, shared.raw_caps.get(alias, static_cap))
        new = shared.raw_caps.get(alias) != raw_cap
        shared.raw_caps[alias] = raw_cap
        cap_changes = self._lower_cap(shared, raw_cap, now)
        state = self._resources.get(key)
        if state is None:
            new = True
            limits = AdaptiveRequestLimitState(self._config, shared.static_cap, now)
            state = self._resources[key] = ResourceState(
                key, shared, limits, Availability(self._config, self._random)
            )
            shared.resources.append(state)
        return Registration(state, new, cap_changes)

    def _lower_cap(self, shared: ProviderModelState, cap: int, now: float) -> tuple[CapChange, ...]:
        if cap >= shared.static_cap:
            return ()
        previous, shared.static_cap = shared.static_cap, cap
        return tuple(
            CapChange(state, previous, state.limits.set_effective_max(cap, now))
            for state in shared.resources
        )

    def keyframe(self) -> dict[str, Any]:
        """The `requests` and `aggregates` of a keyframe."""
        return {
            "requests": {state.label: state.keyframe() for state in self},
            "aggregates": {
                shared.key.label: shared.keyframe() for shared in self._provider_models.values()
            },
        }
