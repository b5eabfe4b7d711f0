"""Values of the capacity plan: those configured, with their sources, and those observed.

Precedence by field. Buffer size, row groups: run config, default. Task limits: benchmark override,
run config, default. Static cap: model metadata alone. Request admission: the run's tuning,
benchmark override, default, clamped under the cap. Transport pool: the adapter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.capacity_plan import (
    AsyncCapacityPlan,
    CapacitySource,
    CapacityValue,
    ConfiguredCapacity,
    ObservedMaxima,
    RowGroupCapacity,
    RuntimeCapacity,
    observed,
)
from engine.identity import ProviderModelKey, RequestDomain, SchedulerResourceKey, StaticCap
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.pressure import RequestPressure
from engine.scheduling.peaks import SchedulerPeaks
from engine.workflow.schema import OpenAIProvider, Workflow


def configured_capacity(
    workflow: Workflow,
    limits: Mapping[SchedulerResourceKey, int],
    caps: Mapping[ProviderModelKey, StaticCap],
    request_admission: RequestAdmissionConfig,
    *,
    row_group_mode: str = "fixed",
    overridden: bool = False,
) -> AsyncCapacityPlan:
    """The plan before the run. `overridden`: a benchmark chose the request admission to which the
    tuning of the workflow was applied."""
    run = workflow.run

    def setting(name: str) -> CapacitySource:
        return "run_config" if name in run.model_fields_set else "default"

    untuned: CapacitySource = "benchmark_override" if overridden else "default"
    tuned = bool(run.request_tuning.given)
    concurrency = CapacityValue(run.max_concurrent_row_groups, setting("max_concurrent_row_groups"))
    initial = request_admission.initial_limit
    resources = request_resources(workflow)
    adaptive_rows = row_group_mode != "fixed"
    return AsyncCapacityPlan.of(
        ConfiguredCapacity(
            buffer_size=CapacityValue(run.buffer_size, setting("buffer_size")),
            row_group_admission=RowGroupCapacity(
                row_group_concurrency=concurrency,
                mode=CapacityValue(
                    row_group_mode, "engine_internal_config" if adaptive_rows else "default"
                ),
                initial_target=(
                    CapacityValue(1, "engine_internal_config") if adaptive_rows else concurrency
                ),
                max_admitted_rows=CapacityValue(
                    run.max_concurrent_row_groups * run.buffer_size, concurrency.source
                ),
            ),
            submission_capacity=CapacityValue(
                run.max_in_flight_tasks, setting("max_in_flight_tasks")
            ),
            task_resource_limits=CapacityValue(
                {key.label: limit for key, limit in limits.items()}, "model_metadata"
            ),
            request_resources=CapacityValue(
                tuple(f"{key.label}/{domain}" for key, domain in resources),
                "model_metadata",
            ),
            provider_model_static_caps=CapacityValue(
                {key.label: cap for key, cap in caps.items()}, "model_metadata"
            ),
            request_domain_initial_limits=CapacityValue(
                {
                    f"{key.label}/{domain}": min(initial or caps[key].cap, caps[key].cap)
                    for key, domain in resources
                },
                "model_metadata" if initial is None else untuned,
                fallback_from=None if initial is None else "model_metadata",
            ),
            request_admission_config=CapacityValue(
                dataclasses.asdict(request_admission),
                "run_config" if tuned else untuned,
                fallback_from=untuned if tuned else None,
            ),
            transport_pool_limits=CapacityValue(pool_limits(workflow, caps), "adapter_config"),
        )
    )


def capacity_at_end(
    plan: AsyncCapacityPlan, pressure: RequestPressure, peaks: SchedulerPeaks
) -> AsyncCapacityPlan:
    """`plan` with the values that were observed until now."""
    by_resource, overall = pressure.snapshots(), pressure.global_snapshots()
    maxima = pressure.peaks()
    return msgspec.structs.replace(
        plan,
        runtime_snapshot=RuntimeCapacity(
            current_limits=observed(
                {snapshot.resource.label: snapshot.current_limit for snapshot in by_resource}
            ),
            effective_max=observed(
                {snapshot.resource.label: snapshot.effective_max for snapshot in by_resource}
            ),
            blocked_until=observed(
                {
                    snapshot.resource.label: snapshot.blocked_until_monotonic
                    for snapshot in by_resource
                    if snapshot.blocked_until_monotonic is not None
                }
            ),
            aggregate_in_flight=observed(
                {snapshot.provider_model.label: snapshot.in_flight_count for snapshot in overall}
            ),
            row_group_target=observed(peaks.target),
            row_group_block_reasons=observed(peaks.block_reasons),
        ),
        observed_maxima=ObservedMaxima(
            row_groups_in_flight=observed(peaks.row_groups_in_flight),
            row_group_target=observed(peaks.highest_target),
            queued_by_group=observed(_labelled(peaks.queued)),
            leases_by_resource=observed(_labelled(peaks.leased)),
            waiters_by_resource=observed(maxima.waiters),
            in_flight_by_resource=observed(maxima.in_flight),
            aggregate_in_flight=observed(maxima.aggregate_in_flight),
            current_limits=observed(maxima.limits),
            transport_utilisation=observed(
                None, "the clients do not tell how many of their connections are in use"
            ),
        ),
    )


def request_resources(workflow: Workflow) -> list[tuple[ProviderModelKey, RequestDomain]]:
    """Endpoints with what is wanted of them, sorted."""
    checked: tuple[RequestDomain, ...] = ("healthcheck",) if workflow.run.health_check else ()
    wanted = {
        (ProviderModelKey(model.provider, model.model), domain)
        for alias, model in workflow.models.items()
        for domain in (*workflow.domains(alias), *checked)
    }
    return sorted(wanted)


def pool_limits(workflow: Workflow, caps: Mapping[ProviderModelKey, StaticCap]) -> dict[str, int]:
    """Connections by provider: the sum of its caps."""
    limits = dict.fromkeys(workflow.providers, 0)
    for endpoint, cap in caps.items():
        limits[endpoint.provider_name] += cap.cap
    return limits


def socket_limits(workflow: Workflow, caps: Mapping[ProviderModelKey, StaticCap]) -> dict[str, int]:
    """`pool_limits` of the providers that are reached over a network."""
    return {
        name: limit
        for name, limit in pool_limits(workflow, caps).items()
        if isinstance(workflow.providers[name], OpenAIProvider)
    }


def _labelled(amounts: Mapping[Any, int]) -> dict[str, int]:
    return {key.label: amount for key, amount in amounts.items()}
