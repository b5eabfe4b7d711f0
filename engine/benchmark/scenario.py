"""`Scenario`: one repeatable piece of work with a stable id, and what must hold when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import CustomColumn, Workflow

Kind = Literal["run", "admission", "observability"]


@dataclass(frozen=True)
class Stop:
    """The run is stopped at `at` seconds: drained, or aborted as well."""

    at: float
    abort: bool


@dataclass(frozen=True)
class Scenario:
    """`build` gives the workflow for so many records and a seed.

    A `virtual` scenario is deterministic: one seed gives one stream of events and one set of rows.
    A `real` one measures time; in smoke mode it runs under the virtual clock too. `gates` name what
    `replay.metrics.gates` judges, with `bounds` where a gate needs a number of this scenario's own.
    """

    id: str
    title: str
    gates: tuple[str, ...]
    clock: Literal["virtual", "real"]
    version: int = 1
    kind: Kind = "run"
    build: Callable[[int, int], LoadedWorkflow] | None = None
    records: int = 200
    smoke_records: int = 20
    seed: int = 7
    warmups: int = 0
    iterations: int = 1
    stop: Stop | None = None
    ends: str | None = None
    """The outcome that the run is to have; None for success, or what a stop makes of it."""
    bounds: dict[str, Any] = field(default_factory=dict)


def workflow(**parts: Any) -> LoadedWorkflow:
    """A workflow from its parts, with the functions of its custom columns."""
    made = Workflow.model_validate(parts)
    functions = {
        column.name: column.function
        for column in made.columns
        if isinstance(column, CustomColumn) and callable(column.function)
    }
    return LoadedWorkflow(made, None, functions)


def scripted(mean: float, **script: Any) -> dict[str, Any]:
    """A provider with a constant latency of `mean` seconds unless the script says otherwise."""
    latency = {"distribution": "constant", "mean": mean}
    return {"type": "scripted", "latency": latency, **script}


def model(provider: str, name: str, cap: int) -> dict[str, Any]:
    """A model as a workflow file declares it; `cap` is its `max_parallel_requests`."""
    return {"provider": provider, "model": name, "max_parallel_requests": cap}


def sampled(name: str) -> dict[str, Any]:
    """A column of random integers as a workflow file declares it."""
    return {"type": "sampler", "name": name, "integers": {"low": 100, "high": 999}}


def text(name: str, alias: str, *needs: str) -> dict[str, Any]:
    """A model column whose prompt uses the columns it needs, and its own name."""
    prompt = " ".join([f"Write {name}.", *(f"{{{{ {need} }}}}" for need in needs)])
    return {"type": "llm_text", "name": name, "model": alias, "prompt": prompt}
