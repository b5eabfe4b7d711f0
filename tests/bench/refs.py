"""A scenario on two states of the code, run in turn.

    make bench-refs REFS="BASELINE CANDIDATE" [SCENARIO=heavy-root] [OUT=bench-refs] [OPTIONS=...]

Each ref gets a worktree and an environment of its own; each iteration is a `headgate bench run` of
its own code there. What they leave is joined into one artifact for each ref.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from console.cli import exit_codes
from console.cli.bench.artifact import report_artifact, write_artifact
from console.cli.bench.run import Request, find_scenario, pooled, prepare_folder
from engine.benchmark.variants import DEFAULT
from engine.errors import UserError
from replay.metrics.event_metrics import Measures
from replay.metrics.gates import neutral
from replay.metrics.run_metrics import add_settled_refusals, measure_run
from replay.metrics.stats import judge
from replay.recording.reader import open_recording
from replay.runs.artifact import (
    DERIVED,
    Artifact,
    GateResult,
    GateVerdict,
    Iteration,
    Metric,
    read_artifact,
    recording_of,
)
from replay.sources.base import SourceError
from tests.bench.command import run_command

ROOT = Path(__file__).parents[2]
ROLES = ("baseline", "candidate")
CYCLE_P95_AT_MOST = 1.10
_WORST: tuple[GateVerdict, ...] = ("passed", "unknown", "inconclusive", "failed")


@dataclass
class Ref:
    """One state of the code, ready to run."""

    role: str
    name: str
    sha: str | None
    command: list[str]
    environment: dict[str, str]
    artifacts: list[tuple[Path, Artifact]] = field(default_factory=list)


def run_refs(
    request: Request,
    refs: tuple[str, str],
    *,
    own_environments: bool,
    say: Callable[[str], None] = click.echo,
) -> list[Artifact]:
    """Raises `UserError` where a ref is unknown or its code can't run the scenario."""
    prepare_folder(request.out)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-refs-")))
        prepared = []
        for role, name in zip(ROLES, refs, strict=True):
            say(f"{role}: making {name} ready")
            checkout, sha = stack.enter_context(checked_out(name, place / role))
            python = Path(sys.executable)
            if own_environments:
                python = make_environment(checkout, place / f"{role}-environment")
            start = (
                f"import sys; sys.path.insert(0, {str(checkout)!r}); "
                "from console.cli.main import main; main()"
            )
            command = [str(python), "-P", "-c", start, "bench", "run", request.scenario.id]
            prepared.append(Ref(role, name, sha, command, {"PYTHONPATH": str(checkout)}))
        for number in range(request.rounds):
            for ref in reversed(prepared) if number % 2 else prepared:
                say(f"{ref.role}, iteration {number + 1} of {request.rounds}")
                _iterate(request, ref, place / f"{ref.role}-{number}")
        artifacts = [_join(request, ref, prepared) for ref in prepared]
    artifacts = _judge(request, artifacts)
    for artifact in artifacts:
        write_artifact(artifact, request.out / f"{artifact.variant}.json")
        report_artifact(artifact, request.out, say)
    return artifacts


@contextmanager
def checked_out(name: str, place: Path) -> Iterator[tuple[Path, str | None]]:
    """A folder with the code of a git ref, and its commit; or the checkout that `name` is."""
    given = Path(name)
    if (given / "pyproject.toml").is_file():
        yield given.resolve(), _git_or_none(given, "rev-parse", "HEAD")
        return
    sha = _git_or_none(ROOT, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if sha is None:
        raise UserError(f'"{name}" is neither a checkout of headgate nor a commit of {ROOT}')
    _git(ROOT, "worktree", "add", "--quiet", "--detach", str(place), sha)
    try:
        yield place, sha
    finally:
        _git(ROOT, "worktree", "remove", "--force", str(place))


def make_environment(checkout: Path, place: Path) -> Path:
    """The Python of a new environment with what the checkout needs. Takes a minute."""
    constraints = checkout / "constraints.txt"
    pins = ["-c", str(constraints)] if constraints.is_file() else []
    python = place / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(place)],
        [str(python), "-m", "pip", "install", *quiet, *pins, "-e", str(checkout)],
    ):
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise UserError(f"no environment for {checkout}: {_last_line(ran.stderr)}")
    return python


