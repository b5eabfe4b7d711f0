"""The scenarios of `headgate bench`, by their stable ids. One list, and long for that."""

from __future__ import annotations

from typing import Any

from engine.benchmark.scenario import Scenario, Stop, model, sampled, scripted, text, workflow
from engine.generators.custom import RowModels
from engine.workflow.load import LoadedWorkflow

ALWAYS = ("ended_as_planned", "verified", "timelines_whole")
"""Gates of every run."""
SAME_ROWS = "same_rows"
"""Rows hash alike in every iteration and in the serial run."""
SMALL = {"buffer_size": 50, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 64}


def _narrow_serial(records: int, seed: int) -> LoadedWorkflow:
    return workflow(
        name="narrow-serial",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.02)},
        models={"writer": model("alpha", "m", 8)},
        columns=[
            sampled("number"),
            text("first", "writer", "number"),
            text("second", "writer", "first"),
            text("third", "writer", "second"),
        ],
        run=SMALL,
    )


def _wide_roots(records: int, seed: int) -> LoadedWorkflow:
    names = [f"root{n}" for n in range(8)]
    return workflow(
        name="wide-roots",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.02), "beta": scripted(0.02)},
        models={"even": model("alpha", "m", 16), "odd": model("beta", "m", 16)},
        columns=[text(name, "odd" if number % 2 else "even") for number, name in enumerate(names)],
        run=SMALL,
    )


def _dual_model(records: int, seed: int) -> LoadedWorkflow:
    return workflow(
        name="dual-model",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.03), "beta": scripted(0.015)},
        models={"writer": model("alpha", "gen", 16), "judge": model("beta", "judge", 8)},
        columns=[
            sampled("number"),
            text("answer", "writer", "number"),
            text("verdict", "judge", "answer"),
        ],
        run=SMALL,
    )


def _heavy_root(records: int, seed: int) -> LoadedWorkflow:
    """A slow root without any input before a fast column behind it."""
    return workflow(
        name="heavy-root",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.2), "beta": scripted(0.01)},
        models={"slow": model("alpha", "big", 16), "fast": model("beta", "small", 16)},
        columns=[text("draft", "slow"), text("title", "fast", "draft")],
        # More root work than task slots: whoever comes second has to be let in.
        run={"buffer_size": 200, "max_concurrent_row_groups": 2, "max_in_flight_tasks": 24},
    )


def _heavy_root_seeded(records: int, seed: int) -> LoadedWorkflow:
    return workflow(
        name="heavy-root-seeded",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.2), "beta": scripted(0.01)},
        models={"slow": model("alpha", "big", 16), "fast": model("beta", "small", 16)},
        columns=[
            sampled("number"),
            text("draft", "slow", "number"),
            text("title", "fast", "draft"),
        ],
        run={"buffer_size": 200, "max_concurrent_row_groups": 2, "max_in_flight_tasks": 24},
    )


def _every_end(records: int, seed: int, provider: dict[str, Any]) -> LoadedWorkflow:
    return workflow(
        name="ends",
        records=records,
        seed=seed,
        providers={"alpha": provider},
        models={"writer": model("alpha", "m", 8)},
        columns=[
            sampled("number"),
            text("first", "writer", "number"),
            text("second", "writer", "first"),
            {"type": "expression", "name": "both", "template": "{{ first }} {{ second }}"},
        ],
        run={**SMALL, "max_attempts": 4},
    )


def _success(records: int, seed: int) -> LoadedWorkflow:
    return _every_end(records, seed, scripted(0.05))


def _failure(records: int, seed: int) -> LoadedWorkflow:
    """Some requests are refused for good, and their rows dropped."""
    refusals = ({"from": 0.1, "status": 400, "rate": 0.1},)
    return _every_end(records, seed, scripted(0.05, errors=refusals))


def _salvage(records: int, seed: int) -> LoadedWorkflow:
    """A part of the requests fails at first; each comes back after its back-off."""
    return _every_end(records, seed, scripted(0.05, error_rate=0.2))


