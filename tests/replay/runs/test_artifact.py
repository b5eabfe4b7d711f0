"""Benchmark artifacts open, replay and are compared like recordings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.cli import exit_codes
from console.cli.bench.run import Request, run_scenario
from console.cli.main import run_cli
from engine.benchmark.catalogue import SCENARIOS
from replay.metrics.compare import compare
from replay.playback.session import Session
from replay.runs.artifact import Artifact, read_artifact, recording_of
from replay.runs.open import open_source
from replay.sources.base import SourceError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scenario run twice with each of two policies."""
    out = tmp_path_factory.mktemp("bench") / "out"
    variants = ("strict-fair", "published-recovery")
    request = Request(SCENARIOS["heavy-root"], variants, out, 8, 2, smoke=True)
    run_scenario(request, say=lambda line: None)
    return out


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made, tmp_path / "out"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(target: Path | str) -> tuple[str, int]:
    with pytest.raises(SourceError) as caught:
        open_source(str(target))
    return str(caught.value), caught.value.exit_code


def test_an_artifact_replays_the_recording_it_names(made: Path) -> None:
    artifact = made / "strict-fair.json"
    session = Session.open(str(artifact), growing=False)
    try:
        bounds = session.reader.bounds()
    finally:
        session.close()
    timeline = read_artifact(artifact).iterations[0].timeline
    assert timeline is not None
    assert bounds.last_ordinal == timeline.events
    opened = open_source(str(artifact))
    assert opened.recording == made / "strict-fair-0.duckdb"
    assert opened.title == "heavy-root strict-fair"


def test_a_later_iteration_is_named_by_its_number(made: Path) -> None:
    assert open_source(f"{made}/strict-fair.json#1").recording == made / "strict-fair-1.duckdb"
    sentence, code = refusal(f"{made}/strict-fair.json#2")
    assert "holds 2 iterations, counted from 0" in sentence
    assert code == exit_codes.MISUSE


def test_a_folder_with_one_artifact_is_that_artifact(folder: Path) -> None:
    sentence, _ = refusal(folder)
    assert "holds 2 recordings; name one of them" in sentence
    (folder / "strict-fair.json").unlink()
    assert open_source(str(folder)).title == "heavy-root published-recovery"


