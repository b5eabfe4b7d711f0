"""The capacity plan: every field is there, says where it comes from, or why it is not known."""

from __future__ import annotations

import copy
import typing
from typing import Any

import msgspec
import pytest

from engine.capacity_plan import (
    AsyncCapacityPlan,
    CapacityValue,
    ConfiguredCapacity,
    ObservedMaxima,
    RowGroupCapacity,
    RuntimeCapacity,
)
from engine.models.provider_script import Latency, RateLimitWindow
from engine.request_admission.config import RequestAdmissionConfig
from engine.run.plan import RunPlan, plan_run
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import (
    LlmTextColumn,
    Model,
    RunSettings,
    SamplerColumn,
    ScriptedProvider,
    Workflow,
)
from replay.projections.fold import Fold
from tests.engine_run import Ran, run_engine


def workflow(records: int = 12, **settings: Any) -> Workflow:
    return Workflow(
        name="w",
        records=records,
        providers={
            "p": ScriptedProvider(
                latency=Latency(mean=0.5, spread=0.1),
                rate_limits=(RateLimitWindow(start=0.4, end=1.0, retry_after=1.0),),
            )
        },
        models={
            "writer": Model(provider="p", model="m", max_parallel_requests=3),
            "judge": Model(provider="p", model="m", max_parallel_requests=5),
        },
        columns=[
            SamplerColumn(name="topic", categories={"a": 1, "b": 1}),
            LlmTextColumn(name="text", model="writer", prompt="About {{ topic }}"),
            LlmTextColumn(name="verdict", model="judge", prompt="Judge {{ text }}"),
        ],
        run=RunSettings(**settings),
    )


def planned(made: Workflow, request_admission: RequestAdmissionConfig | None = None) -> RunPlan:
    loaded = LoadedWorkflow(made, None, {})
    return plan_run(loaded, inline_functions=True, request_admission=request_admission)