def _idle(records: int, seed: int) -> LoadedWorkflow:
    """Three pools of different speed behind one root: each has to be kept busy."""
    return workflow(
        name="idle",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.02), "beta": scripted(0.05), "gamma": scripted(0.11)},
        models={
            "a": model("alpha", "m", 8),
            "b": model("beta", "m", 8),
            "c": model("gamma", "m", 8),
        },
        columns=[
            sampled("number"),
            text("quick", "a", "number"),
            text("steady", "b", "number"),
            text("slow", "c", "number"),
        ],
        run={"buffer_size": 50, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 128},
    )


def _cooldown(records: int, seed: int) -> LoadedWorkflow:
    """`alpha` refuses nearly everything for a while; `beta` has work all the time."""
    storm = ({"from": 0.5, "to": 2.5, "retry_after": 0.5, "allow": 1},)
    return workflow(
        name="cross-provider-cooldown",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.05, rate_limits=storm), "beta": scripted(0.05)},
        models={"limited": model("alpha", "m", 8), "healthy": model("beta", "m", 8)},
        columns=[
            sampled("number"),
            text("first", "limited", "number"),
            text("second", "healthy", "number"),
            text("third", "healthy", "number"),
        ],
        run={"buffer_size": 100, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 48},
    )


async def _some_calls(row: dict[str, Any], models: RowModels) -> str:
    """No call, one, or several, as the row and the answers decide."""
    answers: list[str] = []
    for turn in range(int(row["number"]) % 4):
        answers.append(await models.text("writer", f"Turn {turn} of {row['number']}."))
        if answers[-1].startswith("The quiet"):
            break
    return " ".join(answers) or "nothing to ask"


def _dynamic(records: int, seed: int) -> LoadedWorkflow:
    return workflow(
        name="dynamic-requests",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.02)},
        models={"writer": model("alpha", "m", 16)},
        columns=[
            sampled("number"),
            {
                "type": "custom",
                "name": "talk",
                "function": _some_calls,
                "depends_on": ["number"],
                "models": ["writer"],
            },
        ],
        run=SMALL,
    )


def _storm(records: int, seed: int, retry_after: float | None) -> LoadedWorkflow:
    """A provider that serves 16 at once and is asked for up to 64, by two equal columns."""
    provider = scripted(STORM_LATENCY, capacity=STORM_CAPACITY, capacity_retry_after=retry_after)
    return workflow(
        name="aimd-storm",
        records=records,
        seed=seed,
        providers={"alpha": provider},
        models={"writer": model("alpha", "m", 64)},
        columns=[text("left", "writer"), text("right", "writer")],
        run={"buffer_size": 500, "max_concurrent_row_groups": 4, "max_in_flight_tasks": 256},
    )


STORM_CAPACITY = 16
STORM_LATENCY = 1.0