@pytest.mark.parametrize("command", ["replay", "why", "verify"])
def test_the_commands_take_an_artifact(
    made: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli([command, str(made / "strict-fair.json")]) == exit_codes.OK
    out = capsys.readouterr().out
    assert "heavy-root" in out
    assert "1970" not in out  # a virtual clock tells no time of day


def test_a_missing_recording_is_told(folder: Path) -> None:
    (folder / "strict-fair-0.duckdb").unlink()
    sentence, code = refusal(folder / "strict-fair.json")
    assert "which is not there: copy them together" in sentence
    assert code == exit_codes.DAMAGED


def test_another_recording_in_its_place_is_told(folder: Path) -> None:
    shutil.copy(folder / "published-recovery-0.duckdb", folder / "strict-fair-0.duckdb")
    with (folder / "strict-fair-0.duckdb").open("ab") as file:
        file.write(b"x")
    sentence, code = refusal(folder / "strict-fair.json")
    assert "its hash differs" in sentence
    assert code == exit_codes.DAMAGED


@pytest.mark.parametrize("cut", [40, 2000])
def test_a_torn_artifact_is_damaged(folder: Path, cut: int) -> None:
    path = folder / "strict-fair.json"
    path.write_bytes(path.read_bytes()[:cut])
    sentence, code = refusal(path)
    assert "is damaged: it is not whole JSON" in sentence
    assert code == exit_codes.DAMAGED


def test_a_newer_artifact_is_not_guessed_at(folder: Path) -> None:
    path = folder / "strict-fair.json"
    rewrite(path, lambda content: content.update(artifact_schema_version=99))
    sentence, code = refusal(path)
    assert "was written by a newer headgate" in sentence
    assert code == exit_codes.MISUSE


def test_wrong_content_is_damage(folder: Path) -> None:
    path = folder / "strict-fair.json"
    rewrite(path, lambda content: content.update(iterations="many"))
    sentence, code = refusal(path)
    assert "is damaged" in sentence
    assert code == exit_codes.DAMAGED


@pytest.mark.parametrize("place", ["../out/strict-fair-0.duckdb", "/etc/passwd"])
def test_a_recording_elsewhere_is_not_opened(folder: Path, place: str) -> None:
    path = folder / "strict-fair.json"
    rewrite(path, lambda content: content["iterations"][0]["timeline"].update(path=place))
    sentence, code = refusal(path)
    assert "outside of its folder" in sentence
    assert code == exit_codes.DAMAGED


def test_no_timeline_says_why(folder: Path) -> None:
    path = folder / "strict-fair.json"
    reason = {"timeline": "it was not\x1b[2J kept"}
    rewrite(path, lambda c: c["iterations"][0].update(timeline=None, missing_reasons=reason))
    sentence, _ = refusal(path)
    assert "has no timeline to replay: it was not" in sentence
    assert "\x1b" not in sentence


def test_other_json_is_no_artifact(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{"answer": 42}')
    sentence, code = refusal(path)
    assert "is not a recording" in sentence
    assert code == exit_codes.MISUSE


def test_every_unknown_carries_a_reason(made: Path) -> None:
    unknown: set[str] = set()

    def check(part: Any) -> None:
        if isinstance(part, dict):
            reasons = part.get("missing_reasons", {})
            if part.get("count") == 0 and "stddev" in part:
                assert part["mean"] is None
                assert part["missing_reason"]
                unknown.add("metric")
            for name in ("baseline_sha", "candidate_sha", "cpu_seconds"):
                if name in part and part[name] is None:
                    assert reasons[name]
                    unknown.add(name)
            for inner in part.values():
                check(inner)
        elif isinstance(part, list):
            for inner in part:
                check(inner)

    check(json.loads((made / "strict-fair.json").read_text()))
    assert unknown == {"metric", "baseline_sha", "candidate_sha", "cpu_seconds"}


def test_artifacts_of_a_virtual_clock_have_no_noise(made: Path) -> None:
    comparison = compare(str(made / "strict-fair.json"), str(made / "published-recovery.json"), say)
    differences = [*comparison.metrics, *comparison.verdict_shares, *comparison.ceilings]
    assert {difference.noise for difference in differences if difference.change is not None} == {
        "none"
    }
    assert {
        difference.judgement for difference in differences if difference.change is not None
    } == {"same"}
    assert comparison.worse == []
    assert (comparison.noise, comparison.other_work, comparison.notes) == ("none", [], [])


def test_two_single_runs_admit_that_their_noise_is_unknown(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(made / "strict-fair-0.duckdb"), str(made / "published-recovery-0.duckdb")]
    comparison = compare(runs[0], runs[1], say)
    assert comparison.noise == "unknown"
    assert {metric.noise for metric in comparison.metrics} == {"unknown"}
    assert {difference.judgement for difference in comparison.every} == {"same", "unknown"}
    shares = {verdict_share.name: verdict_share.a for verdict_share in comparison.verdict_shares}
    assert sum(share or 0.0 for share in shares.values()) == pytest.approx(1.0)
    assert "alpha/big/chat: lowest limit" in {ceiling.name for ceiling in comparison.ceilings}

    assert run_cli(["compare", *runs, "--fail-on-worse"]) == exit_codes.OK
    printed = capsys.readouterr()
    assert printed.out.index("One run each: by how much such runs differ") < printed.out.index(
        "Metrics"
    )
    assert max(map(len, printed.out.splitlines())) <= 80
    assert "--fail-on-worse found nothing: the noise is not known." in printed.err


def test_what_did_other_work_is_neither_better_nor_worse(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Request(SCENARIOS["heavy-root-seeded"], ("strict-fair",), tmp_path, 6, 1, smoke=True)
    run_scenario(request, say=say)
    pair = [str(made / "strict-fair.json"), str(tmp_path / "strict-fair.json")]
    comparison = compare(pair[0], pair[1], say)
    assert comparison.other_work == [
        "scenario heavy-root version 1 and heavy-root-seeded version 1",
        "8 and 6 records",
        "number only in B",
    ]
    assert comparison.noise == "none"
    assert {difference.judgement for difference in comparison.every} == {
        "same",
        "different",
        "unknown",
    }
    assert run_cli(["compare", *pair, "--fail-on-worse"]) == exit_codes.OK
    printed = capsys.readouterr()
    assert "number only in B): what differs is neither better nor worse." in squeezed(printed.out)
    assert "--fail-on-worse found nothing: they did not do the same work." in printed.err


def squeezed(text: str) -> str:
    return " ".join(text.split())


def say(line: str) -> None:
    """Nobody listens."""


def real_time(path: Path, to: Path, walls: list[float]) -> Path:
    """The artifact as if it had been measured, with these wall times."""
    artifact = read_artifact(path)
    iteration = artifact.iterations[0]
    wall = artifact.metrics["wall_time"]

    def timed(seconds: float) -> Any:
        metrics = {**iteration.metrics, "wall_time": msgspec.structs.replace(wall, mean=seconds)}
        return msgspec.structs.replace(iteration, wall_time_seconds=seconds, metrics=metrics)

    mean = sum(walls) / len(walls)
    made: Artifact = msgspec.structs.replace(
        artifact,
        iterations=[timed(seconds) for seconds in walls],
        metrics={**artifact.metrics, "wall_time": msgspec.structs.replace(wall, mean=mean)},
        clock_script=msgspec.structs.replace(artifact.clock_script, clock="real"),
    )
    to.write_bytes(msgspec.json.encode(made))
    return to


def test_iterations_tell_a_difference_from_noise(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder / "strict-fair.json"
    usual = real_time(source, folder / "usual.json", [1.0, 1.1, 1.05, 1.02, 1.07])
    alike = real_time(source, folder / "alike.json", [1.03, 1.12, 1.01, 1.08, 1.04])
    slower = real_time(source, folder / "slower.json", [1.5, 1.6, 1.55, 1.52, 1.57])

    def wall(a: Path, b: Path) -> Any:
        comparison = compare(str(a), str(b), say)
        return next(metric for metric in comparison.metrics if metric.name == "wall_time")

    within = wall(usual, alike)
    assert (within.judgement, within.noise) == ("same", "within")
    beyond = wall(usual, slower)
    assert (beyond.judgement, beyond.noise) == ("worse", "beyond")
    assert beyond.interval_a == (1.0, 1.1)
    assert wall(slower, usual).judgement == "better"
    few = real_time(source, folder / "few.json", [1.0, 1.1, 1.05])
    assert (wall(few, slower).judgement, wall(few, slower).noise) == ("seems_worse", "unknown")
    assert compare(str(few), str(slower), say).noise == "unknown"
    assert run_cli(["compare", str(few), str(slower)]) == exit_codes.OK
    out = squeezed(capsys.readouterr().out)
    assert "3 runs of A and 5 runs of B: by how much such runs differ by chance is not known" in out
    assert "wall_time 1.05 s 1.55 s +47.4 % worse?" in out

    assert run_cli(["compare", str(usual), str(slower)]) == exit_codes.OK
    out = squeezed(capsys.readouterr().out)
    assert "5 and 5 runs tell what is noise" in out
    assert "wall_time 1.05 s 1.55 s +47.7 % worse" in out
    assert "worse?" not in out
    assert run_cli(["compare", str(usual), str(slower), "--fail-on-worse"]) == exit_codes.FINDINGS
    assert run_cli(["compare", str(slower), str(usual), "--fail-on-worse"]) == exit_codes.OK
    assert run_cli(["compare", str(usual), str(slower), "--json"]) == exit_codes.OK
    out = capsys.readouterr().out
    printed = json.loads(out[out.index("{") :])
    assert printed["a"]["runs"] == 5


def test_what_one_side_lacks_is_not_a_zero(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"event_kind": "scheduler_job_started", "sequence": 1},
        {"event_kind": "scheduler_job_completed", "sequence": 2, "reason_or_result": "success"},
    ]
    path = tmp_path / "scheduler_events.jsonl"
    path.write_text(
        "".join(
            json.dumps({"captured_at_monotonic": float(at), "diagnostics": {}, **line}) + "\n"
            for at, line in enumerate(lines)
        )
    )
    comparison = compare(str(path), str(made / "strict-fair.json"), say)
    cuts = next(metric for metric in comparison.metrics if metric.name == "limit_cuts")
    assert (cuts.a, cuts.b, cuts.judgement) == (None, 0.0, "unknown")
    assert "the recording holds no request events" in cuts.missing_reasons
    assert run_cli(["compare", str(path), str(made / "strict-fair.json")]) == exit_codes.OK
    assert "no request events" in capsys.readouterr().out


def test_what_can_not_be_compared_is_said_in_one_sentence(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "nothing.duckdb")
    assert run_cli(["compare", str(made / "strict-fair.json"), missing]) == exit_codes.MISUSE
    assert capsys.readouterr().err.count("\n") == 1


def test_the_recording_is_checked_each_time(folder: Path) -> None:
    path = folder / "strict-fair.json"
    artifact = read_artifact(path)
    assert recording_of(path, artifact, 1) == folder / "strict-fair-1.duckdb"
    with (folder / "strict-fair-1.duckdb").open("r+b") as file:
        file.seek(5000)
        file.write(b"\0\1\2\3")
    with pytest.raises(SourceError, match="hash differs"):
        recording_of(path, artifact, 1)
