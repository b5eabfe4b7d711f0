"""The scenarios of `headgate bench`, by their stable ids."""

from __future__ import annotations

from functools import partial
from typing import Any

from engine.benchmark.providers import PROVIDER_SCENARIOS
from engine.benchmark.scenario import Scenario, Stop, model, sampled, scripted, text, workflow
from engine.workflow.columns.custom import RowModels
from engine.workflow.load import LoadedWorkflow

ALWAYS = ("ended_as_planned", "verified", "timelines_whole")
"""Gates of every run."""
SAME_ROWS = "same_rows"
"""Rows hash alike in every iteration and in the serial run."""
UTILISATION = (*ALWAYS, "ready_idle", SAME_ROWS)
NEUTRAL = (*UTILISATION, "neutral_wall")
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


def _heavy_root(records: int, seed: int, *, seeded: bool = False) -> LoadedWorkflow:
    """A slow root before a fast column; `seeded` puts a sampled column before both."""
    seeds = ["number"] if seeded else []
    return workflow(
        name="heavy-root-seeded" if seeded else "heavy-root",
        records=records,
        seed=seed,
        providers={"alpha": scripted(0.2), "beta": scripted(0.01)},
        models={"slow": model("alpha", "big", 16), "fast": model("beta", "small", 16)},
        columns=[
            *map(sampled, seeds),
            text("draft", "slow", *seeds),
            text("title", "fast", "draft"),
        ],
        # More root work than task slots: whoever comes second has to be let in.
        run={"buffer_size": 200, "max_concurrent_row_groups": 2, "max_in_flight_tasks": 24},
    )


def _every_end(
    records: int, seed: int, provider: dict[str, Any], attempts: int = 4
) -> LoadedWorkflow:
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
        run={**SMALL, "max_attempts": attempts},
    )


def _success(records: int, seed: int) -> LoadedWorkflow:
    return _every_end(records, seed, scripted(0.05))


def _failure(records: int, seed: int) -> LoadedWorkflow:
    """Some requests are refused for good, and their rows dropped."""
    refusals = ({"from": 0.1, "status": 400, "rate": 0.1},)
    return _every_end(records, seed, scripted(0.05, errors=refusals))


def _salvage(records: int, seed: int) -> LoadedWorkflow:
    """A part of the requests fails at first; each comes back after its back-off.

    There are attempts enough for every row. Which failures count as a task's own depends on who
    else is answered meanwhile, so that the rows which run out of few attempts are not those of a
    serial run.
    """
    return _every_end(records, seed, scripted(0.05, error_rate=0.2), attempts=20)


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

_virtual = partial(Scenario, clock="virtual")
_real = partial(Scenario, clock="real", warmups=1, iterations=5)


def _storm_scenario(name: str, title: str, retry_after: float | None) -> Scenario:
    return _virtual(
        name,
        title,
        (*ALWAYS, "no_row_dropped", "goodput", "few_refusals", "fair_requests", SAME_ROWS),
        build=partial(_storm, retry_after=retry_after),
        records=2000,
        smoke_records=500,
        bounds={
            "resource": "alpha/m/chat",
            "capacity": STORM_CAPACITY,
            "latency": STORM_LATENCY,
        },
    )


_SCENARIOS = (
    _real(
        "admission-microbench",
        "Enqueue, select, acquire, commit and release of 1k to 100k tasks in 1 to 256 groups",
        ("cost_grows_with_the_log",),
        kind="admission",
    ),
    _virtual(
        "heavy-root",
        "A slow root from scratch before a fast column behind it",
        (*ALWAYS, "ready_idle", "root_debt", SAME_ROWS),
        build=_heavy_root,
        records=400,
        smoke_records=60,
    ),
    _virtual(
        "heavy-root-seeded",
        "The same with a seed column before it",
        (*ALWAYS, "ready_idle", "root_debt", SAME_ROWS),
        build=partial(_heavy_root, seeded=True),
        records=400,
        smoke_records=60,
    ),
    _virtual(
        "hidden-waiters-success",
        "No worker waits for a scheduler resource: all goes well",
        UTILISATION,
        build=_success,
    ),
    _virtual(
        "hidden-waiters-failure",
        "No worker waits for a scheduler resource: requests are refused, rows dropped",
        (*ALWAYS, "ready_idle"),
        build=_failure,
    ),
    _virtual(
        "hidden-waiters-cancellation",
        "No worker waits for a scheduler resource: the run is drained, then aborted",
        ALWAYS,
        build=_success,
        stop=Stop(0.12, abort=True),
    ),
    _virtual(
        "hidden-waiters-salvage",
        "No worker waits for a scheduler resource: failures come back after their back-off",
        (*UTILISATION, "no_row_dropped"),
        build=_salvage,
        version=2,
    ),
    _virtual(
        "idle-utilisation",
        "Three endpoint pools of different speed: none is idle while it has eligible work",
        UTILISATION,
        build=_idle,
    ),
    _real("e2e-narrow-serial", "One chain of three model columns", NEUTRAL, build=_narrow_serial),
    _real("e2e-wide-roots", "Eight independent roots on two providers", NEUTRAL, build=_wide_roots),
    _real(
        "e2e-dual-model", "Generate with one model, judge with another", NEUTRAL, build=_dual_model
    ),
    _real(
        "e2e-heavy-root",
        "The heavy root in real time",
        (*ALWAYS, "ready_idle", "root_debt", SAME_ROWS),
        build=_heavy_root,
    ),
    _real(
        "e2e-dynamic-requests",
        "A column that makes no call, one, or several, in real time",
        NEUTRAL,
        build=_dynamic,
    ),
    _real(
        "e2e-cross-provider-cooldown",
        "One provider cools down while another has work",
        (*ALWAYS, "healthy_keeps_working", "no_row_dropped", SAME_ROWS),
        build=_cooldown,
        records=300,
        smoke_records=300,
        bounds={"limited": "alpha/m/chat", "healthy": "beta/m/chat"},
    ),
    _virtual(
        "dynamic-requests",
        "Zero, one and many calls a task: one lease each, and the same rows",
        UTILISATION,
        build=_dynamic,
    ),
    _storm_scenario(
        "aimd-storm", "A provider that serves 16 at once, asked for 64, and tells no delay", None
    ),
    _storm_scenario(
        "aimd-storm-retry-after", "The same, and each refusal says when to come back", 5.0
    ),
    _real(
        "observability-cost",
        "The same run without a recording, with one, and with a console beside it",
        ("recording_is_cheap",),
        kind="observability",
        build=_dual_model,
    ),
)

SCENARIOS = {scenario.id: scenario for scenario in (*_SCENARIOS, *PROVIDER_SCENARIOS)}
