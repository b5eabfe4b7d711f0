"""The scenarios in smoke mode: small, under the virtual clock, without a network."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from console.cli import exit_codes
from console.cli.bench.run import Request, run_scenario
from console.cli.main import run_cli
from engine.benchmark.catalogue import SCENARIOS
from engine.benchmark.variants import VARIANTS
from engine.errors import UserError
from replay.runs.artifact import DERIVED, Artifact, read_artifact, recording_of

PROVIDERS = (
    "steady",
    "hidden-cap",
    "hidden-cap-retry-after",
    "bounded-queue",
    "unbounded-queue",
    "request-bucket",
    "request-bucket-told",
    "token-bucket",
    "storm",
    "half-storm",
    "part-storm",
    "outage",
    "flapping",
    "slope",
    "flaky",
    "quota-gone",
)
SMALL = {
    "heavy-root": 30,
    "hidden-waiters-failure": 25,
    "hidden-waiters-cancellation": 20,
    "idle-utilisation": 10,
    "dynamic-requests": 12,
    "e2e-dual-model": 10,
    "e2e-wide-roots": 6,
}


def run(
    scenario: str,
    out: Path,
    records: int,
    iterations: int = 1,
    variants: tuple[str, ...] = ("default",),
) -> list[Artifact]:
    request = Request(SCENARIOS[scenario], variants, out, records, iterations, smoke=True)
    return run_scenario(request, say=lambda line: None)


@pytest.mark.parametrize("scenario", SMALL)
def test_every_gate_of_a_scenario_holds(scenario: str, tmp_path: Path) -> None:
    [artifact] = run(scenario, tmp_path / "out", SMALL[scenario])
    verdicts = {gate.gate: gate.verdict for gate in artifact.gates}
    assert verdicts.pop("neutral_wall", "unknown") == "unknown"
    assert set(verdicts.values()) == {"passed"}, artifact.gates
    assert set(artifact.derived_metrics) == set(DERIVED)
    read = read_artifact(tmp_path / "out" / "default.json")
    assert msgspec.json.encode(read) == msgspec.json.encode(artifact)


def test_a_storm_is_ridden_out(tmp_path: Path) -> None:
    [artifact] = run("aimd-storm", tmp_path / "out", 240)
    assert {gate.verdict for gate in artifact.gates} == {"passed"}, artifact.gates
    # The first 32 are too many for a provider of 16; a burst of refusals cuts only once.
    cuts, share = artifact.metrics["limit_cuts"].mean, artifact.metrics["rate_limited_share"].mean
    assert cuts is not None
    assert share is not None
    assert cuts >= 1
    assert share * 480 > 3 * cuts


def test_failures_that_come_back_cost_no_row_at_full_size(tmp_path: Path) -> None:
    """Fewer rows hardly ever fail as often as would be needed to lose one."""
    scenario = SCENARIOS["hidden-waiters-salvage"]
    [artifact] = run(scenario.id, tmp_path / "out", scenario.records)
    assert {gate.verdict for gate in artifact.gates} == {"passed"}, artifact.gates
    assert "no_row_dropped" in {gate.gate for gate in artifact.gates}


def test_a_virtual_scenario_repeats_itself_exactly(tmp_path: Path) -> None:
    [artifact] = run("hidden-waiters-salvage", tmp_path / "out", 12, iterations=2)
    first, second = (
        msgspec.structs.replace(iteration, timeline=None) for iteration in artifact.iterations
    )
    assert first == second


def test_two_policies_are_run_in_turn_on_the_same_rows(tmp_path: Path) -> None:
    names = ("strict-fair", "provider-aware")
    both = run("heavy-root", tmp_path / "out", 20, variants=names)
    assert tuple(item.variant for item in both) == names
    hashes = {
        item.iterations[0].output_hashes["rows"]
        for item in both
        if item.iterations[0].output_hashes
    }
    assert len(hashes) == 1
    recordings = [recording_of(tmp_path / "out" / f"{item.variant}.json", item) for item in both]
    assert len(set(recordings)) == 2


def test_the_microbench_measures_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.cli.bench.loops.TASKS", (60,))
    monkeypatch.setattr("console.cli.bench.loops.MEMORY_TASKS", 60)
    [artifact] = run("admission-microbench", tmp_path / "out", 1)
    for shape in ("local", "bound", "mixed", "stateful"):
        for step in ("enqueue", "select", "acquire", "commit", "release", "cycle p50", "cycle p95"):
            assert (artifact.metrics[f"{shape} 8 groups 60 tasks: {step}"].mean or 0) > 0
        assert (artifact.metrics[f"{shape}: bytes per queued task"].mean or 0) > 0
    assert artifact.iterations[0].timeline is None
    assert "loop" in artifact.iterations[0].missing_reasons["timeline"]
    assert artifact.derived_metrics["ready_idle_gap"].mean is None
    assert "loop" in (artifact.derived_metrics["ready_idle_gap"].missing_reason or "")


def test_scenario_ids_are_stable() -> None:
    assert list(SCENARIOS) == [
        "admission-microbench",
        "heavy-root",
        "heavy-root-seeded",
        "hidden-waiters-success",
        "hidden-waiters-failure",
        "hidden-waiters-cancellation",
        "hidden-waiters-salvage",
        "idle-utilisation",
        "e2e-narrow-serial",
        "e2e-wide-roots",
        "e2e-dual-model",
        "e2e-heavy-root",
        "e2e-dynamic-requests",
        "e2e-cross-provider-cooldown",
        "dynamic-requests",
        "aimd-storm",
        "aimd-storm-retry-after",
        "observability-cost",
        *(f"providers-{name}" for name in PROVIDERS),
    ]


def test_the_list_names_scenarios_and_policies(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["bench", "list"]) == exit_codes.OK
    said = capsys.readouterr().out
    assert all(name in said for name in [*SCENARIOS, *VARIANTS])


def test_a_folder_in_use_and_unknown_names_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").write_text("mine")
    arguments = ["bench", "run", "heavy-root", "--smoke", "--out", str(tmp_path)]
    assert run_cli(arguments) == exit_codes.MISUSE
    assert "is not empty" in capsys.readouterr().err
    new = str(tmp_path / "new")
    assert run_cli(["bench", "run", "nothing", "--out", new]) == exit_codes.MISUSE
    assert "known: admission-microbench" in capsys.readouterr().err
    assert (
        run_cli(["bench", "run", "heavy-root", "--policy", "kind", "--out", new])
        == exit_codes.MISUSE
    )
    assert "known: default, strict-fair" in capsys.readouterr().err


def test_a_run_that_fails_ends_the_benchmark_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.rows.parquet.RowGroupWriter.write", broken)
    with pytest.raises(UserError, match="scenario e2e-wide-roots failed"):
        run("e2e-wide-roots", tmp_path / "out", 2)
