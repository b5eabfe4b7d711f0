"""The keys that resolution, request admission, capacity plan and events share.

Keys compare and hash by value. A *label* is the form of a key, as one string, that events and
screens use. The keys of task admission cache their hash: each dispatch looks them up dozens of
times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec

RequestDomain = Literal["chat", "embedding", "image", "healthcheck"]


class ProviderModelKey(NamedTuple):
    """One model of one provider, after alias resolution: the owner of a static cap."""

    provider_name: str
    model_id: str

    @property
    def label(self) -> str:
        return f"{self.provider_name}/{self.model_id}"


class ModelAlias(NamedTuple):
    """A name that a workflow gives to an endpoint, with the cap that it sets for it."""

    alias: str
    endpoint: ProviderModelKey
    raw_cap: int


class StaticCap(msgspec.Struct, frozen=True):
    """The cap of one provider/model: the minimum over the aliases that share the endpoint."""

    cap: int
    aliases: tuple[str, ...]
    raw_caps: dict[str, int]
    merge_rule: Literal["min_same_endpoint"] = "min_same_endpoint"


def merge_static_caps(aliases: Iterable[ModelAlias]) -> dict[ProviderModelKey, StaticCap]:
    """The cap of each endpoint, sorted by endpoint. The order of the aliases does not matter."""
    raw_caps: dict[ProviderModelKey, dict[str, int]] = {}
    for alias in sorted(aliases):
        raw_caps.setdefault(alias.endpoint, {})[alias.alias] = alias.raw_cap
    return {
        endpoint: StaticCap(min(caps.values()), tuple(caps), caps)
        for endpoint, caps in sorted(raw_caps.items())
    }


class RequestResourceKey(NamedTuple):
    """What one outbound request needs a lease for."""

    provider_name: str
    model_id: str
    domain: RequestDomain

    @property
    def provider_model(self) -> ProviderModelKey:
        return ProviderModelKey(self.provider_name, self.model_id)

    @property
    def label(self) -> str:
        return f"{self.provider_name}/{self.model_id}/{self.domain}"


class RequestResourceResolver:
    """Resolves aliases to request resources.

    Nothing else makes a request resource from an alias, so that no alias can evade a cap.
    """

    def __init__(self, aliases: Iterable[ModelAlias]) -> None:
        by_name = {alias.alias: alias for alias in sorted(aliases)}
        self._endpoints = {name: alias.endpoint for name, alias in by_name.items()}
        self.raw_caps: Mapping[str, int] = {name: alias.raw_cap for name, alias in by_name.items()}
        """By alias."""
        self.static_caps = merge_static_caps(by_name.values())

    def __iter__(self) -> Iterator[str]:
        """The aliases, sorted by name."""
        return iter(self._endpoints)

    def resolve(self, alias: str, domain: RequestDomain) -> RequestResourceKey:
        """Raises `KeyError` for an alias that the workflow does not name."""
        return RequestResourceKey(*self._endpoints[alias], domain)

    def cap(self, alias: str) -> int:
        """The cap of its endpoint, over all aliases that share it."""
        return self.static_caps[self._endpoints[alias]].cap


class SchedulerResourceKey(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """A task-stage resource: `submission`, `local:<name>`, `model_stage:<provider>/<model>`.

    Never a request-domain key: it measures scheduler pressure, not request concurrency.
    """

    kind: str
    identity: str = ""

    @property
    def label(self) -> str:
        return f"{self.kind}:{self.identity}" if self.identity else self.kind


class TaskGroupKey(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """A fair-queueing group: resource identity plus the flow (output columns) it feeds."""

    kind: str
    identity: tuple[str, ...]

    @property
    def label(self) -> str:
        """The group as events name it."""
        return "/".join(self.identity)

    @property
    def identity_hash(self) -> str:
        """16 hex digits, stable across runs and processes."""
        return hashlib.sha256("\x1f".join((self.kind, *self.identity)).encode()).hexdigest()[:16]


class PressureSnapshot(NamedTuple):
    """Read-only request pressure of one resource at one instant (times are monotonic seconds)."""

    resource: RequestResourceKey
    captured_at: float
    sequence: int
    """Sequence number of the last request event before it; 0 for none."""
    effective_max: int
    current_limit: int
    in_flight_count: int
    active_lease_count: int
    """Leases not yet released; each counts in flight from its issue to its release."""
    waiters: int
    blocked_until_monotonic: float | None
    """End of the last cooldown, also when it has passed."""
    cooldown_remaining_seconds: float
    rate_limit_ceiling: int | None
    """The limit at the last cut, until the limit has recovered."""
    consecutive_rate_limits: int
    last_outcome: str | None
    leak_counters: Mapping[str, int]
    """Refused releases by reason."""


class GlobalPressureSnapshot(NamedTuple):
    """Request pressure of one provider/model over all its domains at one instant."""

    provider_model: ProviderModelKey
    captured_at: float
    sequence: int
    static_cap: int
    in_flight_count: int
    active_lease_count: int
    waiters: int
    aliases: tuple[str, ...]
    raw_caps: Mapping[str, int]
    """By alias."""
    limits: Mapping[str, int]
    """Current limit by domain."""


class RequestPressureSnapshotProvider(Protocol):
    """The read-only view of request pressure that task admission may use.

    Returns None for what is not registered. A snapshot is immutable and costs O(domains).
    """

    def snapshot(self, resource: RequestResourceKey) -> PressureSnapshot | None:
        """The pressure on one resource; None where it is not registered."""

    def snapshots(self) -> tuple[PressureSnapshot, ...]:
        """The pressure on every resource."""

    def global_snapshot(self, provider: str, model: str) -> GlobalPressureSnapshot | None:
        """The pressure on a model over all its domains; None where none is registered."""

    def global_snapshots(self) -> tuple[GlobalPressureSnapshot, ...]:
        """The pressure on every model over all its domains."""
