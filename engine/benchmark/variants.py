"""The variants that a scenario can be run with: a policy or a configuration, by its name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from engine.request_admission.config import RequestAdmissionConfig
from engine.run.plan import RunPlan, plan_run
from engine.scheduling.config import TaskAdmissionConfig
from engine.scheduling.resolver import SUBMISSION
from engine.workflow.load import LoadedWorkflow

DEFAULT = "default"


@dataclass(frozen=True)
class Variant:
    """A configuration of the engine under which a scenario is measured."""

    title: str
    task_admission: TaskAdmissionConfig = field(default_factory=TaskAdmissionConfig)
    request_admission: RequestAdmissionConfig | None = None
    """None leaves it to the workflow."""


VARIANTS = {
    DEFAULT: Variant("what a run takes unless it is told otherwise"),
    "strict-fair": Variant(
        "strict shares, blind to request pressure",
        TaskAdmissionConfig(shares="strict_fair", provider_aware=False),
    ),
    "bounded-borrow": Variant(
        "shares that may be borrowed, blind to request pressure",
        TaskAdmissionConfig(shares="bounded_borrow", provider_aware=False),
    ),
    "provider-aware": Variant(
        "bounded borrow that passes over work of a provider under pressure",
        TaskAdmissionConfig(shares="bounded_borrow", provider_aware=True),
    ),
    "adaptive-row-groups": Variant(
        "row groups admitted one more at a time", TaskAdmissionConfig(adaptive_row_groups=True)
    ),
    "published-recovery": Variant(
        "request limits recover by one step per 25 successes",
        request_admission=RequestAdmissionConfig(recovery="published"),
    ),
}


def plan_variant(loaded: LoadedWorkflow, variant: Variant, *, inline: bool) -> RunPlan:
    """A workflow's plan under the variant's policies. Raises `UserError` as `plan_run` does."""
    plan = plan_run(loaded, inline_functions=inline, task_admission=variant.task_admission)
    if variant.request_admission is None:
        return plan
    return dataclasses.replace(plan, request_admission=variant.request_admission)


def serial_plan(loaded: LoadedWorkflow) -> RunPlan:
    """One task at a time: what its rows hash to is what every other run's have to."""
    plan = plan_run(loaded, inline_functions=True)
    return dataclasses.replace(plan, limits={**plan.limits, SUBMISSION: 1})
