"""Runs of the engine itself under virtual time: the diagnosis names what the script did."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.benchmark.catalogue import SCENARIOS
from engine.models.provider_script import ErrorWindow, FailureWindow, Latency, RateLimitWindow
from engine.workflow.demo import demo_workflow
from engine.workflow.schema import ScriptedProvider, Workflow
from replay.diagnosis.report.bottleneck import bottleneck
from replay.diagnosis.report.shares import run_shares
from replay.diagnosis.verdicts import VerdictRow, phrase
from replay.projections.fold import FoldOutput
from replay.state.bins import within
from tests.replay.diagnosis.simulated import (
    ALPHA,
    BETA,
    asks,
    diagnose,
    fold,
    simulate,
    workflow,
)
from tests.replay.diagnosis.stream import facts_of

LATENCY = Latency(mean=0.5, spread=0.0)


def beside_alpha(records: int, beta: ScriptedProvider, **settings: object) -> Workflow:
    """A column of alpha and a column of beta that do not need each other."""
    providers = {"alpha": (ScriptedProvider(latency=LATENCY), 4), "beta": (beta, 4)}
    columns = asks("question", "gen", "topic"), asks("verdict", "judge", "topic")
    return workflow(records, providers, *columns, **settings)


def share(output: FoldOutput, verdict: str, resource: str | None = None) -> float:
    rows = [row for row in output.blame if row.scope == "run"]
    part = sum(
        row.seconds for row in rows if row.verdict == verdict and resource in (None, row.resource)
    )
    return part / sum(row.seconds for row in rows)


def named(output: FoldOutput, verdict: str) -> list[VerdictRow]:
    return [row for row in output.verdicts if row.verdict == verdict]


def test_a_healthy_run_works_and_has_no_alarming_verdict() -> None:
    output = diagnose(beside_alpha(80, ScriptedProvider(latency=LATENCY)))
    assert share(output, "working") == pytest.approx(1.0, abs=0.02)
    assert all(row.tier in ("C", "D", "E") for row in output.verdicts)
    assert not named(output, "request_cooldown")
    change = re.compile(r"\b(raise|lower|shorten|set)\b", re.IGNORECASE)
    assert [row.advice for row in output.verdicts if change.search(row.advice)] == []


def test_a_storm_names_its_provider_and_its_window() -> None:
    """429s from 3 s to 8 s after beta's first call, each asking for half a second."""
    windows = (RateLimitWindow(start=3, end=8, retry_after=0.5),)
    output = diagnose(beside_alpha(200, ScriptedProvider(latency=LATENCY, rate_limits=windows)))
    # After two cooldowns in which all was refused, one call at a time asks whether it is over.
    verdicts = named(output, "request_cooldown")
    assert {verdict.resource for verdict in verdicts} == {BETA}
    assert min(verdict.start for verdict in verdicts) == pytest.approx(3.0, abs=0.5)
    # The first probe after 8 s goes out within 0.6 s, and its answer takes half a second.
    assert 8.0 <= max(verdict.end for verdict in verdicts) <= 9.1
    assert {row.resource for row in output.verdicts if row.tier == "D"} == {BETA}
    assert share(output, "request_cooldown", ALPHA) == 0.0


def test_the_demo_says_what_limits_it() -> None:
    """From soon after each 429 until its ceiling is back, the bottleneck line names the storm."""
    info, events = simulate(demo_workflow())
    rows = fold(info, events).blame
    for second in (*range(8, 16), *range(29, 36)):
        window = min(second, 60)
        past = list(within((r for r in rows if r.scope == "run"), second - 60, second - 1))
        said = bottleneck(run_shares(past), None, [], window)
        assert said is not None
        assert said.verdict in ("request_cooldown", "request_domain_limit"), (second, said)
        assert said.resource == "beta/judge-70b/chat"


def test_too_few_task_slots() -> None:
    """2 task slots serve 2 of 8 call slots."""
    beta = ScriptedProvider(latency=LATENCY)
    output = diagnose(beside_alpha(40, beta, max_in_flight_tasks=2))
    assert share(output, "task_capacity") == pytest.approx(0.75, abs=0.02)
    assert {row.resource for row in named(output, "task_capacity")} <= {"submission"}


def test_a_provider_that_fails_for_everybody_is_out() -> None:
    errors = (ErrorWindow(start=0, end=4, status=500),)
    output = diagnose(beside_alpha(8, ScriptedProvider(latency=LATENCY, errors=errors)))
    assert {row.resource for row in named(output, "request_outage")} == {BETA}
    assert share(output, "request_outage", BETA) > 0.2
    assert share(output, "request_outage", ALPHA) == 0.0


@pytest.mark.parametrize(
    "overloaded",
    [
        {"errors": (ErrorWindow(start=2, end=8, status=529),)},
        {"capacity": 2, "capacity_status": 529, "capacity_retry_after": 0.5},
    ],
    ids=["for all", "beyond two calls"],
)
def test_nobody_speaks_of_429s_where_a_provider_was_overloaded(
    overloaded: dict[str, Any],
) -> None:
    output = diagnose(beside_alpha(60, ScriptedProvider(latency=LATENCY, **overloaded)))
    words = [f"{row.sentence} {row.advice} {row.detail.phrase}" for row in output.verdicts]
    words += [phrase(row.verdict) for row in output.blame]
    lost = {row.verdict for row in output.blame if row.scope == "run" and row.resource == BETA}
    assert lost & {"request_overload", "request_outage"}
    assert "request_cooldown" not in lost
    assert [text for text in words if "429" in text] == []


def test_calls_that_hang_until_their_time_out() -> None:
    """From 10 s on beta's calls hang, until their time-out 6 s later; 1.5 s (3 times the usual) is
    how long they may take before they count as slow."""
    hang = (FailureWindow(start=10, end=10.4),)
    beta = ScriptedProvider(latency=LATENCY, timeouts=hang, timeout_seconds=6)
    output = diagnose(beside_alpha(160, beta))
    (verdict,) = named(output, "provider_latency")
    assert verdict.resource == BETA
    assert verdict.end - verdict.start == pytest.approx(6.0, abs=0.1)
    assert facts_of(verdict)["calls"] == 4


RUNS = {
    item.id: item
    for item in SCENARIOS.values()
    if item.build is not None and item.stop is None and item.ends is None
}


@pytest.mark.parametrize("scenario", RUNS)
def test_no_scenario_of_the_benchmark_shows_a_broken_engine(scenario: str) -> None:
    item = RUNS[scenario]
    assert item.build is not None
    output = diagnose(item.build(item.smoke_records, item.seed))
    assert [row.verdict for row in output.verdicts if row.tier in ("A", "B")] == []
    broken = {row.verdict for row in output.blame} & {"leaked_lease", "lost_wakeup"}
    assert broken == set()


def test_a_start_up_ramp_that_holds_the_calls_down() -> None:
    """From 1 to 4 calls at once over 12 s; of 60 calls of 0.5 s, 48 fit in there."""
    beta = ScriptedProvider(latency=LATENCY)
    output = diagnose(beside_alpha(60, beta, startup_ramp_seconds=12.0))
    ramped = named(output, "request_ramp")
    assert {row.resource for row in ramped} <= {ALPHA, BETA}
    assert share(output, "request_ramp") == pytest.approx((3 + 2 + 1) * 4 / (4 * 13.5), abs=0.02)
    assert share(output, "request_domain_limit") == 0.0
