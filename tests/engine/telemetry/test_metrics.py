"""Metrics: what they count, and which labels they may have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from engine.events import RequestResource, RunInfo, SchedulerEvent
from engine.telemetry import instruments
from engine.telemetry.conventions import METRIC_LABELS
from engine.telemetry.instruments import INSTRUMENTS, Instrument
from engine.telemetry.labels import MOST_VALUES, OTHER, Labels
from tests.engine.telemetry.exported import PROMPT_CANARY, Exported, export, points, workflow
from tests.engine_run import Ran, run_engine

STORM = {"rate_limits": [{"from": 0.2, "to": 4.0, "retry_after": 0.5, "allow": 1}]}
ALLOWED = {
    "headgate.event.kind",
    "headgate.scheduler.resource.kind",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.operation.name",
    "headgate.request.domain",
    "headgate.algorithm",
    "reason",
    "underlying_cause",
}
RUN = RunInfo("r1", "a run")


@pytest.fixture(scope="module")
def storm() -> Ran:
    return run_engine(workflow(beta=STORM))


@pytest.fixture(scope="module")
def seen(storm: Ran) -> Exported:
    return export(storm.run, storm.events)


def test_events_are_counted_by_kind(storm: Ran, seen: Exported) -> None:
    for kind, count in storm.kinds.items():
        assert seen.total("headgate.events", headgate_event_kind=kind) == count


def test_durations_are_those_of_the_events(storm: Ran, seen: Exported) -> None:
    durations = [
        event.diagnostics["duration_seconds"]
        for event in storm.events
        if event.event_kind == "model_request_completed"
    ]
    waits = [
        event.diagnostics["waited_seconds"]
        for event in storm.events
        if event.event_kind == "request_wait_completed"
    ]
    calls = seen.metrics["gen_ai.client.operation.duration"]
    assert sum(point.values for point in calls) == len(durations)
    assert sum(point.value for point in calls) == pytest.approx(sum(durations))
    assert seen.count("headgate.request.wait.duration") == len(waits)
    assert seen.total("headgate.request.wait.duration") == pytest.approx(sum(waits))
    assert seen.count("headgate.task.queue.duration") == storm.kinds["task_lease_acquired"]
    assert seen.count("headgate.task.lease.duration") == storm.kinds["task_lease_released"]


def test_rows_and_tokens_are_counted(storm: Ran, seen: Exported) -> None:
    answered = [e.diagnostics for e in storm.events if e.event_kind == "model_request_completed"]

    assert seen.total("headgate.rows.written") == 12
    assert seen.total("headgate.rows.dropped") == 0
    for metric, field in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        assert seen.total(f"headgate.request.tokens.{metric}") == sum(
            facts.get(field, 0) for facts in answered
        )


def test_gauges_show_the_last_keyframe(storm: Ran) -> None:
    keyframes = [
        (index, event)
        for index, event in enumerate(storm.events)
        if event.event_kind == "scheduler_health_snapshot" and isinstance(event, SchedulerEvent)
    ]
    index, keyframe = keyframes[len(keyframes) // 2]
    snapshot = keyframe.snapshot
    assert snapshot is not None
    seen = export(storm.run, storm.events[: index + 1])

    assert seen.total("headgate.tasks.queued") == snapshot["queued_total"]
    assert seen.total("headgate.row_groups.in_flight") == len(snapshot["row_groups"]["in_flight"])
    leased = sum(n for name, n in snapshot["leased"].items() if name.startswith("model_stage:"))
    kind = {"headgate_scheduler_resource_kind": "model_stage"}
    assert leased > 0
    assert seen.total("headgate.scheduler.resource.leased", **kind) == leased
    judge = snapshot["requests"]["beta/judge-70b/chat"]
    labels = {"gen_ai_provider_name": "beta", "gen_ai_request_model": "judge"}
    assert judge["limit"] < judge["effective_max"], "the storm cut nothing yet"
    assert (
        seen.total("headgate.request.limit", headgate_algorithm="adaptive", **labels)
        == judge["limit"]
    )
    assert seen.total("headgate.request.limit.maximum", **labels) == judge["effective_max"]
    assert seen.total("headgate.request.waiting", **labels) == judge.get("waiters", 0)


def test_blocked_time_has_a_denial_and_what_is_behind_it() -> None:
    """Little room in the task slots, all of it held by tasks that wait out a cooldown."""
    refused = {"rate_limits": [{"from": 0.2, "to": 2.0, "retry_after": 3.0, "allow": 0}]}
    ran = run_engine(workflow(refused, records=60, buffer_size=60, max_in_flight_tasks=4))
    seen = export(ran.run, ran.events)

    by_cause = {
        cause: seen.total(
            "headgate.scheduler.blocked.time", reason="no_capacity", underlying_cause=cause
        )
        for cause in ("cooldown", "none")
    }
    assert 2.5 < by_cause["cooldown"] < 4.0
    assert by_cause["none"] > by_cause["cooldown"]
    assert seen.total("headgate.scheduler.blocked.time") < ran.seconds


def test_every_metric_has_only_the_allowed_labels(seen: Exported) -> None:
    assert METRIC_LABELS == ALLOWED
    for name, series in seen.metrics.items():
        instrument = next(i for i in INSTRUMENTS if i.name == name)
        for point in series:
            assert set(point.labels) <= instrument.labels <= ALLOWED
    assert "judge" in {
        point.labels["gen_ai.request.model"] for point in seen.metrics["headgate.request.in_flight"]
    }


@pytest.mark.parametrize(
    "label",
    ["run_id", "headgate.run.id", "row_group", "column", "task_id", "task_type", "group_hash",
     "gen_ai.response.id", "attempt_id", "lease_id", "model_id"],
)  # fmt: skip
def test_any_other_label_is_refused(label: str) -> None:
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("test")
    wide = Instrument("headgate.wide", "counter", "1", "", frozenset({label}))

    with pytest.raises(ValueError, match=label):
        instruments.observed(meter, wide, list)
    with pytest.raises(ValueError, match=label):
        instruments.histogram(meter, wide._replace(kind="histogram"))
    with pytest.raises(ValueError, match=label):
        instruments.check_labels(instruments.EVENTS, {label: "x"})


def test_a_value_with_an_undeclared_label_is_not_exported() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    instruments.observed(meter, instruments.TASKS_QUEUED, lambda: [Observation(1, {"row": 3})])
    instruments.observed(meter, instruments.TASKS_DEFERRED, lambda: [Observation(1)])

    assert set(points(reader)) == {"headgate.tasks.deferred"}


def test_histograms_of_seconds_have_buckets_for_seconds() -> None:
    for instrument in INSTRUMENTS:
        assert bool(instrument.buckets) == (instrument.kind == "histogram")
        if instrument.buckets:
            assert instrument.unit == "s"
            assert list(instrument.buckets) == sorted(instrument.buckets)
            assert instrument.buckets[1] <= 0.02
            assert instrument.buckets[-1] >= 120


def test_a_model_is_called_by_its_alias_and_never_by_its_id() -> None:
    run = RunInfo(
        "r",
        "n",
        configuration={
            "models": {
                "writer": {"provider": "alpha", "model": "org/gen-8b"},
                "author": {"provider": "alpha", "model": "org/gen-8b"},
            }
        },
    )
    labels = Labels(run)
    labels.learn_aliases(RequestResource("beta", "judge-70b", "chat"), ["judge"])

    models = [
        labels.of_label(name).request["gen_ai.request.model"]
        for name in (
            "alpha/org/gen-8b/chat", "beta/judge-70b/chat", "gamma/secret-9000/chat",
            "gamma/other/chat", "gamma/secret-9000/embedding",
        )
    ]  # fmt: skip
    assert models == ["author", "judge", "model-1", "model-2", "model-1"]


def test_values_of_labels_are_bounded() -> None:
    labels = Labels(RUN)

    kinds = {labels.resource_kind(f"kind{number}:x") for number in range(1_000)}
    assert len(kinds) == MOST_VALUES + 1
    assert OTHER in kinds
    assert labels.resource_kind("a sentence with spaces") == OTHER
    providers = {
        labels.of_label(f"p{number}/m/chat").request["gen_ai.provider.name"]
        for number in range(1_000)
    }
    assert len(providers) == MOST_VALUES + 1


def test_kinds_that_the_vocabulary_lacks_count_as_one() -> None:
    events = [SchedulerEvent(f"kind_{number}", 1.0, number) for number in range(500)]

    series = export(RUN, events).metrics["headgate.events"]
    assert [(point.labels, point.value) for point in series] == [
        ({"headgate.event.kind": "other"}, 500)
    ]


def test_odd_values_in_events_do_no_harm() -> None:
    events = [
        SchedulerEvent("task_lease_acquired", 1.0, 1, diagnostics={"resources": 7}),
        SchedulerEvent("row_group_checkpointed", 1.0, 2, diagnostics={"surviving_rows": "many"}),
        SchedulerEvent(
            "scheduler_health_snapshot",
            2.0,
            3,
            snapshot={"queued_total": "x", "leased": [], "requests": {"a/b/chat": 3}, "limits": 1},
        ),
        SchedulerEvent("admission_blocked", 2.0, 4, reason_or_result="a reason of tomorrow"),
        SchedulerEvent("queue_empty", 5.0, 5),
    ]
    seen = export(RUN, events)

    assert seen.total("headgate.rows.written") == 0
    assert seen.total("headgate.tasks.queued") == 0
    assert seen.total("headgate.scheduler.blocked.time", reason="other") == 3.0


def test_no_prompt_no_answer_and_no_row_value_is_in_a_metric(seen: Exported) -> None:
    text = json.dumps(seen.metrics)

    assert "judge" in text
    for secret in (PROMPT_CANARY, "billing", "login", "gen-8b", "judge-70b"):
        assert secret not in text


def test_the_engine_uses_the_api_alone() -> None:
    engine = Path(instruments.__file__).parents[1]
    imports = [
        line
        for path in engine.rglob("*.py")
        for line in path.read_text().splitlines()
        if "import" in line and "opentelemetry" in line
    ]

    assert imports
    assert not [line for line in imports if ".sdk" in line or ".exporter" in line]
