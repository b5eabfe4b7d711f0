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


class CapacityValue(msgspec.Struct, Generic[T], frozen=True):
    """A value with its provenance; `missing_reason` is set exactly where `value` is None."""

    value: T | None
    source: CapacitySource
    fallback_from: CapacitySource | None = None
    missing_reason: str | None = None


class RowGroupCapacity(msgspec.Struct, frozen=True):
    row_group_concurrency: CapacityValue[int]
    mode: CapacityValue[str]
    initial_target: CapacityValue[int]
    max_admitted_rows: CapacityValue[int]


class ConfiguredCapacity(msgspec.Struct, frozen=True):
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


class AsyncCapacityPlan(msgspec.Struct, frozen=True):
    configured: ConfiguredCapacity

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible form, for the recording."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain
