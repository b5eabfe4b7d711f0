"""Random small runs of the engine: the blame adds up, and never contradicts the engine's ledger.

`HEADGATE_SIMULATED_RUNS` says how many (`make bench` takes 1,000).
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from typing import Any

import pytest

from engine.events import Event, RequestEvent, SchedulerEvent
from engine.workflow.schema import Workflow
from replay.diagnosis.diagnosis import INSTANT_SECONDS
from replay.state.rows import BlameRow
from tests.replay.diagnosis.simulated import fold, simulate
from tests.replay.stretches import bin_by_bin

RUNS = int(os.environ.get("HEADGATE_SIMULATED_RUNS", "300"))
PER_TEST = 10
ENDS = frozenset({"task_lease_released", "cancelled"})


def random_workflow(seed: int) -> Workflow:
    luck = random.Random(seed)
    providers = {name: _provider(luck) for name in ("alpha", "beta")[: luck.randint(1, 2)]}
    models = {
        f"model{n}": {
            "provider": luck.choice(list(providers)),
            "model": f"m{n}",
            "max_parallel_requests": luck.randint(1, 5),
        }
        for n in range(luck.randint(1, 3))
    }
    columns: list[dict[str, Any]] = [{"type": "sampler", "name": "topic", "values": ["a", "b"]}]
    for number in range(luck.randint(1, 4)):
        needs = luck.sample([column["name"] for column in columns], luck.randint(0, len(columns)))
        columns.append(
            {
                "type": "llm_text",
                "name": f"text{number}",
                "model": luck.choice(list(models)),
                "prompt": "Write. " + " ".join(f"{{{{ {name} }}}}" for name in needs),
            }
        )
    run: dict[str, Any] = {
        "buffer_size": luck.randint(1, 6),
        "max_concurrent_row_groups": luck.randint(1, 3),
        "max_in_flight_tasks": luck.randint(1, 12),
        "max_attempts": luck.randint(1, 3),
        "task_shares": luck.choice(["strict_fair", "bounded_borrow"]),
        "provider_aware": luck.random() < 0.5,
    }
    if luck.random() < 0.3:
        run["startup_ramp_seconds"] = luck.uniform(0.5, 5.0)
    return Workflow.model_validate(
        {
            "name": "random",
            "records": luck.randint(2, 14),
            "seed": seed,
            "providers": providers,
            "models": models,
            "columns": columns,
            "run": run,
        }
    )


def _provider(luck: random.Random) -> dict[str, Any]:
    mean = luck.choice([0.01, 0.2, 0.8])
    provider: dict[str, Any] = {
        "type": "scripted",
        "seed": luck.randint(0, 99),
        "latency": {"mean": mean, "spread": mean * luck.choice([0.0, 0.3])},
        "error_rate": luck.choice([0.0, 0.0, 0.2]),
    }
    if luck.random() < 0.4:
        start = luck.uniform(0.0, 2.0)
        provider["rate_limits"] = [
            {
                "from": start,
                "to": start + luck.uniform(0.2, 2.0),
                "retry_after": luck.choice([None, 0.3, 1.5]),
                "allow": luck.randint(0, 2),
            }
        ]
    if luck.random() < 0.2:
        provider["timeout_rate"] = 0.1
        provider["timeout_seconds"] = 3.0
    return provider


def lives(events: list[Event]) -> float:
    """Seconds from dependency-ready to the end, over all tasks, retries waiting included."""
    born: dict[str, float] = {}
    deferred: set[str] = set()
    total = 0.0
    for event in events:
        if not isinstance(event, SchedulerEvent) or event.task_id is None:
            continue
        task, kind = event.task_id, event.event_kind
        if kind == "dependency_ready":
            born.setdefault(task, event.captured_at_monotonic)
            deferred.discard(task)
        elif kind == "retry_deferred":
            deferred.add(task)
        elif _ends(kind, task in deferred) and task in born:
            total += event.captured_at_monotonic - born.pop(task)
    assert born == {}
    return total


def _ends(kind: str, deferred: bool) -> bool:
    """A deferred task outlives its lease, until it is given up or executed again."""
    if deferred:
        return kind in ("cancelled", "non_retryable_dropped")
    return kind in ENDS


def in_flight_seconds(events: list[Event]) -> dict[str, tuple[float, int]]:
    """By request resource, the integral of calls in flight, and how many there were."""
    total: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    since: dict[str, float] = {}
    for event in events:
        if isinstance(event, RequestEvent) and event.request_resource_key is not None:
            lease = event.request_lease_id or ""
            if event.event_kind == "request_lease_acquired":
                since[lease] = event.captured_at_monotonic
            elif event.event_kind == "request_lease_released":
                held = event.captured_at_monotonic - since.pop(lease)
                seconds, calls = total[event.request_resource_key.label]
                total[event.request_resource_key.label] = (seconds + held, calls + 1)
    assert since == {}
    return total


def check(seed: int) -> None:
    run, events = simulate(random_workflow(seed))
    output = fold(run, events)
    cells = [row for row in output.blame if row.scope == "cell"]
    slots = [row for row in output.blame if row.scope == "run" and row.resource]
    assert sum(row.seconds for row in cells) == pytest.approx(lives(events), rel=1e-3, abs=2e-3)
    for resource, (seconds, calls) in in_flight_seconds(events).items():
        used = [r for r in slots if r.resource == resource]
        busy = sum(r.seconds for r in used if r.verdict in ("working", "provider_latency"))
        assert busy == pytest.approx(seconds, rel=1e-3, abs=INSTANT_SECONDS * calls), resource
    check_bins(events, slots)
    assert [row.verdict for row in output.verdicts if row.tier in ("A", "B")] == []
    verdicts = {row.verdict for row in output.blame}
    assert not verdicts & {"leaked_lease", "lost_wakeup", "event_loop_lag", "unsatisfiable"}
    assert not {verdict for verdict in verdicts if verdict.startswith("pending")}


def check_bins(events: list[Event], slots: list[BlameRow]) -> None:
    """In no second is more of a resource shared out than there is."""
    most = {
        event.request_resource_key.label: int(event.diagnostics["effective_max"])
        for event in events
        if isinstance(event, RequestEvent)
        and event.event_kind == "request_resource_registered"
        and event.request_resource_key is not None
    }
    by_bin: dict[tuple[int, str], float] = defaultdict(float)
    for row in bin_by_bin(slots):
        by_bin[row.bin, row.resource] += row.seconds
    for (_, resource), seconds in by_bin.items():
        assert seconds <= most[resource] * 1.001


@pytest.mark.parametrize("first", range(0, RUNS, PER_TEST))
def test_blame_adds_up_and_agrees_with_the_ledger(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        check(seed)
