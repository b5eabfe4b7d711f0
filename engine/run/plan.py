"""`plan_run`: everything about a run that is decided before it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.capacity_plan import AsyncCapacityPlan
from engine.events import ColumnInfo, RunInfo
from engine.identity import (
    ProviderModelKey,
    RequestDomain,
    RequestResourceKey,
    RequestResourceResolver,
    SchedulerResourceKey,
    StaticCap,
)
from engine.models.client import ModelRequest
from engine.models.health import HEALTH_PROMPT, HEALTH_SECONDS
from engine.request_admission.config import RequestAdmissionConfig
from engine.rows.admission import RowGroups
from engine.run.capacity_values import configured_capacity
from engine.run.warnings import start_warnings
from engine.scheduling.config import TaskAdmissionConfig
from engine.scheduling.plan import ColumnPlan
from engine.scheduling.resolver import SUBMISSION, MetadataDiagnostic, TaskSchedulingResolver
from engine.version import VERSION
from engine.workflow.columns.endpoint import endpoints_of
from engine.workflow.columns.generator import ColumnGenerator
from engine.workflow.endpoints import resource_resolver
from engine.workflow.generators import build_generators
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import RunSettings, Workflow

_DEFAULT_TASK_ADMISSION = TaskAdmissionConfig()


@dataclass(frozen=True)
class RunPlan:
    """What is decided before a run begins."""

    workflow: Workflow
    generators: Mapping[str, ColumnGenerator]
    columns: tuple[ColumnPlan, ...]
    """In topological order."""
    row_groups: RowGroups
    limits: Mapping[SchedulerResourceKey, int]
    resources: RequestResourceResolver
    task_admission: TaskAdmissionConfig
    request_admission: RequestAdmissionConfig
    capacity: AsyncCapacityPlan
    metadata_diagnostics: tuple[MetadataDiagnostic, ...] = ()
    """Fallbacks for metadata of generators; a run reports them as its first events."""
    warnings: tuple[tuple[str, str], ...] = ()
    """Code and sentence of what a user should know at the start."""
    folder: Path | None = None
    """Where the workflow file lies."""

    def describe(self, run_id: str, wall_start: float | None, monotonic_start: float) -> RunInfo:
        """The description of the run for its journal: names and numbers, no prompts, no keys.

        Args:
            run_id: Id of the run.
            wall_start: Unix seconds at the start; None under a virtual clock.
            monotonic_start: Monotonic seconds at the start.
        """
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

    def health_requests(self) -> list[ModelRequest]:
        """A request for each endpoint of the workflow, however many aliases share it."""
        return [
            replace(request, within_seconds=HEALTH_SECONDS)
            for resource, request in sorted(self._neutral_requests("healthcheck").items())
        ]

    def probe_requests(self) -> dict[RequestResourceKey, ModelRequest]:
        """What each resource is asked when it is out, to find out whether it answers again."""
        domains: tuple[RequestDomain, ...] = ("chat", "embedding", "healthcheck")
        return {
            resource: request
            for domain in domains
            for resource, request in self._neutral_requests(domain).items()
        }

    def _neutral_requests(self, domain: RequestDomain) -> dict[RequestResourceKey, ModelRequest]:
        """A request of neutral content for each endpoint, with the options of an alias of it."""
        models, providers = self.workflow.models, self.workflow.providers
        requests = {}
        for alias in models:
            wanted = self.workflow.domains(alias)
            if domain != "healthcheck" and domain not in wanted:
                continue
            checked_domain = domain if domain != "healthcheck" else wanted[0]
            endpoint = endpoints_of(models, providers, checked_domain)[alias]
            if checked_domain == "embedding":
                endpoint = endpoint.plain()
            resource = self.resources.resolve(alias, domain)
            requests[resource] = replace(endpoint.request(HEALTH_PROMPT), resource=resource)
        return requests


def plan_run(
    loaded: LoadedWorkflow,
    *,
    inline_functions: bool = False,
    task_admission: TaskAdmissionConfig = _DEFAULT_TASK_ADMISSION,
    request_admission: RequestAdmissionConfig | None = None,
) -> RunPlan:
    """Decide everything about a run that can be decided before it starts.

    Args:
        loaded: The workflow.
        inline_functions: Run synchronous user functions on the loop, as virtual time demands.
        task_admission: Policy of task admission; settings of the workflow take precedence.
        request_admission: Parameters of request limits; settings of the workflow take precedence.

    Raises:
        UserError: The workflow can't be run. A `SchedulingMetadataError` names the column.
    """
    workflow = loaded.workflow
    generators = build_generators(loaded, inline_functions=inline_functions)
    resources = resource_resolver(workflow.models)
    caps = resources.static_caps
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
                depends_on=workflow.graph.depends_on[name],
                scheduling=resolver.resolve(name, generator, (name,)),
                request_resource=generator.request_resource(),
            )
        )
    task_admission = task_config(workflow.run, task_admission)
    limits = {
        SUBMISSION: workflow.run.max_in_flight_tasks,
        **_stage_limits(columns, caps, task_admission.stage_leases_per_request_slot),
    }
    tuned = (request_admission or RequestAdmissionConfig()).tuned(workflow.run.request_tuning)
    return RunPlan(
        workflow=workflow,
        generators=generators,
        columns=tuple(columns),
        row_groups=RowGroups(workflow.records, workflow.run.buffer_size),
        limits=limits,
        resources=resources,
        task_admission=task_admission,
        request_admission=tuned,
        capacity=configured_capacity(
            workflow,
            limits,
            caps,
            tuned,
            row_group_mode="adaptive" if task_admission.adaptive_row_groups else "fixed",
            overridden=request_admission is not None,
        ),
        metadata_diagnostics=tuple(resolver.diagnostics),
        warnings=start_warnings(loaded),
        folder=None if loaded.path is None else loaded.path.parent,
    )


def _stage_limits(
    columns: Sequence[ColumnPlan],
    caps: Mapping[ProviderModelKey, StaticCap],
    leases_per_request_slot: int,
) -> dict[SchedulerResourceKey, int]:
    """Limit of each model stage in use, in proportion to the cap of its endpoint; if the workflow
    has none, to the largest weight of the columns that use the stage."""
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
    """`config` with the settings of the workflow."""
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
