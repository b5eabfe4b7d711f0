"""`headgate capacity`: every value of the plan, of our runs and of other producers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.cli import exit_codes
from console.cli.main import run_cli
from console.screens import capacity as screen
from engine.capacity_plan import (
    AsyncCapacityPlan,
    ConfiguredCapacity,
    ObservedMaxima,
    RowGroupCapacity,
    RuntimeCapacity,
)
from engine.events import JournalEnd, JournalHeader, JournalLine, encode_lines
from replay.playback.capacity import CONFIGURED, OBSERVED, RUNTIME, capacity_rows
from replay.playback.frame import Want
from replay.playback.session import Session
from tests.engine.telemetry.exported import workflow
from tests.engine_run import Ran, run_engine
from tests.fixtures.data_designer_format import generate


@pytest.fixture(scope="module")
def ran() -> Ran:
    return run_engine(workflow(max_in_flight_tasks=5))


def written(ran: Ran, folder: Path, *, until: int | None = None) -> Path:
    """The events as JSON Lines; with `until` a run that is cut off there."""
    path = folder / "run.jsonl"
    events = ran.events[:until]
    lines: list[JournalLine] = [JournalHeader(ran.run, 1, 1), *events]
    if until is None:
        lines.append(JournalEnd("success", events[-1].captured_at_monotonic, 0, 0))
    path.write_bytes(encode_lines(lines))
    return path


def rows(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str, str], Any]:
    assert run_cli(["capacity", str(path), "--json"]) == exit_codes.OK
    return {
        (row["part"], row["name"], row["key"]): row for row in json.loads(capsys.readouterr().out)
    }


def test_the_names_are_those_of_the_plan() -> None:
    groups = ConfiguredCapacity.__struct_fields__
    flat = {name for name in groups if name != "row_group_admission"}
    assert set(CONFIGURED) == flat | set(RowGroupCapacity.__struct_fields__)
    assert RuntimeCapacity.__struct_fields__ == RUNTIME
    assert ObservedMaxima.__struct_fields__ == OBSERVED
    assert AsyncCapacityPlan.__struct_fields__ == (
        "configured", "runtime_snapshot", "observed_maxima",
    )  # fmt: skip


def test_every_value_of_our_runs_has_a_source_and_what_was_observed(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows(written(ran, tmp_path), capsys)

    names = {(part, name) for part, name, _ in table}
    assert names == (
        {("configured", name) for name in CONFIGURED}
        | {("runtime_snapshot", name) for name in RUNTIME}
        | {("observed_maxima", name) for name in OBSERVED}
    )
    slots = table["configured", "submission_capacity", ""]
    assert (slots["value"], slots["observed"], slots["source"]) == (5, 5, "run_config")
    cap = table["configured", "provider_model_static_caps", "alpha/org/gen-8b"]
    assert cap["value"]["cap"] == 4
    assert cap["value"]["aliases"] == ["writer"]
    assert cap["observed"] == 4
    assert table["configured", "buffer_size", ""]["source"] == "run_config"
    assert table["configured", "mode", ""]["source"] == "default"
    pools = table["configured", "transport_pool_limits", "alpha"]
    assert pools["observed"] is None
    assert "clients do not tell" in pools["observed_missing_reason"]


def test_a_run_without_its_end_has_maxima_from_its_series(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows(written(ran, tmp_path, until=len(ran.events) * 3 // 4), capsys)

    assert table["configured", "submission_capacity", ""]["observed"] == 5
    assert table["observed_maxima", "in_flight_by_resource", "alpha/org/gen-8b/chat"]["value"] == 4
    missing = table["observed_maxima", "row_groups_in_flight", ""]
    assert missing["value"] is None
    assert missing["missing_reason"] == "the run has not ended"
    assert table["runtime_snapshot", "current_limits", "beta/judge-70b/chat"]["value"] == 4


@pytest.mark.parametrize("requests", [True, False])
def test_of_a_foreign_run_what_its_events_tell(
    requests: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scheduler_events.jsonl"
    generate(path, True, 20, requests=requests)
    table = rows(path, capsys)

    assert table["configured", "buffer_size", ""]["value"] == 5
    submission = table["configured", "task_resource_limits", "submission"]
    assert 0 < submission["observed"] <= submission["value"]
    assert table["configured", "request_admission_config", ""]["value"] is None
    for row in table.values():
        assert (row["value"] is None) == (row["missing_reason"] is not None) or row["key"]
    if requests:
        cap = table["configured", "provider_model_static_caps", "beta/judge-70b"]["value"]
        assert cap["cap"] > 0
        assert cap["aliases"]


def test_the_screen_has_the_same_rows(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(ran, tmp_path)
    table = rows(path, capsys)
    session = Session.open(path, growing=False)
    try:
        while session.behind:
            session.refresh(budget_seconds=1.0)
        shown = capacity_rows(session.frame(Want(capacity=True)).capacity)
    finally:
        session.close()

    assert vars(screen)["capacity_rows"] is capacity_rows
    assert json.loads(msgspec.json.encode(shown)) == list(table.values())


def test_the_text_says_what_is_used_up_and_what_is_not_known(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["capacity", str(written(ran, tmp_path))]) == exit_codes.OK
    text = capsys.readouterr().out

    assert "Set before the run" in text
    line = next(line for line in text.splitlines() if "submission capacity" in line)
    assert line.split() == ["submission", "capacity", "5", "5", "(all)", "run", "config"]
    line = next(line for line in text.splitlines() if "transport utilisation" in line)
    assert "the clients do not tell" in line


def test_the_schema_needs_no_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["capacity", "--schema"]) == exit_codes.OK
    assert "missing_reason" in capsys.readouterr().out
    assert run_cli(["capacity"]) == exit_codes.MISUSE
