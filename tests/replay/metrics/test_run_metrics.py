"""Derived metrics of a run, and the gates that judge them: each sees the fault it is for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import pytest

from engine.benchmark.catalogue import SCENARIOS
from engine.events import (
    Event,
    JournalHeader,
    RequestEvent,
    RunInfo,
    SchedulerEvent,
    encode_lines,
)
from replay.metrics.event_metrics import Measures, RunPass
from replay.metrics.gates import Evidence, evaluate, neutral
from replay.metrics.run_metrics import METRICS, add_settled_refusals, measure_run, metric
from replay.recording.reader import open_recording
from replay.runs.artifact import GateResult
from replay.runs.materialize import materialize
from replay.state.rows import AttemptRow
from replay.verify.report import results
from tests.engine_run import run_engine
from tests.replay.diagnosis.simulated import simulate
from tests.replay.diagnosis.test_random_runs import random_workflow
from tests.replay.verify.streams import renumbered
from tests.verified import verify_events


@cache
def healthy() -> tuple[RunInfo, tuple[Event, ...]]:
    """A run of the heavy root in which all goes well."""
    build = SCENARIOS["heavy-root"].build
    assert build is not None
    ran = run_engine(build(30, 7))
    return ran.run, tuple(ran.events)


def altered(change: Callable[[list[Event]], None]) -> list[Event]:
    changed = list(healthy()[1])
    change(changed)
    return changed


def verified(change: Callable[[list[Event]], None]) -> GateResult:
    """The gate `verified` on a run that was altered, its events numbered anew."""
    verifier = verify_events(healthy()[0], renumbered(altered(change)))
    evidence = replace(EVIDENCE, checks=[results(verifier.book)])
    (result,) = evaluate(["verified"], evidence)
    return result


def measured(change: Callable[[list[Event]], None] = lambda events: None) -> Measures:
    run, changed = healthy()[0], altered(change)
    run_pass = RunPass(run)
    for ordinal, event in enumerate(changed, 1):
        run_pass.take(event, ordinal)
    return run_pass.measures()


def first(events: Sequence[Event], kind: str, task: str | None = None) -> int:
    return next(
        at
        for at, event in enumerate(events)
        if event.event_kind == kind
        and (task is None or (isinstance(event, SchedulerEvent) and event.task_id == task))
    )


EVIDENCE = Evidence(
    measures=(),
    bounds={},
    virtual=True,
    expected_outcome="success",
    hashes=["a"],
    serial="a",
    walls=[],
    checks=[],
)


def verdict(gate: str, *measures: Measures, **facts: object) -> str:
    evidence = replace(EVIDENCE, measures=measures, **facts)  # type: ignore[arg-type]
    return evaluate([gate], evidence)[0].verdict


FAULTLESS = (
    "ended_as_planned",
    "timelines_whole",
    "no_row_dropped",
    "ready_idle",
    "root_debt",
    "same_rows",
)


@pytest.mark.parametrize("gate", FAULTLESS)
def test_a_healthy_run_passes(gate: str) -> None:
    assert verdict(gate, measured()) == "passed"


def test_a_healthy_run_is_verified() -> None:
    assert verified(lambda events: None) == GateResult("verified", "passed", "rules broken: none")


def test_its_numbers_are_those_of_its_script() -> None:
    samples = measured().samples
    # 30 drafts of 0.2 s, 16 at a time; titles of 0.01 s take slots from the later drafts for once.
    assert samples["wall_time"] == [pytest.approx(0.42)]
    assert samples["time_to_first_downstream_ready"] == [pytest.approx(0.2)]
    assert samples["initial_idle_gap"] == [0.0]
    assert samples["hidden_scheduler_resource_waiters"] == [0.0]
    assert samples["rate_limited_share"] == [0.0]
    held = sum(after - before for before, after in zip(*lease_times(), strict=True))
    assert samples["active_capacity_integral"] == [pytest.approx(held / 24)]
    assert samples["utilisation"] == [pytest.approx(held / 24 / 0.42)]


def lease_times() -> tuple[list[float], list[float]]:
    """When leases begin, and when they end: the sums of both tell how long they were held."""
    _, events = healthy()
    begun, ended = (
        [event.captured_at_monotonic for event in events if event.event_kind == kind]
        for kind in ("task_lease_acquired", "task_lease_released")
    )
    return begun, ended


def test_a_spawn_without_its_lease_is_a_hidden_waiter() -> None:
    def drop_lease(events: list[Event]) -> None:
        del events[first(events, "task_lease_acquired", "draft/3")]

    faulty = measured(drop_lease)
    assert faulty.samples["hidden_scheduler_resource_waiters"] == [1.0]
    assert "hidden_waiters" in verified(drop_lease).detail
    assert verdict("timelines_whole", faulty) == "failed"


def test_empty_with_work_queued_is_a_lie() -> None:
    def say_empty(events: list[Event]) -> None:
        at = first(events, "selected")
        event = events[at]
        assert isinstance(event, SchedulerEvent)
        empty = SchedulerEvent("queue_empty", event.captured_at_monotonic, event.sequence)
        events.insert(at, empty)

    assert measured(say_empty).samples["event_rule_faults"] == [1.0]
    assert "empty_blocked" in verified(say_empty).detail


def test_blocked_with_nothing_queued_is_a_lie() -> None:
    def say_blocked(events: list[Event]) -> None:
        at = first(events, "queue_empty")
        events[at] = msgspec.structs.replace(events[at], event_kind="admission_blocked")

    assert measured(say_blocked).samples["event_rule_faults"] == [1.0]
    assert "empty_blocked" in verified(say_blocked).detail


@pytest.mark.parametrize("kind", ["task_lease_released", "request_lease_released"])
def test_a_lease_that_never_ends_is_left_open(kind: str) -> None:
    def lose_end(events: list[Event]) -> None:
        del events[first(events, kind)]
        # The last keyframe would correct the fold.
        events[:] = [event for event in events if event.event_kind != "scheduler_health_snapshot"]

    assert measured(lose_end).samples["open_at_the_end"] == [1.0]
    assert "end_state" in verified(lose_end).detail


def test_an_attempt_needs_a_lease_of_its_own() -> None:
    def twice(events: list[Event]) -> None:
        at = first(events, "request_lease_acquired")
        events.insert(at, events[at])

    assert measured(twice).samples["attempts_without_their_own_lease"] == [1.0]
    assert "request_leases" in verified(twice).detail


def test_a_call_needs_the_lease_of_its_attempt() -> None:
    def drop_lease(events: list[Event]) -> None:
        del events[first(events, "request_lease_acquired")]

    assert measured(drop_lease).samples["attempts_without_their_own_lease"] == [1.0]
    assert "order" in verified(drop_lease).detail


def test_time_that_runs_backwards_is_seen() -> None:
    def backwards(events: list[Event]) -> None:
        at = first(events, "request_wait_completed")
        event = events[at]
        assert isinstance(event, RequestEvent)
        earlier = event.captured_at_monotonic - 0.1
        events[at] = msgspec.structs.replace(event, captured_at_monotonic=earlier)

    assert verdict("timelines_whole", measured(backwards)) == "failed"


def test_work_beside_free_capacity_is_an_idle_gap() -> None:
    def dawdle(events: list[Event]) -> None:
        at = first(events, "selected")
        for place in range(at, len(events)):
            later = events[place].captured_at_monotonic + 0.5
            events[place] = msgspec.structs.replace(events[place], captured_at_monotonic=later)

    faulty = measured(dawdle)
    assert max(faulty.samples["ready_idle_gap"]) == pytest.approx(0.5)
    assert verdict("ready_idle", faulty) == "failed"
    assert verdict("ready_idle", faulty, virtual=False) == "failed"


def test_another_outcome_or_other_rows_fail() -> None:
    assert verdict("ended_as_planned", measured(), expected_outcome="cancelled") == "failed"
    assert verdict("same_rows", measured(), hashes=["a", "b"]) == "failed"
    assert verdict("same_rows", measured(), hashes=["b"]) == "failed"
    assert verdict("same_rows", measured(), serial=None) == "unknown"


def test_a_neutral_wall_is_judged_in_pairs() -> None:
    slow, same = [1.2, 1.3, 1.25], [1.0, 1.0, 1.0]
    assert verdict("neutral_wall", measured(), walls=same, against=same) == "passed"
    assert verdict("neutral_wall", measured(), walls=slow, against=same) == "failed"
    one_slow = [1.0, 1.0, 1.0, 1.0, 1.6]
    judgement = verdict("neutral_wall", measured(), walls=one_slow, against=[1.0] * 5)
    assert judgement == "inconclusive"
    assert verdict("neutral_wall", measured(), walls=same) == "unknown"


def walls_of(source: random.Random, slower: float, noise: float) -> list[float]:
    return [slower * max(0.5, source.gauss(1.0, noise)) for _ in range(5)]


def test_a_slowdown_of_20_per_cent_is_caught_and_noise_is_not() -> None:
    """Five pairs with a noise of 3 %, many times over."""
    source = random.Random(11)
    verdicts: dict[float, Counter[str]] = {1.2: Counter(), 1.0: Counter()}
    for slower, seen in verdicts.items():
        for _ in range(500):
            candidate, baseline = (walls_of(source, by, 0.03) for by in (slower, 1.0))
            seen[neutral(candidate, baseline)[0]] += 1

    assert verdicts[1.2]["failed"] >= 495
    assert verdicts[1.2]["passed"] == 0
    assert verdicts[1.0]["failed"] == 0
    assert verdicts[1.0]["passed"] >= 475


def test_much_noise_is_inconclusive_and_no_failure() -> None:
    source = random.Random(12)
    seen = Counter(
        neutral(walls_of(source, 1.0, 0.15), walls_of(source, 1.0, 0.15))[0] for _ in range(500)
    )

    assert seen["failed"] <= 15
    assert seen["inconclusive"] > 50


def test_the_gate_and_the_metric_are_one_number() -> None:
    """What a comparison shows under the name of the metric is what the gate judges."""
    calls = [attempt("sick", 100 + n / 4) for n in range(400)]
    calls += [attempt("sick", 125 + n / 100, "rate_limited") for n in range(40)]
    calls += [attempt("sick", 101 + n / 100, "rate_limited") for n in range(100)]
    measures = storm(calls, [])
    [share] = measures.samples["settled_rate_limited_share"]
    gate = evaluate(["few_refusals"], replace(EVIDENCE, measures=[measures]))[0]

    assert share == 40 / (80 * 4 + 40)
    assert gate.detail.startswith(f"{share:.1%} of the calls")
    assert "settled_rate_limited_share" in gate.detail
    measures.samples["rate_limited_share"] = [140 / 540]
    gate = evaluate(["few_refused"], replace(EVIDENCE, measures=[measures]))[0]
    assert gate.detail.startswith(f"{140 / 540:.1%} of the calls refused (rate_limited_share)")


def attempt(resource: str, start: float, outcome: str = "success") -> AttemptRow:
    return AttemptRow(
        "a", resource, "e", "c", "r", start, start, start, start + 1, start + 1, outcome, 1, 2
    )


def storm(attempts: list[AttemptRow], cooldowns: list[tuple[float, float]]) -> Measures:
    measures = Measures({}, {}, [], [], {"sick": cooldowns}, attempts)
    add_settled_refusals(measures, 1.0)
    return measures


def test_a_healthy_provider_that_starves_in_a_cooldown_fails() -> None:
    bounds = {"limited": "sick", "healthy": "well"}
    steady = storm([attempt("well", 10 + n / 10) for n in range(100)], [(12.0, 15.0)])
    assert verdict("healthy_keeps_working", steady, bounds=bounds) == "passed"
    starved = [attempt for attempt in steady.attempts if not 12 <= (attempt.started_at or 0) < 14.5]
    faulty = storm(starved, [(12.0, 15.0)])
    assert verdict("healthy_keeps_working", faulty, bounds=bounds) == "failed"
    assert verdict("healthy_keeps_working", storm([], []), bounds=bounds) == "unknown"


def test_goodput_counts_what_the_provider_could_have_served() -> None:
    bounds = {"resource": "sick", "capacity": 4, "latency": 1.0}
    full = [attempt("sick", 100 + n / 4) for n in range(400)]
    assert verdict("goodput", storm(full, []), bounds=bounds) == "passed"
    half = full[::2]
    assert verdict("goodput", storm(half, []), bounds=bounds) == "failed"
    # Time in cooldown does not count.
    paused = [item for item in full if not 140 <= (item.started_at or 0) < 169]
    assert verdict("goodput", storm(paused, [(141.0, 170.0)]), bounds=bounds) == "passed"
    assert verdict("goodput", storm(paused, []), bounds=bounds) == "failed"
    refused = full + [attempt("sick", 125 + n / 100, "rate_limited") for n in range(40)]
    assert verdict("few_refusals", storm(full, []), bounds=bounds) == "passed"
    assert verdict("few_refusals", storm(refused, []), bounds=bounds) == "failed"


def test_an_unknown_metric_says_why_and_is_no_zero() -> None:
    unknown = metric("goodwill", [], "nobody asked")
    assert (unknown.mean, unknown.count, unknown.missing_reason) == (None, 0, "nobody asked")
    assert metric("wall_time", []).missing_reason
    known = metric("wall_time", [1.0, 3.0])
    assert (known.mean, known.unit, known.better, known.missing_reason) == (2.0, "s", "lower", None)
    assert set(measured().samples) <= set(METRICS)


@pytest.mark.parametrize("requests", [True, False])
def test_own_time_is_known_only_beside_the_calls(tmp_path: Path, requests: bool) -> None:
    """What remains of the columns that ask no model is no mean of the run."""
    run, events = simulate(random_workflow(3))
    reported = [event for event in events if requests or isinstance(event, SchedulerEvent)]
    assert any(column.request_resource is None for column in run.columns)
    lines = tmp_path / "run.jsonl"
    lines.write_bytes(encode_lines([JournalHeader(run, 1, 1), *reported]))
    with materialize(lines, lambda _: None) as path:
        reader = open_recording(path)
        measures = measure_run(reader)
        reader.close()
    assert bool(measures.samples["own_time"]) == requests
