"""`AsyncCapacityPlan`: which capacity values a run uses, and where each comes from.

Read-only: it admits nothing. Every field is always there; what is not known says why.
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
    """A value with its provenance; `missing_reason` is set exactly where `value` is None."""

    value: T | None
    source: CapacitySource
    fallback_from: CapacitySource | None = None
    """Where a part of it had to come from instead."""
    missing_reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.missing_reason):
            raise ValueError("a capacity value is either known, or says why it is not")


class RowGroupCapacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    row_group_concurrency: CapacityValue[int]
    mode: CapacityValue[str]
    initial_target: CapacityValue[int]
    max_admitted_rows: CapacityValue[int]


class ConfiguredCapacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was set before the run; nothing in here was observed."""

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
    """What held at one instant; maps are by label, times monotonic seconds."""

    current_limits: CapacityValue[dict[str, int]]
    effective_max: CapacityValue[dict[str, int]]
    blocked_until: CapacityValue[dict[str, float]]
    """Of the resources that were rate-limited; a time that has passed blocks no more."""
    aggregate_in_flight: CapacityValue[dict[str, int]]
    row_group_target: CapacityValue[int]
    row_group_block_reasons: CapacityValue[tuple[str, ...]]
    """Why the next row group could not start; none where nothing stood in its way."""


class ObservedMaxima(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most there was of each at any one time; maps are by label."""

    row_groups_in_flight: CapacityValue[int]
    row_group_target: CapacityValue[int]
    queued_by_group: CapacityValue[dict[str, int]]
    leases_by_resource: CapacityValue[dict[str, int]]
    waiters_by_resource: CapacityValue[dict[str, int]]
    in_flight_by_resource: CapacityValue[dict[str, int]]
    aggregate_in_flight: CapacityValue[dict[str, int]]
    current_limits: CapacityValue[dict[str, int]]
    transport_utilisation: CapacityValue[dict[str, float]]
    """Share of its connections that a provider's pool had in use."""


class AsyncCapacityPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    configured: ConfiguredCapacity
    runtime_snapshot: RuntimeCapacity
    observed_maxima: ObservedMaxima

    @classmethod
    def of(cls, configured: ConfiguredCapacity) -> AsyncCapacityPlan:
        """Before anything was observed."""
        unknown = observed(None, "the run has not ended")
        return cls(
            configured,
            RuntimeCapacity(*[unknown] * len(RuntimeCapacity.__struct_fields__)),
            ObservedMaxima(*[unknown] * len(ObservedMaxima.__struct_fields__)),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible form, for the recording."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def observed_part(self) -> dict[str, Any]:
        """As `as_dict`, without what was configured."""
        plain = self.as_dict()
        del plain["configured"]
        return plain


def observed(value: Any, missing_reason: str | None = None) -> CapacityValue[Any]:
    """A value that the run itself showed."""
    return CapacityValue(value, "runtime_snapshot", missing_reason=missing_reason)
