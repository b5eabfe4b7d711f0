"""`headgate bench run`: the iterations of a scenario in one or two variants, their artifacts, their
gates.

Two variants are run in turn, the order changing with every iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from console.cli.bench.artifact import (
    inputs_of,
    make_artifact,
    report_artifact,
    scripts_of,
    write_artifact,
)
from console.cli.bench.iteration import Ran, run_once, serial_hashes
from console.cli.bench.loops import LoopOutcome, run_admission, run_observability
from engine.benchmark.catalogue import SAME_ROWS, SCENARIOS
from engine.benchmark.scenario import Scenario
from engine.benchmark.variants import DEFAULT, VARIANTS, plan_variant, serial_plan
from engine.errors import UserError
from engine.run.plan import RunPlan
from replay.metrics.event_metrics import Measures
from replay.metrics.gates import Evidence, evaluate
from replay.metrics.run_metrics import metric
from replay.runs.artifact import DERIVED, Artifact, Iteration, Metric

SMOKE_ITERATIONS = 2


@dataclass(frozen=True)
class Request:
    """What to run. None leaves a number to the scenario."""

    scenario: Scenario
    variants: tuple[str, ...]
    out: Path
    records: int | None = None
    iterations: int | None = None
    smoke: bool = False

    @property
    def virtual(self) -> bool:
        return self.smoke or self.scenario.clock == "virtual"

    @property
    def rounds(self) -> int:
        if self.iterations is not None:
            return self.iterations
        return SMOKE_ITERATIONS if self.virtual else self.scenario.iterations

    @property
    def warmups(self) -> int:
        return 0 if self.virtual else self.scenario.warmups

    @property
    def record_count(self) -> int:
        if self.records is not None:
            return self.records
        return self.scenario.smoke_records if self.smoke else self.scenario.records


@dataclass
class Collected:
    """The iterations of one variant."""

    plan: RunPlan
    ran: list[Ran] = field(default_factory=list)


def find_scenario(name: str) -> Scenario:
    """Raises `UserError` for an unknown id."""
    if name not in SCENARIOS:
        raise UserError(f'there is no scenario "{name}"; known: {", ".join(SCENARIOS)}')
    return SCENARIOS[name]


def check_variant(name: str) -> str:
    """The name of a variant as it is. Raises `UserError` for an unknown one."""
    if name not in VARIANTS:
        raise UserError(f'there is no policy "{name}"; known: {", ".join(VARIANTS)}')
    return name


def run_scenario(request: Request, say: Callable[[str], None] = click.echo) -> list[Artifact]:
    """Run it, write an artifact for each variant, and say what its gates found.

    Raises `UserError` where a run fails or the folder can't be used.
    """
    prepare_folder(request.out)
    scenario = request.scenario
    if scenario.kind == "admission":
        artifacts = [_loop_artifact(request, run_admission(request.rounds, request.smoke))]
    elif scenario.kind == "observability":
        runs = run_observability(scenario, request.record_count, request.rounds)
        artifacts = [_loop_artifact(request, runs)]
    else:
        artifacts = _run_variants(request)
    for artifact in artifacts:
        write_artifact(artifact, request.out / f"{artifact.variant}.json")
        report_artifact(artifact, request.out, say)
    return artifacts


def prepare_folder(out: Path) -> None:
    """Raises `UserError` unless it is new or empty, and can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"{out} is not empty; name a new folder with --out")
    except OSError as error:
        raise UserError(f"can't write into {out}: {error.strerror}") from None


def _run_variants(request: Request) -> list[Artifact]:
    scenario = request.scenario
    assert scenario.build is not None
    loaded = scenario.build(request.record_count, scenario.seed)
    collected = {
        name: Collected(plan_variant(loaded, VARIANTS[name], inline=request.virtual))
        for name in request.variants
    }
    for number in range(-request.warmups, request.rounds):
        for name in request.variants if number % 2 else reversed(request.variants):
            variant = collected[name]
            recording = request.out / f"{name}-{max(number, 0)}.duckdb"
            ran = run_once(
                scenario,
                variant.plan,
                virtual=request.virtual,
                recording=recording,
                number=max(number, 0),
            )
            if number < 0:
                recording.unlink()
            else:
                variant.ran.append(ran)
    serial = None
    if SAME_ROWS in scenario.gates:
        serial = serial_hashes(serial_plan(loaded), scenario)["rows"]
    walls = {
        name: [ran.iteration.wall_time_seconds for ran in variant.ran]
        for name, variant in collected.items()
    }
    baseline = request.variants[0]
    artifacts = []
    for name, variant in collected.items():
        evidence = Evidence(
            measures=[ran.measures for ran in variant.ran],
            bounds=scenario.bounds,
            virtual=request.virtual,
            expected_outcome=scenario.ends or ("cancelled" if scenario.stop else "success"),
            hashes=[(ran.iteration.output_hashes or {})["rows"] for ran in variant.ran],
            serial=serial,
            walls=walls[name],
            checks=[ran.checks for ran in variant.ran],
            against=walls[baseline] if name != baseline else (),
        )
        artifacts.append(
            make_artifact(
                scenario,
                name,
                inputs=inputs_of(variant.plan.workflow, request.warmups, len(variant.ran)),
                provider_script=scripts_of(variant.plan.workflow),
                virtual=request.virtual,
                capacity_plan=variant.plan.capacity.as_dict(),
                iterations=[ran.iteration for ran in variant.ran],
                metrics=pooled([ran.measures for ran in variant.ran]),
                gates=evaluate(scenario.gates, evidence),
                missing_reasons={
                    "baseline_sha": "the variants are of one code"
                    if len(collected) > 1
                    else "nothing was compared"
                },
            )
        )
    return artifacts


def pooled(measures: Sequence[Measures]) -> dict[str, Metric]:
    """Each metric over the samples of all iterations together."""
    names = dict.fromkeys(name for measure in measures for name in measure.samples)
    return {
        name: metric(
            name,
            [sample for measure in measures for sample in measure.samples.get(name, ())],
            next((measure.missing[name] for measure in measures if name in measure.missing), None),
        )
        for name in names
    }


def _loop_artifact(request: Request, outcome: LoopOutcome) -> Artifact:
    absent = ("timeline", "final_task_snapshot", "final_request_snapshot", "output_hashes")
    return make_artifact(
        request.scenario,
        DEFAULT,
        inputs=outcome.inputs,
        provider_script=outcome.provider_script,
        virtual=False,
        capacity_plan=None,
        iterations=[
            Iteration(
                wall_time_seconds=wall,
                timeline=None,
                final_task_snapshot=None,
                final_request_snapshot=None,
                output_hashes=None,
                metrics=metrics,
                missing_reasons=dict.fromkeys(absent, outcome.why_no_timeline),
            )
            for wall, metrics in zip(outcome.walls, outcome.metrics, strict=True)
        ],
        metrics={name: metric(name, [], outcome.why_no_timeline) for name in DERIVED}
        | outcome.overall,
        gates=outcome.gates,
        missing_reasons={
            "baseline_sha": "nothing was compared",
            "capacity_plan": outcome.why_no_timeline,
        },
    )
