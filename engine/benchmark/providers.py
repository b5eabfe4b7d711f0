"""The scenarios `providers-*`: providers that refuse, slow down, fail or fall silent, each with the
time of a client that knows what is coming.

The optimum follows from the script alone: `seconds_per_record` at the rate that the provider gives
while it gives any, and `lost_seconds` in which it gives none. It is not fitted to any policy. Times
of a script are in round trips, so that one model serves latencies from a tenth of a second to
twenty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.benchmark.scenario import Scenario, model, scripted, text, workflow
from engine.workflow.load import LoadedWorkflow

Distribution = Literal["constant", "lognormal", "heavy"]
Script = Callable[[float], dict[str, Any]]

ALWAYS = ("ended_as_planned", "verified", "timelines_whole")
GATES = ("no_row_dropped", "clairvoyant", "few_refused")
LATENCY_SECONDS = 1.0
CAPACITY = 16
STORM_ROUND_TRIPS = 20.0
STORM_CAPACITY = 2
LOW_CAPACITY = 6
CYCLE_ROUND_TRIPS = 40.0
BURST_ROUND_TRIPS = 2.0
"""How much of a budget is full at the beginning."""
ANSWER_TOKENS = 200
PROMPT_TOKENS = 4
"""Words of the prompts of these scenarios."""
TOKENS_PER_ROUND_TRIP = 10 * (ANSWER_TOKENS + PROMPT_TOKENS)
GROWTH_START, GROWTH_FACTOR, GROWTH_ROUND_TRIPS = 4, 2.0, 10.0
_SPREAD: dict[Distribution, float] = {"constant": 0.0, "lognormal": 0.3, "heavy": 1.3}
"""Standard deviation of a latency, as a share of its mean."""


def latency_script(seconds: float, distribution: Distribution) -> dict[str, Any]:
    """The `latency` of a script."""
    if distribution == "constant":
        return {"distribution": "constant", "mean": seconds}
    spread = _SPREAD[distribution] * seconds
    return {"distribution": "lognormal", "mean": seconds, "spread": spread}


@dataclass(frozen=True)
class ProviderModel:
    """One kind of provider. `script` gives what it does at a mean latency of so many seconds."""

    name: str
    title: str
    script: Script = lambda seconds: {}
    cap: int = CAPACITY
    """`max_parallel_requests` of the workflow."""
    places: float = CAPACITY
    """Calls at once that a client which knows the script keeps in service, on average."""
    lost_round_trips: float = 0.0
    gates: tuple[str, ...] = GATES
    ends: str | None = None
    bounds: dict[str, Any] = field(default_factory=dict)

    def optimum(self, seconds: float) -> dict[str, float]:
        """`seconds_per_record` and `lost_seconds` at this mean latency."""
        return {
            "seconds_per_record": seconds / self.places,
            "lost_seconds": self.lost_round_trips * seconds,
        }


def _window(seconds: float) -> dict[str, float]:
    span = STORM_ROUND_TRIPS * seconds
    return {"from": span, "to": 2 * span}


def _growth_lost() -> float:
    """Round trips that a client loses which grows as fast as it may: in service are `factor` times
    an average that follows it, so that both grow exponentially from `start` to the capacity."""
    start = GROWTH_START / CAPACITY
    return GROWTH_ROUND_TRIPS / (GROWTH_FACTOR - 1.0) * (-math.log(start) - (1.0 - start))


_PER_MINUTE = 10 * 60.0
"""Ten in a round trip, in a minute if a round trip takes a second."""
_BURST = int(10 * BURST_ROUND_TRIPS)

PROVIDER_MODELS = (
    ProviderModel("steady", "A provider that never refuses"),
    ProviderModel(
        "hidden-cap",
        "16 at once, asked for 64, without a delay",
        lambda seconds: {"capacity": CAPACITY},
        cap=4 * CAPACITY,
    ),
    ProviderModel(
        "hidden-cap-retry-after",
        "The same, and each refusal names five round trips",
        lambda seconds: {"capacity": CAPACITY, "capacity_retry_after": 5.0 * seconds},
        cap=4 * CAPACITY,
    ),
    ProviderModel(
        "bounded-queue",
        "The same, refused with 503 and a delay of one round trip",
        lambda seconds: {
            "capacity": CAPACITY,
            "capacity_status": 503,
            "capacity_retry_after": seconds,
        },
        cap=4 * CAPACITY,
    ),
    ProviderModel(
        "unbounded-queue",
        "16 at once, and a line for all others: it never refuses, and only gets slower",
        lambda seconds: {"capacity": CAPACITY, "queue": True},
        cap=4 * CAPACITY,
        gates=(*GATES, "below_the_knee"),
        bounds={"knee": CAPACITY},
    ),
    ProviderModel(
        "request-bucket",
        "Ten requests a round trip, 20 at once, without a delay",
        lambda seconds: {
            "requests_per_minute": _PER_MINUTE / seconds,
            "burst": _BURST,
        },
        places=10.0,
        lost_round_trips=-BURST_ROUND_TRIPS,
    ),
    ProviderModel(
        "request-bucket-told",
        "The same, and headers that tell what is left",
        lambda seconds: {
            "requests_per_minute": _PER_MINUTE / seconds,
            "burst": _BURST,
            "tells_budgets": True,
        },
        places=10.0,
        lost_round_trips=-BURST_ROUND_TRIPS,
    ),
    ProviderModel(
        "token-bucket",
        "Tokens for ten calls a round trip, of lognormal size, and headers that tell what is left",
        lambda seconds: {
            "tokens_per_minute": TOKENS_PER_ROUND_TRIP * 60.0 / seconds,
            "token_burst": int(BURST_ROUND_TRIPS * TOKENS_PER_ROUND_TRIP),
            "completion_tokens": ANSWER_TOKENS,
            "completion_spread": 0.6,
            "tells_budgets": True,
        },
        places=10.0,
        lost_round_trips=-BURST_ROUND_TRIPS,
    ),
    ProviderModel(
        "storm",
        "All is refused for 20 round trips",
        lambda seconds: {"rate_limits": [_window(seconds)]},
        lost_round_trips=STORM_ROUND_TRIPS,
    ),
    ProviderModel(
        "half-storm",
        "Half is refused for 20 round trips, at random",
        lambda seconds: {"errors": [{**_window(seconds), "status": 429, "rate": 0.5}]},
        lost_round_trips=STORM_ROUND_TRIPS,
        gates=("no_row_dropped", "clairvoyant"),
    ),
    ProviderModel(
        "part-storm",
        "All but two at once are refused for 20 round trips",
        lambda seconds: {"rate_limits": [{**_window(seconds), "allow": STORM_CAPACITY}]},
        lost_round_trips=STORM_ROUND_TRIPS * (1.0 - STORM_CAPACITY / CAPACITY),
    ),
    ProviderModel(
        "outage",
        "529 for 20 round trips",
        lambda seconds: {"errors": [{**_window(seconds), "status": 529}]},
        lost_round_trips=STORM_ROUND_TRIPS,
    ),
    ProviderModel(
        "flapping",
        "16 and 6 at once in turn, for 40 round trips each",
        lambda seconds: {
            "capacity_cycle": {
                "seconds": CYCLE_ROUND_TRIPS * seconds,
                "capacities": [CAPACITY, LOW_CAPACITY],
            }
        },
        places=(CAPACITY + LOW_CAPACITY) / 2,
    ),
    ProviderModel(
        "slope",
        "Refuses more than twice what it served on average over the last ten round trips",
        lambda seconds: {
            "growth": {
                "start": GROWTH_START,
                "factor": GROWTH_FACTOR,
                "seconds": GROWTH_ROUND_TRIPS * seconds,
            }
        },
        lost_round_trips=_growth_lost(),
    ),
    ProviderModel(
        "flaky",
        "One call in twenty fails",
        lambda seconds: {"error_rate": 0.05},
        places=0.95 * CAPACITY,
    ),
    ProviderModel(
        "quota-gone",
        "402 from 20 round trips on",
        lambda seconds: {"errors": [{"from": STORM_ROUND_TRIPS * seconds, "status": 402}]},
        gates=("no_row_dropped",),
        ends="stopped",
    ),
)


def provider_script(kind: ProviderModel, seconds: float, distribution: Distribution) -> Any:
    """The script of a provider with this latency."""
    return kind.script(seconds) | {"latency": latency_script(seconds, distribution)}


def _workflow(kind: ProviderModel, records: int, seed: int) -> LoadedWorkflow:
    script = provider_script(kind, LATENCY_SECONDS, "lognormal")
    return workflow(
        name="providers",
        records=records,
        seed=seed,
        providers={"alpha": scripted(LATENCY_SECONDS, seed=seed) | script},
        models={"writer": model("alpha", "m", kind.cap)},
        # Prompts that differ, since latency and fate of a call hang on its prompt.
        columns=[{"type": "sampler", "name": "id", "uuid": True}, text("answer", "writer", "id")],
        run={"buffer_size": 500, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 256},
    )


def _scenario(kind: ProviderModel) -> Scenario:
    return Scenario(
        f"providers-{kind.name}",
        kind.title,
        (*ALWAYS, *kind.gates),
        "virtual",
        build=lambda records, seed: _workflow(kind, records, seed),
        records=4000,
        smoke_records=800,
        ends=kind.ends,
        bounds={**kind.optimum(LATENCY_SECONDS), **kind.bounds},
    )


PROVIDER_SCENARIOS = tuple(_scenario(kind) for kind in PROVIDER_MODELS)