def _iterate(request: Request, ref: Ref, out: Path) -> None:
    options = ["--out", str(out), "--iterations", "1"]
    if request.records is not None:
        options += ["--records", str(request.records)]
    if request.smoke:
        options.append("--smoke")
    ran = subprocess.run(
        [*ref.command, *options],
        capture_output=True,
        text=True,
        cwd=out.parent,
        env=os.environ | ref.environment,
    )
    path = out / "default.json"
    if not path.is_file():
        raise UserError(
            f"{ref.role} {ref.name} can't run {request.scenario.id}: {_last_line(ran.stderr)}"
        )
    try:
        ref.artifacts.append((path, read_artifact(path)))
    except SourceError as error:
        raise UserError(str(error)) from None


def _join(request: Request, ref: Ref, refs: Sequence[Ref]) -> Artifact:
    """The artifacts of all iterations of a ref as one, their recordings beside it."""
    iterations: list[Iteration] = []
    measures: list[Measures] = []
    for number, (path, artifact) in enumerate(ref.artifacts):
        [iteration] = artifact.iterations
        if iteration.timeline is not None:
            recording = request.out / f"{ref.role}-{number}.duckdb"
            shutil.move(recording_of(path, artifact), recording)
            timeline = msgspec.structs.replace(iteration.timeline, path=recording.name)
            iteration = msgspec.structs.replace(iteration, timeline=timeline)
            reader = open_recording(recording)
            try:
                measured = measure_run(reader)
                add_settled_refusals(measured, request.scenario.bounds.get("latency"))
                measures.append(measured)
            finally:
                reader.close()
        iterations.append(iteration)
    first = ref.artifacts[0][1]
    metrics = pooled(measures) if measures else _of_iterations(iterations, first)
    shas = {f"{ref.role}_sha": ref.sha for ref in refs}
    missing = {
        name: "the checkout is no git repository" for name, sha in shas.items() if sha is None
    }
    return msgspec.structs.replace(
        first,
        variant=ref.role,
        command_lines=[line for _, artifact in ref.artifacts for line in artifact.command_lines],
        inputs=msgspec.structs.replace(first.inputs, iterations=len(iterations)),
        iterations=iterations,
        derived_metrics={name: metrics[name] for name in DERIVED},
        metrics=metrics,
        gates=_worst([artifact.gates for _, artifact in ref.artifacts]),
        missing_reasons={
            name: why for name, why in first.missing_reasons.items() if not name.endswith("_sha")
        }
        | missing,
        **shas,
    )


def _of_iterations(iterations: Sequence[Iteration], first: Artifact) -> dict[str, Metric]:
    """Where there are no recordings: statistics over the one number of each iteration."""
    from replay.metrics.run_metrics import metric

    metrics: dict[str, Metric] = {}
    for name, known in first.metrics.items():
        values = [
            iteration.metrics[name].mean for iteration in iterations if name in iteration.metrics
        ]
        numbers = [value for value in values if value is not None]
        made = metric(name, numbers, known.missing_reason)
        metrics[name] = msgspec.structs.replace(made, unit=known.unit, better=known.better)
    return metrics


def _worst(gates: Sequence[Sequence[GateResult]]) -> list[GateResult]:
    """Of each gate the worst that an iteration found."""
    worst: dict[str, GateResult] = {}
    for verdict in (gate for iteration in gates for gate in iteration):
        known = worst.get(verdict.gate)
        if known is None or _WORST.index(verdict.verdict) > _WORST.index(known.verdict):
            worst[verdict.gate] = verdict
    return list(worst.values())


