"""Artifacts of a benchmark: made, written with a CSV and a summary beside them, and told."""

from __future__ import annotations

import csv
import os
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.benchmark.scenario import Scenario
from engine.errors import UserError
from engine.version import VERSION
from engine.workflow.schema import ScriptedProvider, Workflow
from replay.runs.artifact import (
    ARTIFACT_SCHEMA_VERSION,
    DERIVED,
    Artifact,
    ClockScript,
    GateResult,
    Inputs,
    Iteration,
    Metric,
)

KNOBS = ("PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONMALLOC", "PYTHONASYNCIODEBUG")
"""Variables that may change how fast a run is; none of them holds a secret."""
STATISTICS = ("mean", "p50", "p95", "min", "max", "stddev")


def make_artifact(
    scenario: Scenario,
    variant: str,
    *,
    inputs: Inputs,
    provider_script: dict[str, Any],
    virtual: bool,
    capacity_plan: dict[str, Any] | None,
    iterations: list[Iteration],
    metrics: dict[str, Metric],
    gates: list[GateResult],
    missing_reasons: dict[str, str],
) -> Artifact:
    """`metrics` must name every one of `DERIVED`."""
    return Artifact(
        artifact_schema_version=ARTIFACT_SCHEMA_VERSION,
        scenario_id=scenario.id,
        scenario_version=scenario.version,
        harness_version=VERSION,
        variant=variant,
        baseline_sha=None,
        candidate_sha=None,
        command_lines=[shlex.join(["headgate", *sys.argv[1:]])],
        machine=machine(),
        environment_knobs={name: os.environ[name] for name in KNOBS if name in os.environ},
        inputs=inputs,
        provider_script=provider_script,
        clock_script=ClockScript("virtual", 0.0, "jumps to the next timer when nothing is ready")
        if virtual
        else ClockScript("real", 0.0, "the monotonic clock of the machine"),
        capacity_plan=capacity_plan,
        iterations=iterations,
        derived_metrics={name: metrics[name] for name in DERIVED},
        metrics=metrics,
        gates=gates,
        missing_reasons={
            "candidate_sha": "the code was run where it lies, not from a commit",
            **missing_reasons,
        },
    )


def inputs_of(workflow: Workflow, warmups: int, iterations: int) -> Inputs:
    """What the workflow of a benchmark was given, as its artifact keeps it."""
    run = workflow.run
    return Inputs(
        record_count=workflow.records,
        buffer_size=run.buffer_size,
        row_group_concurrency=run.max_concurrent_row_groups,
        task_capacity=run.max_in_flight_tasks,
        latency_knobs={name: script["latency"] for name, script in scripts_of(workflow).items()},
        warmups=warmups,
        iterations=iterations,
        seed=workflow.seed,
    )


def scripts_of(workflow: Workflow) -> dict[str, Any]:
    """The scripts of the workflow's scripted providers, by provider."""
    return {
        name: provider.model_dump(mode="json", by_alias=True)
        for name, provider in workflow.providers.items()
        if isinstance(provider, ScriptedProvider)
    }


def machine() -> dict[str, Any]:
    """What the benchmark ran on, with the load of the last minute."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def write_artifact(artifact: Artifact, path: Path) -> None:
    """The JSON at `path`; beside it its metrics as CSV and a summary as Markdown."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(artifact), indent=1) + b"\n")
        with path.with_suffix(".csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("metric", "unit", "count", *STATISTICS, "missing_reason"))
            for name, measured in artifact.metrics.items():
                numbers = (
                    "" if (n := getattr(measured, s)) is None else repr(n) for s in STATISTICS
                )
                table.writerow(
                    (name, measured.unit, measured.count, *numbers, measured.missing_reason or "")
                )
        path.with_suffix(".md").write_text("\n".join(summary_lines(artifact)) + "\n")
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None


def summary_lines(artifact: Artifact) -> list[str]:
    """The artifact in a page of Markdown."""
    inputs = artifact.inputs
    lines = [
        f"# {artifact.scenario_id} (version {artifact.scenario_version}), {artifact.variant}",
        "",
        f"{len(artifact.iterations)} iterations, {inputs.record_count} records, "
        f"{artifact.clock_script.clock} clock, seed {inputs.seed}, "
        f"headgate {artifact.harness_version}, Python {artifact.machine['python']}",
        "",
        "| gate | verdict | |",
        "|---|---|---|",
        *(f"| {gate.gate} | {gate.verdict} | {gate.detail} |" for gate in artifact.gates),
        "",
        "| metric | unit | p50 | p95 | max | |",
        "|---|---|---|---|---|---|",
    ]
    for name, measured in artifact.metrics.items():
        numbers = " | ".join(
            "" if n is None else f"{n:.6g}" for n in (measured.p50, measured.p95, measured.max)
        )
        lines.append(f"| {name} | {measured.unit} | {numbers} | {measured.missing_reason or ''} |")
    return lines


def report_artifact(artifact: Artifact, path: Path, say: Callable[[str], None]) -> None:
    """Says how many iterations there were, what each gate found, and where the artifact is."""
    say(f"{artifact.scenario_id}, {artifact.variant}: {len(artifact.iterations)} iterations")
    for gate in artifact.gates:
        say(f"  {gate.verdict:<12} {gate.gate}: {gate.detail}")
    say(f"  artifact {path}")
