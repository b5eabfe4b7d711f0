"""`plan_run`: everything about a run that is decided before it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.capacity import (
    AsyncCapacityPlan,
    CapacitySource,
    CapacityValue,
    ConfiguredCapacity,
    RowGroupCapacity,
)
from engine.events import ColumnInfo, RunInfo
from engine.generators import build_generators
from engine.generators.base import ColumnGenerator
from engine.identity import ProviderModelKey, SchedulerResourceKey, StaticCap
from engine.request_admission.config import RequestAdmissionConfig
from engine.row_groups import RowGroupSpec, split_rows
from engine.scheduler import ColumnPlan
from engine.scheduling.config import TaskAdmissionConfig
from engine.scheduling.resolver import SUBMISSION, MetadataDiagnostic, TaskSchedulingResolver
from engine.version import VERSION
from engine.workflow.endpoints import static_caps
from engine.workflow.load import LoadedWorkflow
from engine.workflow.model import RunSettings, Workflow

_DEFAULT_TASK_ADMISSION = TaskAdmissionConfig()


@dataclass(frozen=True)
class RunPlan:
    workflow: Workflow
    generators: Mapping[str, ColumnGenerator]
    columns: tuple[ColumnPlan, ...]
    """In topological order."""
    row_groups: tuple[RowGroupSpec, ...]
    limits: Mapping[SchedulerResourceKey, int]
    static_caps: Mapping[ProviderModelKey, StaticCap]
    task_admission: TaskAdmissionConfig
    request_admission: RequestAdmissionConfig
    capacity: AsyncCapacityPlan
    metadata_diagnostics: tuple[MetadataDiagnostic, ...] = ()
    """Fallbacks taken in place of what generators told; a run tells them as its first events."""

    def describe(self, run_id: str, wall_start: float, monotonic_start: float) -> RunInfo:
        """The run as its journal tells it: names and numbers, no prompts, no keys."""
        workflow = self.workflow
        return RunInfo(
            run_id=run_id,
            name=workflow.name,
            producer_version=VERSION,
            wall_start=wall_start,
            monotonic_start=monotonic_start,
            records=workflow.records,
            row_groups=len(self.row_groups),
            columns=tuple(_describe(column, workflow) for column in self.columns),
            resource_limits={key.label: limit for key, limit in self.limits.items()},
            configuration={
                "seed": workflow.seed,
                "run": workflow.run.model_dump(exclude_none=True),
                "models": {
                    alias: {
                        "provider": model.provider,
                        "model": model.model,
                        "max_parallel_requests": model.max_parallel_requests,
                    }
                    for alias, model in workflow.models.items()
                },
                "providers": {name: p.type for name, p in workflow.providers.items()},
                "task_admission": self.task_admission.as_dict(),
            },
            capacity_plan=self.capacity.as_dict(),
        )


def plan_run(
    loaded: LoadedWorkflow,
    *,
    inline_functions: bool = False,
    task_admission: TaskAdmissionConfig = _DEFAULT_TASK_ADMISSION,
) -> RunPlan:
    """What the workflow sets goes before `task_admission`. Raises `UserError`, of which
    `SchedulingMetadataError` is one, for what can't be run.

    `inline_functions` runs sync user functions on the loop, as virtual time demands.
    """
    workflow = loaded.workflow
    generators = build_generators(loaded, inline_functions=inline_functions)
    caps = static_caps(workflow.models)
    resolver = TaskSchedulingResolver(
        static_caps={endpoint: cap.cap for endpoint, cap in caps.items()}
    )
    columns = []
    for name in workflow.graph.order:
        generator = generators[name]
        columns.append(
            ColumnPlan(
                name=name,
                task_type=generator.task_type,
                depends_on=tuple(workflow.column(name).dependencies()),
                scheduling=resolver.resolve(name, generator, (name,)),
                request_resource=generator.request_resource(),
            )
        )
    task_admission = task_config(workflow.run, task_admission)
    limits = {
        SUBMISSION: workflow.run.max_in_flight_tasks,
        **_stage_limits(columns, caps, task_admission.stage_leases_per_request_slot),
    }
    request_admission = RequestAdmissionConfig().tuned(workflow.run.request_tuning)
    return RunPlan(
        workflow=workflow,
        generators=generators,
        columns=tuple(columns),
        row_groups=tuple(split_rows(workflow.records, workflow.run.buffer_size)),
        limits=limits,
        static_caps=caps,
        task_admission=task_admission,
        request_admission=request_admission,
        capacity=_capacity(workflow, limits, caps, task_admission, request_admission),
        metadata_diagnostics=tuple(resolver.diagnostics),
    )


def _stage_limits(
    columns: Sequence[ColumnPlan],
    caps: Mapping[ProviderModelKey, StaticCap],
    leases_per_request_slot: int,
) -> dict[SchedulerResourceKey, int]:
    """Of each model stage in use: by the cap of its endpoint, or where the workflow knows none, by
    the largest weight of the columns that work on it."""
    slots: dict[SchedulerResourceKey, int] = {}
    for column in columns:
        group = column.scheduling.group
        for key in column.scheduling.resource_request.amounts:
            if key.kind == "model_stage":
                cap = caps.get(ProviderModelKey(*group.key.identity[1:3]))
                if cap is not None and group.key.kind == "model":
                    slots[key] = cap.cap
                else:
                    slots[key] = max(slots.get(key, 1), round(group.weight))
    return {key: leases_per_request_slot * slots[key] for key in slots}


def task_config(settings: RunSettings, config: TaskAdmissionConfig) -> TaskAdmissionConfig:
    """`config`, with what the workflow sets."""
    shares, aware = settings.task_shares, settings.provider_aware
    return dataclasses.replace(
        config,
        shares=config.shares if shares is None else shares,
        provider_aware=config.provider_aware if aware is None else aware,
    )


def _describe(column: ColumnPlan, workflow: Workflow) -> ColumnInfo:
    group, resource = column.scheduling.group, column.request_resource
    return ColumnInfo(
        name=column.name,
        kind=workflow.column(column.name).type,
        task_type=column.task_type,
        depends_on=column.depends_on,
        group=group.key.label,
        group_kind=group.key.kind,
        group_hash=group.key.identity_hash,
        group_weight=group.weight,
        resources=column.scheduling.resource_request.labels,
        request_resource=resource.label if resource is not None else None,
    )


def _capacity(
    workflow: Workflow,
    limits: Mapping[SchedulerResourceKey, int],
    caps: Mapping[ProviderModelKey, StaticCap],
    tasks: TaskAdmissionConfig,
    config: RequestAdmissionConfig,
) -> AsyncCapacityPlan:
    run = workflow.run

    def setting(name: str) -> CapacitySource:
        return "run_config" if name in run.model_fields_set else "default"

    concurrency = CapacityValue(run.max_concurrent_row_groups, setting("max_concurrent_row_groups"))
    return AsyncCapacityPlan(
        ConfiguredCapacity(
            buffer_size=CapacityValue(run.buffer_size, setting("buffer_size")),
            row_group_admission=RowGroupCapacity(
                row_group_concurrency=concurrency,
                mode=CapacityValue("adaptive", "engine_internal_config")
                if tasks.adaptive_row_groups
                else CapacityValue("fixed", "default"),
                initial_target=CapacityValue(1, "engine_internal_config")
                if tasks.adaptive_row_groups
                else concurrency,
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
                tuple(f"{key.label}/chat" for key in caps), "model_metadata"
            ),
            provider_model_static_caps=CapacityValue(
                {key.label: cap for key, cap in caps.items()}, "model_metadata"
            ),
            request_domain_initial_limits=CapacityValue(
                {f"{key.label}/chat": config.initial_limit or cap.cap for key, cap in caps.items()},
                "default",
                fallback_from="model_metadata",
            ),
            request_admission_config=CapacityValue(
                dataclasses.asdict(config), "run_config" if run.request_tuning.given else "default"
            ),
            transport_pool_limits=CapacityValue(pool_limits(workflow, caps), "adapter_config"),
        )
    )


def pool_limits(workflow: Workflow, caps: Mapping[ProviderModelKey, StaticCap]) -> dict[str, int]:
    """Connections per provider: as many as its caps let fly together."""
    limits = dict.fromkeys(workflow.providers, 0)
    for endpoint, cap in caps.items():
        limits[endpoint.provider_name] += cap.cap
    return limits