_SCENARIOS = (
    Scenario(
        "admission-microbench",
        1,
        "Enqueue, select, acquire, commit and release of 1k to 100k tasks in 1 to 256 groups",
        "real",
        ("cost_grows_with_the_log",),
        kind="admission",
        warmups=1,
        iterations=5,
    ),
    Scenario(
        "heavy-root",
        1,
        "A slow root from scratch before a fast column behind it",
        "virtual",
        (*ALWAYS, "ready_idle", "root_debt", SAME_ROWS),
        build=_heavy_root,
        records=400,
        smoke_records=60,
    ),
    Scenario(
        "heavy-root-seeded",
        1,
        "The same with a seed column before it",
        "virtual",
        (*ALWAYS, "ready_idle", "root_debt", SAME_ROWS),
        build=_heavy_root_seeded,
        records=400,
        smoke_records=60,
    ),
    Scenario(
        "hidden-waiters-success",
        1,
        "No worker waits for a scheduler resource: all goes well",
        "virtual",
        (*ALWAYS, "ready_idle", SAME_ROWS),
        build=_success,
    ),
    Scenario(
        "hidden-waiters-failure",
        1,
        "No worker waits for a scheduler resource: requests are refused, rows dropped",
        "virtual",
        (*ALWAYS, "ready_idle"),
        build=_failure,
    ),
    Scenario(
        "hidden-waiters-cancellation",
        1,
        "No worker waits for a scheduler resource: the run is drained, then aborted",
        "virtual",
        ALWAYS,
        build=_success,
        stop=Stop(0.12, abort=True),
    ),
    Scenario(
        "hidden-waiters-salvage",
        1,
        "No worker waits for a scheduler resource: failures come back after their back-off",
        "virtual",
        (*ALWAYS, "ready_idle", SAME_ROWS),
        build=_salvage,
    ),
    Scenario(
        "idle-utilisation",
        1,
        "Three endpoint pools of different speed: none is idle while it has eligible work",
        "virtual",
        (*ALWAYS, "ready_idle", SAME_ROWS),
        build=_idle,
    ),
    Scenario(
        "e2e-narrow-serial",
        1,
        "One chain of three model columns",
        "real",
        (*ALWAYS, "ready_idle", SAME_ROWS, "neutral_wall"),
        build=_narrow_serial,
        warmups=1,
        iterations=5,
    ),
    Scenario(
        "e2e-wide-roots",
        1,
        "Eight independent roots on two providers",
        "real",
        (*ALWAYS, "ready_idle", SAME_ROWS, "neutral_wall"),
        build=_wide_roots,
        warmups=1,
        iterations=5,
    ),
    Scenario(
        "e2e-dual-model",
        1,
        "Generate with one model, judge with another",
        "real",
        (*ALWAYS, "ready_idle", SAME_ROWS, "neutral_wall"),
        build=_dual_model,
        warmups=1,
        iterations=5,
    ),
    Scenario(
        "e2e-heavy-root",
        1,
        "The heavy root in real time",
        "real",
        (*ALWAYS, "ready_idle", "root_debt", SAME_ROWS),
        build=_heavy_root,
        warmups=1,
        iterations=5,
    ),
    Scenario(
        "e2e-dynamic-requests",
        1,
        "A column that makes no call, one, or several, in real time",
        "real",
        (*ALWAYS, "ready_idle", SAME_ROWS, "neutral_wall"),
        build=_dynamic,
        warmups=1,
        iterations=5,
    ),
    Scenario(
        "e2e-cross-provider-cooldown",
        1,
        "One provider cools down while another has work",
        "real",
        (*ALWAYS, "healthy_keeps_working", "no_row_dropped", SAME_ROWS),
        build=_cooldown,
        records=300,
        smoke_records=300,
        warmups=1,
        iterations=5,
        bounds={"limited": "alpha/m/chat", "healthy": "beta/m/chat"},
    ),
    Scenario(
        "dynamic-requests",
        1,
        "Zero, one and many calls a task: one lease each, and the same rows",
        "virtual",
        (*ALWAYS, "ready_idle", SAME_ROWS),
        build=_dynamic,
    ),
    Scenario(
        "aimd-storm",
        1,
        "A provider that serves 16 at once, asked for 64, and tells no delay",
        "virtual",
        (*ALWAYS, "no_row_dropped", "goodput", "few_refusals", "fair_requests", SAME_ROWS),
        build=lambda records, seed: _storm(records, seed, None),
        records=2000,
        smoke_records=500,
        bounds={
            "resource": "alpha/m/chat",
            "capacity": STORM_CAPACITY,
            "latency": STORM_LATENCY,
        },
    ),
    Scenario(
        "aimd-storm-retry-after",
        1,
        "The same, and each refusal says when to come back",
        "virtual",
        (*ALWAYS, "no_row_dropped", "goodput", "few_refusals", "fair_requests", SAME_ROWS),
        build=lambda records, seed: _storm(records, seed, 5.0),
        records=2000,
        smoke_records=500,
        bounds={
            "resource": "alpha/m/chat",
            "capacity": STORM_CAPACITY,
            "latency": STORM_LATENCY,
        },
    ),
    Scenario(
        "observability-cost",
        1,
        "The same run without a recording, with one, and with a console beside it",
        "real",
        ("recording_is_cheap",),
        kind="observability",
        build=_dual_model,
        warmups=1,
        iterations=5,
    ),
)

SCENARIOS = {scenario.id: scenario for scenario in _SCENARIOS}