def _judge(request: Request, artifacts: list[Artifact]) -> list[Artifact]:
    """The gates that hold the candidate against the baseline."""
    baseline, candidate = artifacts
    gates = [gate for gate in candidate.gates if gate.gate != "neutral_wall"]
    if request.scenario.kind == "run":
        walls = [
            [iteration.wall_time_seconds for iteration in artifact.iterations]
            for artifact in artifacts
        ]
        gates.append(GateResult("neutral_wall", *neutral(walls[1], walls[0])))
    hashes = [
        {(iteration.output_hashes or {}).get("rows") for iteration in artifact.iterations}
        for artifact in artifacts
    ]
    if None not in hashes[0] | hashes[1]:
        alike = hashes[0] == hashes[1]
        detail = "rows of both refs are the same" if alike else "the refs make different rows"
        gates.append(GateResult("rows_alike", "passed" if alike else "failed", detail))
    cycles = [name for name in candidate.metrics if name.endswith(": cycle p95")]
    if cycles:
        gates.append(_cycle_gate(cycles, baseline, candidate))
    kept = [gate for gate in baseline.gates if gate.gate != "neutral_wall"]
    return [
        msgspec.structs.replace(baseline, gates=kept),
        msgspec.structs.replace(candidate, gates=gates),
    ]


def _cycle_gate(cycles: Sequence[str], baseline: Artifact, candidate: Artifact) -> GateResult:
    """Over all cells together: a single short one tells little."""
    ratios = []
    for before, after in zip(baseline.iterations, candidate.iterations, strict=True):
        cells = [
            (new / old)
            for name in cycles
            if (new := after.metrics[name].mean) and (old := before.metrics[name].mean)
        ]
        ratios.append(sum(cells) / len(cells))
    mean = sum(ratios) / len(ratios)
    detail = f"p95 of the admission cycle {mean:.3f} of the baseline's, at most 1.10 is allowed"
    return GateResult("cycle_p95", judge(ratios, at_most=CYCLE_P95_AT_MOST), detail)


def _git(repository: Path, *arguments: str) -> str:
    try:
        ran = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True
        )
    except FileNotFoundError:
        raise UserError("comparing git refs needs git") from None
    if ran.returncode:
        raise UserError(f"git {arguments[0]}: {_last_line(ran.stderr)}")
    return ran.stdout.strip()


def _git_or_none(repository: Path, *arguments: str) -> str | None:
    try:
        return _git(repository, *arguments)
    except UserError:
        return None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1].removeprefix("headgate: ")


@click.command()
@click.argument("scenario")
@click.argument("baseline")
@click.argument("candidate")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the artifacts and their recordings, new or empty.",
)
@click.option(
    "--this-environment",
    is_flag=True,
    help="Run both refs with the packages of this environment, instead of one for each.",
)
@click.option("--records", type=click.IntRange(1), help="Over the scenario's.")
@click.option("--iterations", type=click.IntRange(1), help="Over the scenario's.")
@click.option("--smoke", is_flag=True, help="Small, and under the virtual clock: seconds.")
def main(
    scenario: str,
    baseline: str,
    candidate: str,
    out: Path,
    this_environment: bool,
    records: int | None,
    iterations: int | None,
    smoke: bool,
) -> int:
    """Run SCENARIO (see `headgate bench list`) on BASELINE and CANDIDATE in turn.

    Each is a git ref or a checkout. Exits with 1 where a gate fails.
    """
    request = Request(find_scenario(scenario), (DEFAULT,), out, records, iterations, smoke)
    refs = (baseline, candidate)
    artifacts = run_refs(request, refs, own_environments=not this_environment)
    failed = any(gate.verdict == "failed" for artifact in artifacts for gate in artifact.gates)
    return exit_codes.FINDINGS if failed else exit_codes.OK


if __name__ == "__main__":
    sys.exit(run_command(main))