def leaves(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The type of every field, those of parts included."""
    result: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(struct).items():
        if kind is RowGroupCapacity:
            result.update({f"{name}.{inner}": item for inner, item in leaves(kind).items()})
        else:
            result[name] = kind
    return result


@pytest.mark.parametrize("part", [ConfiguredCapacity, RuntimeCapacity, ObservedMaxima])
def test_every_field_of_the_plan_is_a_capacity_value(part: type[msgspec.Struct]) -> None:
    for name, kind in leaves(part).items():
        assert typing.get_origin(kind) is CapacityValue, name


def test_nothing_that_was_observed_is_configured() -> None:
    names = {name.rpartition(".")[2] for name in leaves(ConfiguredCapacity)}
    assert not names & set(leaves(ObservedMaxima))
    assert not names & set(leaves(RuntimeCapacity))


def spoil(plain: dict[str, Any], where: tuple[str, ...], value: Any) -> dict[str, Any]:
    spoilt = copy.deepcopy(plain)
    part = spoilt
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = value
    return spoilt


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("configured", "buffer_size"), 100),
        (("configured", "row_groups_in_flight"), {"value": 3, "source": "runtime_snapshot"}),
        (("configured", "row_group_admission", "mode"), "fixed"),
        (
            ("configured", "row_group_admission", "row_groups_in_flight"),
            {"value": 3, "source": "runtime_snapshot"},
        ),
        (("configured", "buffer_size"), {"value": None, "source": "default"}),
        (("configured", "buffer_size"), {"value": 1, "source": "default", "missing_reason": "x"}),
        (("configured", "buffer_size"), {"value": 1, "source": "hearsay"}),
        (("configured", "buffer_size"), {"value": 1, "source": "default", "observed": 1}),
        (("observed_maxima", "queued_by_group"), {"g": 4}),
    ],
)
def test_the_schema_rejects_what_is_no_capacity_value(
    where: tuple[str, ...], value: object
) -> None:
    plain = planned(workflow()).capacity.as_dict()
    assert msgspec.convert(plain, AsyncCapacityPlan).as_dict() == plain
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(spoil(plain, where, value), AsyncCapacityPlan)


def test_a_field_cannot_be_left_out() -> None:
    plain = planned(workflow()).capacity.as_dict()
    del plain["configured"]["transport_pool_limits"]
    with pytest.raises(msgspec.ValidationError, match="transport_pool_limits"):
        msgspec.convert(plain, AsyncCapacityPlan)


def test_the_run_config_goes_before_the_default() -> None:
    plain = planned(workflow()).capacity.configured
    assert (plain.buffer_size.value, plain.buffer_size.source) == (100, "default")
    given = planned(workflow(buffer_size=100, max_in_flight_tasks=7)).capacity.configured
    assert (given.buffer_size.value, given.buffer_size.source) == (100, "run_config")
    assert (given.submission_capacity.value, given.submission_capacity.source) == (7, "run_config")
    assert given.row_group_admission.row_group_concurrency.source == "default"


def test_the_static_cap_is_the_smallest_and_keeps_every_raw_one() -> None:
    caps = planned(workflow()).capacity.configured.provider_model_static_caps
    assert caps.value is not None
    assert (caps.value["p/m"].cap, caps.value["p/m"].raw_caps) == (3, {"judge": 5, "writer": 3})


def test_tuning_goes_before_a_benchmark_which_goes_before_the_default() -> None:
    override = RequestAdmissionConfig(initial_limit=9, increase_step=2, cooldown_seconds=5.0)
    plain = planned(workflow())
    benched = planned(workflow(), override)
    tuned = planned(workflow(cooldown_seconds=1.0, recovery="published"), override)
    reported = [
        plan.capacity.configured.request_admission_config for plan in (plain, benched, tuned)
    ]
    assert [(item.source, item.fallback_from) for item in reported] == [
        ("default", None),
        ("benchmark_override", None),
        ("run_config", "benchmark_override"),
    ]
    assert tuned.request_admission == RequestAdmissionConfig(
        initial_limit=9, increase_step=2, cooldown_seconds=1.0, recovery="published"
    )
    limits = benched.capacity.configured.request_domain_initial_limits
    assert limits.value == {"p/m/chat": 3}, "clamped under the cap"
    assert limits.source == "benchmark_override"


def ended(ran: Ran) -> AsyncCapacityPlan:
    """As a reader of the events gets it."""
    fold = Fold(ran.run)
    fold.apply(ran.events, 1)
    return msgspec.convert(ran.run.capacity_plan | fold.state.capacity, AsyncCapacityPlan)


def test_before_the_end_what_is_observed_says_that_it_is_not_known() -> None:
    plan = planned(workflow()).capacity
    for part in (plan.runtime_snapshot, plan.observed_maxima):
        for name in part.__struct_fields__:
            value = getattr(part, name)
            assert (value.value, value.missing_reason) == (None, "the run has not ended"), name


def test_the_end_of_a_run_tells_what_was_observed() -> None:
    ran = run_engine(workflow(buffer_size=5, max_concurrent_row_groups=2))
    assert ran.result.rows_dropped == 0
    plan = ended(ran)
    assert ran.result.capacity == plan
    most, now = plan.observed_maxima, plan.runtime_snapshot
    assert most.row_groups_in_flight.value == most.row_group_target.value == 2
    assert most.in_flight_by_resource.value == {"p/m/chat": 3}
    assert most.aggregate_in_flight.value == {"p/m": 3}
    assert most.current_limits.value == {"p/m/chat": 3}
    assert most.leases_by_resource.value is not None
    assert most.leases_by_resource.value["model_stage:p/m"] == 6
    assert most.waiters_by_resource.value is not None
    assert 1 <= most.waiters_by_resource.value["p/m/chat"] <= 6
    assert most.queued_by_group.value is not None
    assert max(most.queued_by_group.value.values()) >= 5
    assert most.transport_utilisation.missing_reason
    assert now.aggregate_in_flight.value == {"p/m": 0}
    assert now.effective_max.value == {"p/m/chat": 3}
    assert now.blocked_until.value is not None
    assert now.blocked_until.value["p/m/chat"] > 0.4
    assert now.row_group_block_reasons.value == ()
    assert now.row_group_target.value == 2
