"""`AsyncCapacityPlan`: which capacity values a run uses, and where each comes from.

The plan is a report: nothing is admitted by it. Every field is present; a value that is not known
says why. `engine.run.capacity_values` fills it; of the engine only telemetry reads it.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec

from engine.identity import StaticCap

CapacitySource = Literal[
    "default",
    "run_config",
    "dataset_builder",
    "model_metadata",
    "engine_internal_config",
    "adapter_config",
    "environment",
    "runtime_snapshot",
    "benchmark_override",
]

T = TypeVar("T")


class CapacityValue(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """A value with its source; `missing_reason` is set if and only if `value` is None."""

    value: T | None
    source: CapacitySource
    fallback_from: CapacitySource | None = None
    """Source of the part of the value that `source` does not give."""
    missing_reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.missing_reason):
            raise ValueError("a capacity value is either known, or says why it is not")


class RowGroupCapacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many rows may be under way at once."""

    row_group_concurrency: CapacityValue[int]
    mode: CapacityValue[str]
    initial_target: CapacityValue[int]
    max_admitted_rows: CapacityValue[int]


class ConfiguredCapacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The values set before the run; none of them was observed."""

    buffer_size: CapacityValue[int]
    row_group_admission: RowGroupCapacity
    submission_capacity: CapacityValue[int]
    task_resource_limits: CapacityValue[dict[str, int]]
    request_resources: CapacityValue[tuple[str, ...]]
    provider_model_static_caps: CapacityValue[dict[str, StaticCap]]
    request_domain_initial_limits: CapacityValue[dict[str, int]]
    request_admission_config: CapacityValue[dict[str, Any]]
    transport_pool_limits: CapacityValue[dict[str, int]]


class RuntimeCapacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The values at one instant. Maps are by label, times are monotonic seconds."""

    current_limits: CapacityValue[dict[str, int]]
    effective_max: CapacityValue[dict[str, int]]
    blocked_until: CapacityValue[dict[str, float]]
    """Ends of the last cooldowns of resources that were rate-limited; they may have passed."""
    aggregate_in_flight: CapacityValue[dict[str, int]]
    row_group_target: CapacityValue[int]
    row_group_block_reasons: CapacityValue[tuple[str, ...]]
    """Why the next row group could not start; empty if it could."""


class ObservedMaxima(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Maxima over the run; maps are by label."""

    row_groups_in_flight: CapacityValue[int]
    row_group_target: CapacityValue[int]
    queued_by_group: CapacityValue[dict[str, int]]
    leases_by_resource: CapacityValue[dict[str, int]]
    waiters_by_resource: CapacityValue[dict[str, int]]
    in_flight_by_resource: CapacityValue[dict[str, int]]
    aggregate_in_flight: CapacityValue[dict[str, int]]
    current_limits: CapacityValue[dict[str, int]]
    transport_utilisation: CapacityValue[dict[str, float]]
    """Share of the connections of each provider's pool that were in use."""


class AsyncCapacityPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run may use at once: as configured, at this instant, and at most so far."""

    configured: ConfiguredCapacity
    runtime_snapshot: RuntimeCapacity
    observed_maxima: ObservedMaxima

    @classmethod
    def of(cls, configured: ConfiguredCapacity) -> AsyncCapacityPlan:
        """A plan before anything was observed."""
        unknown = observed(None, "the run has not ended")
        return cls(
            configured,
            RuntimeCapacity(*[unknown] * len(RuntimeCapacity.__struct_fields__)),
            ObservedMaxima(*[unknown] * len(ObservedMaxima.__struct_fields__)),
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible form, for the recording."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def observed_part(self) -> dict[str, Any]:
        """As `as_dict`, without the configured values."""
        plain = self.as_dict()
        del plain["configured"]
        return plain


def observed(value: Any, missing_reason: str | None = None) -> CapacityValue[Any]:
    """A value that was observed in the run."""
    return CapacityValue(value, "runtime_snapshot", missing_reason=missing_reason)
