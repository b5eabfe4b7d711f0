"""What is decided before a run starts: groups, limits, caps, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import UserError
from engine.metadata import SchedulingMetadata, SchedulingMetadataError
from engine.run.plan import RunPlan, plan_run
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import CustomColumn, LlmTextColumn, Model, ScriptedProvider, Workflow

WORK = {
    "providers": {"p": ScriptedProvider(), "q": ScriptedProvider()},
    "models": {
        "writer": Model(provider="p", model="m", max_parallel_requests=9),
        "twin": Model(provider="p", model="m", max_parallel_requests=4),
        "judge": Model(provider="q", model="j", max_parallel_requests=2),
    },
}


class OnGpu:
    """A user's generator: a callable object that says what it works on."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell

    def __call__(self, row: dict[str, Any]) -> int:
        return 1

    def get_scheduling_metadata(self) -> SchedulingMetadata:
        if isinstance(self._tell, Exception):
            raise self._tell
        metadata: SchedulingMetadata = self._tell
        return metadata


def loaded(function: Any, columns: tuple[LlmTextColumn, ...] = (), **models: Any) -> LoadedWorkflow:
    custom = CustomColumn(name="c", function=function, **models)
    workflow = Workflow(name="w", records=2, columns=[*columns, custom], **WORK)
    return LoadedWorkflow(workflow, None, {"c": function})


def plan(function: Any, columns: tuple[LlmTextColumn, ...] = (), **models: Any) -> RunPlan:
    return plan_run(loaded(function, columns, **models), inline_functions=True)


def test_a_users_generator_says_what_it_works_on() -> None:
    metadata = SchedulingMetadata("custom_model", ("custom_model", "team", "tool", "v2"), 3)
    made = plan(OnGpu(metadata), models=["writer", "judge"])
    [column] = made.columns
    assert column.scheduling.group.key.label == "custom_model/team/tool/v2/c"
    assert {key.label: limit for key, limit in made.limits.items()} == {
        "submission": 256,
        "model_stage:team/tool": 6,
    }


def test_a_fallback_becomes_a_diagnostic_of_the_plan() -> None:
    local = SchedulingMetadata("local", ("local", "cpu"))
    error = SchedulingMetadataError("no_gpu", "no GPU is here; the CPU does the same work", local)
    [diagnostic] = plan(OnGpu(error)).metadata_diagnostics
    assert (diagnostic.column, diagnostic.code) == ("c", "no_gpu")


def test_the_limit_of_a_stage_is_that_of_its_endpoint_whatever_its_columns_ask_for() -> None:
    lower = SchedulingMetadata("model", ("model", "p", "m", "chat"), 1)
    text = LlmTextColumn(name="text", model="writer", prompt="Hi")
    for columns in ((), (text,)):
        made = plan(OnGpu(lower), columns, models=["writer"])
        limits = {key.label: limit for key, limit in made.limits.items()}
        assert limits["model_stage:p/m"] == 2 * 4
        weights = {column.name: column.scheduling.group.weight for column in made.columns}
        assert weights == {"c": 1.0, **({"text": 4.0} if columns else {})}


def test_the_capacity_plan_keeps_every_alias_and_raw_cap() -> None:
    caps = plan(lambda row: 1).capacity.configured.provider_model_static_caps
    assert caps.source == "model_metadata"
    assert caps.value is not None
    merged = caps.value["p/m"]
    assert (merged.cap, merged.aliases, merged.merge_rule) == (
        4,
        ("twin", "writer"),
        "min_same_endpoint",
    )
    assert merged.raw_caps == {"twin": 4, "writer": 9}


def test_bad_metadata_is_refused_by_the_plan() -> None:
    bad = loaded(OnGpu(KeyError("secret")))
    with pytest.raises(UserError, match='column "c": get_scheduling_metadata failed with KeyErr'):
        plan_run(bad)
