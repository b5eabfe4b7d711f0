from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from console.cli import exit_codes
from console.cli.bench.run import Request
from engine.benchmark.catalogue import SCENARIOS
from engine.errors import UserError
from replay.runs.artifact import read_artifact, recording_of
from tests.bench.command import run_command
from tests.bench.refs import ROOT, checked_out, main, run_refs


def checkout(place: Path, version: str) -> Path:
    """The code as it lies here, which says that it is of another version."""
    for package in ("engine", "replay", "console"):
        shutil.copytree(
            ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", place)
    version_file = place / "engine" / "version.py"
    lines = [
        f'VERSION = "{version}"' if line.startswith("VERSION") else line
        for line in version_file.read_text().splitlines()
    ]
    version_file.write_text("\n".join(lines) + "\n")
    return place


def test_each_checkout_runs_its_own_code(tmp_path: Path) -> None:
    before, after = checkout(tmp_path / "a", "7.7.7"), checkout(tmp_path / "b", "8.8.8")
    scenario = SCENARIOS["hidden-waiters-success"]
    request = Request(scenario, ("default",), tmp_path / "out", 3, 1, smoke=True)
    said: list[str] = []
    refs = (str(before), str(after))
    baseline, candidate = run_refs(request, refs, own_environments=False, say=said.append)
    assert (baseline.harness_version, candidate.harness_version) == ("7.7.7", "8.8.8")
    assert (baseline.variant, candidate.variant) == ("baseline", "candidate")
    assert baseline.baseline_sha is None
    assert "no git repository" in baseline.missing_reasons["baseline_sha"]
    assert {gate.gate: gate.verdict for gate in candidate.gates}["rows_alike"] == "passed"
    assert {gate.verdict for gate in candidate.gates} == {"passed"}
    path = tmp_path / "out" / "candidate.json"
    assert recording_of(path, read_artifact(path)) == tmp_path / "out" / "candidate-0.duckdb"
    assert any("candidate, iteration 1 of 1" in line for line in said)


def test_what_is_no_ref_is_said_so(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="neither a checkout of headgate nor a commit"),
        checked_out("no-such-branch", tmp_path / "place"),
    ):
        pass


def test_code_that_can_not_run_the_scenario_is_told(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "console" / "cli").mkdir(parents=True)
    (old / "pyproject.toml").touch()
    (old / "console" / "cli" / "main.py").write_text(
        "import sys\ndef main():\n    sys.exit('headgate: there is no such command')\n"
    )
    request = Request(
        SCENARIOS["hidden-waiters-success"], ("default",), tmp_path / "out", 2, 1, smoke=True
    )
    with pytest.raises(UserError, match=r"baseline .* can't run .*: there is no such command"):
        run_refs(request, (str(old), str(old)), own_environments=False, say=lambda line: None)


def test_an_unknown_ref_ends_the_command_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["heavy-root", "no-such-branch", "HEAD", "--out", str(tmp_path / "out")]
    assert run_command(main, arguments) == exit_codes.MISUSE
    error = capsys.readouterr().err
    assert error.startswith('headgate: "no-such-branch" is neither a checkout')
    assert error.count("\n") == 1
