"""The scenarios `providers-*`: providers that refuse, fail or fall silent, each with the time of a
client that knows what is coming.

The optimum follows from the script: `seconds_per_record` at the rate that the provider gives while
it gives any, and `lost_seconds` in which it gives none. It is not fitted to any policy.
"""

from __future__ import annotations

from typing import Any

from engine.benchmark.scenario import Scenario, model, scripted, text, workflow
from engine.workflow.load import LoadedWorkflow

ALWAYS = ("ended_as_planned", "verified", "timelines_whole")
LATENCY_SECONDS = 1.0
CAP = 16
LOST_SECONDS = 20.0
_WINDOW = {"from": 20.0, "to": 20.0 + LOST_SECONDS}


def _workflow(records: int, seed: int, cap: int, script: dict[str, Any]) -> LoadedWorkflow:
    latency = {"distribution": "lognormal", "mean": LATENCY_SECONDS, "spread": 0.3}
    return workflow(
        name="providers",
        records=records,
        seed=seed,
        providers={"alpha": scripted(LATENCY_SECONDS, seed=seed) | script | {"latency": latency}},
        models={"writer": model("alpha", "m", cap)},
        # Prompts that differ, since latency and fate of a call hang on its prompt.
        columns=[{"type": "sampler", "name": "id", "uuid": True}, text("answer", "writer", "id")],
        run={"buffer_size": 500, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 256},
    )


def _scenario(
    name: str,
    title: str,
    script: dict[str, Any],
    *,
    cap: int = CAP,
    rate: float = CAP / LATENCY_SECONDS,
    lost_seconds: float = 0.0,
    gates: tuple[str, ...] = ("no_row_dropped", "clairvoyant", "few_refused"),
    ends: str | None = None,
) -> Scenario:
    return Scenario(
        f"providers-{name}",
        title,
        (*ALWAYS, *gates),
        "virtual",
        build=lambda records, seed: _workflow(records, seed, cap, script),
        records=4000,
        smoke_records=800,
        ends=ends,
        bounds={"seconds_per_record": 1.0 / rate, "lost_seconds": lost_seconds},
    )


PROVIDER_SCENARIOS = (
    _scenario("steady", "A provider that never refuses", {}),
    _scenario(
        "hidden-cap", "16 at once, asked for 64, without a delay", {"capacity": CAP}, cap=4 * CAP
    ),
    _scenario(
        "hidden-cap-retry-after",
        "The same, and each refusal names 5 s",
        {"capacity": CAP, "capacity_retry_after": 5.0},
        cap=4 * CAP,
    ),
    _scenario(
        "bounded-queue",
        "The same, refused with 503 and a delay of 1 s",
        {"capacity": CAP, "capacity_status": 503, "capacity_retry_after": 1.0},
        cap=4 * CAP,
    ),
    _scenario(
        "request-bucket",
        "600 requests a minute, 20 at once, without a delay",
        {"requests_per_minute": 600, "burst": 20},
        rate=10.0,
    ),
    _scenario(
        "storm",
        "All is refused for 20 s",
        {"rate_limits": [_WINDOW]},
        lost_seconds=LOST_SECONDS,
    ),
    _scenario(
        "half-storm",
        "Half is refused for 20 s, at random",
        {"errors": [{**_WINDOW, "status": 429, "rate": 0.5}]},
        lost_seconds=LOST_SECONDS,
        gates=("no_row_dropped", "clairvoyant"),
    ),
    _scenario(
        "outage",
        "529 for 20 s",
        {"errors": [{**_WINDOW, "status": 529}]},
        lost_seconds=LOST_SECONDS,
    ),
    _scenario(
        "flaky",
        "One call in twenty fails",
        {"error_rate": 0.05},
        rate=CAP / LATENCY_SECONDS * 0.95,
    ),
    _scenario(
        "quota-gone",
        "402 from 20 s on",
        {"errors": [{"from": 20.0, "status": 402}]},
        gates=("no_row_dropped",),
        ends="stopped",
    ),
)
