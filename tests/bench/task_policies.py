"""What each task admission policy makes of the same work: `python tests/bench/task_policies.py`.

Virtual time and scripted providers, so the numbers are the same on every machine. For each scenario
and policy:

    wall       seconds to the end of the run
    half       seconds until half of the rows were complete
    gap p95    seconds from ready to leased of the tasks that depend on others, 95th percentile
    fastest    calls per second of the fastest provider that refuses nothing, until its last
               answer, as a share of what its cap and latency allow
    parked     until then, the mean share of task slots whose workers waited for a request lease
    advice     heads passed over for request pressure

Names of scenarios as arguments choose some.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from engine.benchmark.catalogue import SCENARIOS
from engine.benchmark.scenario import model, sampled, scripted, text, workflow
from engine.events import Event, RequestEvent
from engine.scheduling.bounded_borrow import BoundedBorrowTaskAdmissionPolicyConfig
from engine.scheduling.config import TaskAdmissionConfig
from engine.workflow.load import LoadedWorkflow
from tests.engine_run import run_engine

STRICT = TaskAdmissionConfig(shares="strict_fair", provider_aware=False)
POLICIES = {
    "strict-fair": STRICT,
    "bounded-borrow": dataclasses.replace(STRICT, shares="bounded_borrow"),
    "borrow, ceiling 8": dataclasses.replace(
        STRICT,
        shares="bounded_borrow",
        bounded_borrow=BoundedBorrowTaskAdmissionPolicyConfig(default_borrow_ceiling=8),
    ),
    "strict-fair + aware": dataclasses.replace(STRICT, provider_aware=True),
    "borrow + aware": dataclasses.replace(STRICT, shares="bounded_borrow", provider_aware=True),
}


def few_slots(records: int, seed: int, alpha: dict[str, Any], caps: int = 16) -> LoadedWorkflow:
    """Four columns on two providers that could use more than all task slots."""
    return workflow(
        name="few-slots",
        records=records,
        seed=seed,
        providers={"alpha": alpha, "beta": scripted(0.05)},
        models={"limited": model("alpha", "m", caps), "healthy": model("beta", "m", 16)},
        columns=[
            sampled("number"),
            text("first", "limited", "number"),
            text("second", "limited", "number"),
            text("third", "healthy", "number"),
            text("fourth", "healthy", "number"),
        ],
        run={"buffer_size": 400, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 24},
    )


def burst(records: int, seed: int) -> LoadedWorkflow:
    """One provider refuses all but one call for some seconds."""
    storm = ({"from": 1.0, "to": 7.0, "retry_after": 3.0, "allow": 1},)
    return few_slots(records, seed, scripted(0.05, rate_limits=storm))


def narrowed(records: int, seed: int) -> LoadedWorkflow:
    """One provider serves two at once where its cap says 16."""
    return few_slots(records, seed, scripted(0.1, capacity=2, capacity_retry_after=0.5))


def slow_neighbour(records: int, seed: int) -> LoadedWorkflow:
    """One provider is slow and its cap small; nobody refuses."""
    return few_slots(records, seed, scripted(1.0), caps=4)


def lopsided(records: int, seed: int) -> LoadedWorkflow:
    """One column may use every slot while its two peers wait at a narrow stage."""
    return workflow(
        name="lopsided",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.2), "beta": scripted(0.1)},
        models={"wide": model("alpha", "m", 32), "narrow": model("beta", "m", 4)},
        columns=[
            sampled("number"),
            text("bulk", "wide", "number"),
            text("left", "narrow", "number"),
            text("right", "narrow", "left"),
        ],
        run={"buffer_size": 400, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 32},
    )


BUILDERS = {
    "heavy-root": (SCENARIOS["heavy-root"].build, 400),
    "cooldown": (SCENARIOS["e2e-cross-provider-cooldown"].build, 600),
    "burst": (burst, 1200),
    "narrowed": (narrowed, 400),
    "slow-neighbour": (slow_neighbour, 400),
    "lopsided": (lopsided, 400),
}


def run(loaded: LoadedWorkflow, config: TaskAdmissionConfig) -> tuple[list[Event], float, int]:
    """Its events, how long it took, and its task slots."""
    ran = run_engine(loaded, task_admission=config)
    assert (ran.result.outcome, ran.result.rows_dropped) == ("success", 0), ran.result
    return ran.events, ran.seconds, loaded.workflow.run.max_in_flight_tasks


def measure(loaded: LoadedWorkflow, config: TaskAdmissionConfig) -> dict[str, float | None]:
    events, wall, slots = run(loaded, config)
    columns = {column.name: bool(column.dependencies()) for column in loaded.workflow.columns}
    ready: dict[str, float] = {}
    gaps: list[float] = []
    left: dict[int, int] = {}
    rows_done: list[float] = []
    advice = 0
    for event in events:
        if isinstance(event, RequestEvent) or event.task_id is None:
            continue
        name, _, row = event.task_id.partition("/")
        if event.event_kind == "ready_enqueued":
            ready[event.task_id] = event.captured_at_monotonic
        elif event.event_kind == "task_lease_acquired":
            gap = event.captured_at_monotonic - ready.pop(event.task_id)
            if columns[name]:
                gaps.append(gap)
        elif event.event_kind == "request_pressure_advisory_skipped":
            advice += 1
        elif event.event_kind == "task_completed" and row.isdecimal():
            number = int(row)
            left[number] = left.get(number, _cells(loaded)) - 1
            if not left[number]:
                rows_done.append(event.captured_at_monotonic)
    gaps.sort()
    return {
        "wall": wall,
        "half": rows_done[len(rows_done) // 2],
        "gap p95": gaps[int(0.95 * (len(gaps) - 1))],
        **_of_the_fastest(events, slots),
        "advice": advice or None,
    }


def _cells(loaded: LoadedWorkflow) -> int:
    return sum(1 for column in loaded.workflow.columns if column.type != "sampler")


def _of_the_fastest(events: Sequence[Event], slots: int) -> dict[str, float]:
    limits: dict[str, int] = {}
    answers: dict[str, list[tuple[float, float]]] = {}
    waiters: list[tuple[float, int]] = []
    refused: set[str] = set()
    for event in events:
        if not isinstance(event, RequestEvent) or event.request_resource_key is None:
            continue
        resource, now = event.request_resource_key.label, event.captured_at_monotonic
        if event.event_kind == "request_resource_registered":
            limits[resource] = event.diagnostics["limit"]
        elif event.event_kind == "request_rate_limited":
            refused.add(resource)
        elif event.event_kind == "request_wait_started":
            waiters.append((now, 1))
        elif event.event_kind == "request_lease_acquired":
            waiters.append((now, -1))
        elif event.event_kind == "model_request_completed" and event.reason_or_outcome == "success":
            answers.setdefault(resource, []).append((now, event.diagnostics["duration_seconds"]))
    healthy = limits.keys() - refused
    fastest = max(sorted(healthy), key=lambda item: limits[item] / _mean_duration(answers[item]))
    reported = answers[fastest]
    end = reported[-1][0]
    parked = sum(min(0.0, at - end) * -change for at, change in waiters)
    return {
        "fastest": len(reported) / end * _mean_duration(reported) / limits[fastest],
        "parked": parked / end / slots,
    }


def _mean_duration(answers: Sequence[tuple[float, float]]) -> float:
    return sum(seconds for _, seconds in answers) / len(answers)


def main() -> int:
    chosen = sys.argv[1:] or list(BUILDERS)
    for name in chosen:
        build, records = BUILDERS[name]
        assert build is not None
        print(f"\n{name}, {records} rows")
        for policy, config in POLICIES.items():
            print(f"  {policy:20}", _line(measure(build(records, 7), config)))
    return 0


def _line(result: dict[str, Any]) -> str:
    return "  ".join(
        f"{key} {'-' if value is None else f'{value:.3g}':>6}" for key, value in result.items()
    )


if __name__ == "__main__":
    sys.exit(main())
