"""`headgate why`: its forms, its windows, the life of a task, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from console.cli import exit_codes
from console.cli.main import run_cli
from replay.diagnosis.diagnosis_state import DIAGNOSIS_VERSION
from replay.diagnosis.report.schema import WhyReport
from replay.recording.ingest import Ingest
from replay.sources.feed import open_lines
from tests.fixtures.data_designer_format import generate, lines

RESOURCE = "beta/judge-70b/chat"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished recording of a foreign run whose beta goes through a storm."""
    folder = tmp_path_factory.mktemp("why")
    generate(folder / "storm.jsonl", storm=True, rows=20)
    feed = open_lines(folder / "storm.jsonl", False)
    ingest = Ingest(feed, folder / "storm.duckdb")
    while feed.liveness in ("live", "waiting"):
        ingest.step()
    ingest.finish()
    ingest.close()
    feed.close()
    return folder / "storm.duckdb"


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run_cli(["why", *map(str, arguments)]) == exit_codes.OK
    return capsys.readouterr().out


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    printed = json.loads(output_of(capsys, *arguments, "--json"))
    assert isinstance(printed, dict)
    return printed


def test_the_report_says_the_same_in_all_forms(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = report(capsys, recording)["answer"]
    assert answer.split(".")[0] in " ".join(output_of(capsys, recording).split())
    markdown = output_of(capsys, recording, "--markdown")
    assert markdown.startswith("# Why: ")
    for reported in ("`request_cooldown`", "## Cells by column", "Not provable", "does not carry"):
        assert reported in markdown


def test_the_json_is_what_the_schema_says(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = json.loads(output_of(capsys, "--schema"))
    answer = report(capsys, recording)
    assert schema["$ref"] == "#/$defs/WhyReport"
    described = schema["$defs"]["WhyReport"]
    assert set(answer) == set(described["properties"])
    assert set(described["required"]) <= set(answer)
    msgspec.convert(answer, WhyReport)
    verdict = schema["$defs"]["VerdictLine"]
    assert all(set(item) == set(verdict["properties"]) for item in answer["verdicts"])


def test_a_window_has_the_verdicts_that_reach_into_it(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cooldown = next(
        verdict
        for verdict in report(capsys, recording)["verdicts"]
        if verdict["verdict"] == "request_cooldown"
    )
    middle = (cooldown["start"] + cooldown["end"]) / 2
    at = report(capsys, recording, "--at", f"0:{middle:06.3f}")
    assert at["start"] == at["end"] == pytest.approx(middle, abs=1e-3)
    assert "request_cooldown" in {verdict["verdict"] for verdict in at["verdicts"]}
    assert sum(line["fraction"] for line in at["run_blame"]) == pytest.approx(1.0)
    before = report(capsys, recording, "--between", 0, max(0.0, cooldown["start"] - 0.1))
    assert "request_cooldown" not in {verdict["verdict"] for verdict in before["verdicts"]}


def test_it_fails_on_a_verdict_or_a_tier(recording: Path) -> None:
    assert run_cli(["why", str(recording), "--fail-on", "request_cooldown"]) == exit_codes.FINDINGS
    assert run_cli(["why", str(recording), "--fail-on", "D"]) == exit_codes.FINDINGS
    assert run_cli(["why", str(recording), "--fail-on", "A", "--fail-on", "B"]) == exit_codes.OK


def test_a_task_is_told_from_ready_to_released(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = duckdb.connect(str(recording), read_only=True)
    query = "SELECT task_id FROM leases WHERE \"column\" = 'verdict' ORDER BY acquired_at LIMIT 1"
    (task_id,) = connection.execute(query).fetchone() or ("",)
    connection.close()
    story = report(capsys, recording, "--task", task_id)["task"]
    assert (story["task_id"], story["column"]) == (task_id, "verdict")
    steps = story["steps"]
    assert [step["what"].split(" ")[0] for step in steps][:2] == ["ready,", "queued"]
    assert any(step["resource"] == RESOURCE for step in steps)
    starts = [step["start"] for step in steps]
    assert starts == sorted(starts)
    head = f"Task {task_id} (verdict, row {story['row']}): completed"
    assert head in output_of(capsys, recording, "--task", task_id)
    assert head in output_of(capsys, recording, "--task", task_id, "--markdown")


def test_what_a_foreign_stream_can_t_prove_is_named(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = report(capsys, recording)["not_provable"]
    assert {"lost_wakeup", "event_loop_lag"} <= set(named)


def test_an_older_diagnosis_is_made_anew(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.duckdb"
    old.write_bytes(recording.read_bytes())
    connection = duckdb.connect(str(old))
    connection.execute("UPDATE meta SET value = '1' WHERE key = 'diagnosis_version'")
    connection.execute("DELETE FROM verdicts")
    connection.execute("UPDATE blame SET verdict = 'unknown'")
    connection.close()
    assert report(capsys, old) == report(capsys, recording)
    assert report(capsys, old)["diagnosis_version"] == DIAGNOSIS_VERSION


def test_words_are_composed_when_they_are_read(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.duckdb"
    old.write_bytes(recording.read_bytes())
    connection = duckdb.connect(str(old))
    connection.execute("UPDATE verdicts SET sentence = 'Words of old.'")
    connection.execute("UPDATE verdicts SET detail = replace(detail, 'Lower max_', 'Do not lower')")
    connection.close()
    assert report(capsys, old) == report(capsys, recording)
    assert run_cli(["export", str(old), "--format", "perfetto", "--out", "-"]) == exit_codes.OK
    assert "Words of old." not in capsys.readouterr().out
    assert run_cli(["sql", str(old), "SELECT DISTINCT sentence FROM stalls"]) == exit_codes.OK
    assert "Words of old." in capsys.readouterr().out


def test_facts_that_are_damaged_are_told_as_damage(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.duckdb"
    bad.write_bytes(recording.read_bytes())
    connection = duckdb.connect(str(bad))
    connection.execute('UPDATE verdicts SET detail = \'{"limit": "many", "leases": []\'')
    connection.close()
    for command in (["why", str(bad)], ["export", str(bad), "--format", "perfetto", "--out", "-"]):
        assert run_cli(command) == exit_codes.DAMAGED
        err = capsys.readouterr().err
        assert "is damaged" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--at", "soon"], "soon is no time"),
        (["--between", "5", "3"], "3 s is before 5 s"),
        (["--at", "1", "--between", "1", "2"], "either --at or --between"),
        (["--json", "--markdown"], "--json or --markdown, not both"),
        (["--fail-on", "slowness"], "There is no verdict slowness"),
        (["--task", "nobody/1"], "has no task nobody/1"),
        (["--at", "99:00"], "nothing is known of 1:39:00.0"),
        (["--between", "99:00", "99:01"], "nothing is known of 1:39:00.0"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    recording: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["why", str(recording), *options]) == exit_codes.MISUSE
    assert problem in capsys.readouterr().err


def test_a_run_that_its_producer_still_writes_is_not_called_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scheduler_events.jsonl"
    stream = [line for line in lines(storm=False) if "request_attempt_id" not in line][:200]
    with path.open("w") as writer:
        writer.write("".join(json.dumps(line) + "\n" for line in stream))
        writer.flush()
        assert "not ended" in output_of(capsys, path)
        going = report(capsys, path)
        assert run_cli(["verify", str(path)]) == exit_codes.OK
        assert "lost" not in capsys.readouterr().out
    assert not going["run"]["producer_lost"]
    assert "producer_gone" not in {verdict["verdict"] for verdict in going["verdicts"]}
    assert report(capsys, path)["run"]["producer_lost"]


def test_a_filter_chooses_stalls(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = report(capsys, recording)["verdicts"]
    chosen = report(capsys, recording, "--where", "verdict:request_cooldown wait>0.5s")["verdicts"]
    assert chosen == [
        row for row in everything if row["verdict"] == "request_cooldown" and row["seconds"] > 0.5
    ]
    assert 0 < len(chosen) < len(everything)
    assert run_cli(["why", str(recording), "--where", "tier>2"]) == exit_codes.MISUSE
    assert "^" in capsys.readouterr().err
