"""Whole runs of the engine under virtual time: outcome, rows, streams, keyframes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.events import RequestEvent, SchedulerEvent
from engine.models.provider_script import Latency, RateLimitWindow
from engine.scheduling.plan import RunResult
from engine.workflow.demo import demo_workflow
from engine.workflow.schema import (
    LlmTextColumn,
    Model,
    RunSettings,
    SamplerColumn,
    ScriptedProvider,
    Workflow,
)
from replay.projections.fold import Fold
from replay.state.keyframe import to_keyframe
from tests.engine_run import Ran, run_engine
from tests.verified import verify_events


def day_of_storms(records: int) -> Workflow:
    """Two providers, a 429 storm every two hours on one of them, calls that take minutes."""
    hour = 3600.0
    return Workflow(
        name="day",
        records=records,
        providers={
            "alpha": ScriptedProvider(latency=Latency(mean=160, spread=40), timeout_seconds=900),
            "beta": ScriptedProvider(
                seed=1,
                latency=Latency(mean=160, spread=40),
                timeout_seconds=900,
                rate_limits=tuple(
                    RateLimitWindow(start=h * hour, end=h * hour + 600, retry_after=60, allow=2)
                    for h in range(1, 24, 2)
                ),
            ),
        },
        models={
            "writer": Model(provider="alpha", model="m", max_parallel_requests=16),
            "judge": Model(provider="beta", model="m", max_parallel_requests=16),
        },
        columns=[
            SamplerColumn(name="topic", values=["a", "b", "c"]),
            LlmTextColumn(name="text", model="writer", prompt="On {{ topic }}"),
            LlmTextColumn(name="verdict", model="judge", prompt="Judge {{ topic }} {{ text }}"),
        ],
        run=RunSettings(buffer_size=200),
    )


def test_the_demo_makes_every_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ran = run_engine(demo_workflow(records=60), dataset=tmp_path / "dataset")
    assert ran.result == RunResult("success", 60, 0)
    rows = pq.read_table(tmp_path / "dataset").to_pylist()
    assert len(rows) == 60
    assert all(all(row.values()) for row in rows)
    last = [e for e in ran.events if e.event_kind == "scheduler_health_snapshot"][-1]
    assert isinstance(last, SchedulerEvent)
    assert last.snapshot is not None
    assert last.snapshot["active_leases"] == last.snapshot["queued_total"] == 0
    assert last.snapshot["tasks"] == last.snapshot["attempts"] == []
    for resource in last.snapshot["requests"].values():
        assert (resource["in_flight"], resource["waiters"]) == (0, 0)


def test_the_storm_costs_its_own_provider_and_not_the_other() -> None:
    calm = demo_workflow(records=120)
    calm_beta = calm.providers["beta"]
    assert isinstance(calm_beta, ScriptedProvider)
    calm = calm.model_copy(
        update={
            "providers": {
                **calm.providers,
                "beta": calm_beta.model_copy(update={"rate_limits": ()}),
            }
        }
    )

    def alpha_calls_by(ran: Ran, second: float) -> int:
        return sum(
            e.event_kind == "model_request_completed"
            and e.captured_at_monotonic <= second
            and "alpha" in str(e)
            for e in ran.events
        )

    stormy, undisturbed = run_engine(demo_workflow(records=120)), run_engine(calm)
    assert stormy.kinds["request_rate_limited"] > 0
    assert undisturbed.kinds["request_rate_limited"] == 0
    assert alpha_calls_by(stormy, 9.0) >= 0.95 * alpha_calls_by(undisturbed, 9.0)


@pytest.mark.parametrize("shuffle", [None, 3])
def test_one_seed_gives_one_stream(shuffle: int | None) -> None:
    first = run_engine(demo_workflow(records=40), shuffle=shuffle)
    again = run_engine(demo_workflow(records=40), shuffle=shuffle)
    assert first.events == again.events
    assert run_engine(demo_workflow(records=40, seed=8), shuffle=shuffle).events != first.events


def test_ten_thousand_calls_over_a_day_with_storms() -> None:
    ran = run_engine(day_of_storms(records=5000), keyframe_seconds=60)
    assert ran.result == RunResult("success", 5000, 0)
    assert ran.seconds > 40_000
    completed = ran.kinds["model_request_completed"]
    answered_probes = sum(
        isinstance(event, RequestEvent)
        and event.event_kind == "request_outage"
        and event.reason_or_outcome == "closed"
        for event in ran.events
    )
    assert completed - ran.kinds["request_rate_limited"] - answered_probes == 10_000
    assert ran.kinds["request_rate_limited"] > 0
    verifier = verify_events(ran.run, ran.events)
    assert {name: actual for name, actual in verifier.book.deviations.items() if actual} == {}


def test_folding_gives_the_engines_own_state_at_every_keyframe() -> None:
    ran = run_engine(demo_workflow(records=60))
    fold = Fold(ran.run)
    seen: list[str] = []
    for ordinal, event in enumerate(ran.events, 1):
        fold.apply([event], ordinal)
        if event.event_kind == "scheduler_health_snapshot":
            assert isinstance(event, SchedulerEvent)
            reason = event.diagnostics["reason"]
            folded: dict[str, Any] = to_keyframe(fold.state, full=reason != "periodic")
            assert folded == event.snapshot
            seen.append(reason)
    assert seen[0] == "start"
    assert seen[-1] == "end"
    assert len(seen) > 10
