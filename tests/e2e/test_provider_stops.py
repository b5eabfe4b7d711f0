"""Runs that are stopped, killed, or short of something, at a real provider: the rows that are made
are kept, the run says what happened, and it goes on from there."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from console.cli.main import run_cli
from tests.e2e.provider_case import Case, Ended, first_paragraph, run_case
from tests.effort import effort
from tests.engine.run.faulty_provider import Call, completion, failure

RECORDS = 100
FIRST_CALL = 0


def in_time(seconds: float) -> Callable[[Ended], None]:
    def check(ended: Ended) -> None:
        assert ended.seconds < seconds

    return check


def hangs_after(calls: int) -> Callable[[Call], Any]:
    return lambda call: asyncio.sleep(3600) if call.number >= calls else completion()


def refuses_after(calls: int, seconds: str) -> Callable[[Call], Any]:
    refusal = {"retry-after": seconds}
    return lambda call: completion() if call.number < calls else failure(429, headers=refusal)


ONE_GROUP = {"records": 300, "model": {"max_parallel_requests": 4}, "run": {"buffer_size": 300}}
CHECKED = {"records": 20, "run": {"health_check": True}}


def resumable(ended: Ended) -> None:
    assert ended.record["outcome"] == "stopped"
    assert "--resume" in ended.stdout


def few_descriptors(ended: Ended) -> None:
    assert ended.provider.most_in_flight <= 36, "the hard limit, less what a run needs besides"


def bounded_memory(ended: Ended) -> None:
    early, late = ended.engine_bytes
    assert late - early < 40 << 20


CASES = {
    "Ctrl+C in the middle of a row group": Case(
        parts=ONE_GROUP,
        exit_code=130,
        rows=range(40, 200),
        latency_seconds=0.05,
        interrupts=((60, "SIGINT"),),
        says="finished rows? (is|are) written",
        why="Cancelled",
        check=in_time(25.0),
    ),
    "SIGTERM while calls hang": Case(
        lambda: hangs_after(20),
        {**ONE_GROUP, "run": {"buffer_size": 300, "stop_seconds": 2}},
        exit_code=143,
        rows=20,
        interrupts=((23, "SIGTERM"),),
        warns="out longest: text/20",
        says="20 finished rows are written",
        why="Cancelled.*slower|Cancelled.*hung",
        check=in_time(25.0),
    ),
    "SIGTERM within a cooldown": Case(
        lambda: refuses_after(20, "60"),
        {**ONE_GROUP, "run": {"buffer_size": 300, "stop_seconds": 2}},
        exit_code=143,
        rows=20,
        interrupts=((23, "SIGTERM"),),
        says="20 finished rows are written",
        why="Cancelled.*429",
        check=in_time(25.0),
    ),
    "Ctrl+C within the health check": Case(
        lambda: lambda call: failure(429, "x"),
        CHECKED,
        exit_code=130,
        rows=0,
        interrupts=((1, "SIGINT"),),
        check=in_time(25.0),
    ),
    "Ctrl+C, again and again, within the health check": Case(
        lambda: hangs_after(0),
        CHECKED,
        exit_code=130,
        rows=0,
        interrupts=((FIRST_CALL, "SIGINT"), (FIRST_CALL, "SIGTERM")),
        check=in_time(25.0),
    ),
    "tokens that are used up": Case(
        parts={"records": 100, "model": {"max_parallel_requests": 4}},
        arguments=("--max-tokens", "200"),
        exit_code=1,
        rows=range(25, 25 + 2 * 4 + 1),
        latency_seconds=0.05,
        says="--max-tokens",
        why="has used 2.. tokens",
        check=resumable,
    ),
    "few descriptors": Case(
        parts={"records": 300, "model": {"max_parallel_requests": 200}},
        latency_seconds=0.3,
        prefix=("bash", "-c", 'ulimit -n 100; exec "$@"', "x"),
        warns="at most 36 calls at once, not 200",
        why="p/m1",
        seconds=40.0,
        check=few_descriptors,
    ),
    "300 at once": Case(
        parts={"records": 600, "model": {"max_parallel_requests": 300}},
        latency_seconds=0.5,
        seconds=40.0,
    ),
    "a million rows in small groups": Case(
        parts={
            "records": 1_000_000,
            "columns": [{"name": "n", "type": "sampler", "uuid": True}],
            "run": {"buffer_size": 10},
        },
        exit_code=130,
        rows=range(10, 1_000_000, 10),
        stops_after=effort(8.0, 20.0),
        check=in_time(60.0),
        seconds=60.0,
    ),
    "many rows at full speed": Case(
        parts={
            "records": effort(4_000, 20_000),
            "model": {"max_parallel_requests": 64},
            "run": {"buffer_size": 200},
        },
        latency_seconds=0.0,
        interrupts=((effort(1_500, 4_000), "MEASURE"), (effort(3_800, 19_500), "MEASURE")),
        seconds=90.0,
        check=bounded_memory,
    ),
}
SAMPLE = ("few descriptors",)


@pytest.mark.parametrize("name", effort(SAMPLE, tuple(CASES)))
def test_a_run_that_is_stopped_or_short_of_something(
    name: str, judged: Callable[[Case], Ended]
) -> None:
    judged(CASES[name])


GROUPS = Case(
    parts={
        "records": RECORDS,
        "model": {"max_parallel_requests": 4},
        "run": {"buffer_size": 20, "max_concurrent_row_groups": 2},
    },
    latency_seconds=0.05,
    seconds=30.0,
)


def why(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run_cli(["why", str(run)]) == 0
    return first_paragraph(capsys.readouterr().out)


def check_resumed(folder: Path, before: Ended, most_repeated: int) -> None:
    """The run goes on to its end: every row once, and what was paid for is not paid for again."""
    after = run_case(replace(GROUPS, resumes=True), folder)
    assert after.code == 0, after.stdout + after.stderr
    assert len({row["id"] for row in after.rows}) == len(after.rows) == RECORDS
    assert before.provider.calls + after.provider.calls <= RECORDS + most_repeated
    assert run_cli(["verify", str(before.run)]) == 0


def test_an_engine_that_is_killed_keeps_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    ended = run_case(replace(GROUPS, interrupts=((60, "KILL_ENGINE"),)), tmp_path)
    assert ended.code == 3
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.record["state"] == "lost"
    assert len(ended.rows) in range(20, RECORDS, 20), "whole row groups"
    assert ended.record["rows_done"] <= len(ended.rows), "what its last 20 ms held is lost"
    assert "ended without a word: it was killed" in why(ended.run, capsys)
    assert run_cli(["verify", str(ended.run)]) == 0
    check_resumed(tmp_path, ended, most_repeated=4 + 4)


def test_a_dataset_that_cannot_be_written_for_a_while_costs_no_row(tmp_path: Path) -> None:
    """A folder stands where its second row group is to be."""
    in_the_way = tmp_path / "run" / "dataset" / "row-group-000001.parquet"

    def obstruct() -> None:
        in_the_way.mkdir()
        time.sleep(2.0)  # in a thread of its own
        in_the_way.rmdir()

    ended = run_case(replace(GROUPS, acts=((2, obstruct),)), tmp_path)
    assert (ended.code, len(ended.rows)) == (0, RECORDS), ended.stdout
    assert ended.provider.calls == RECORDS
    with duckdb.connect(str(ended.run / "recording.duckdb"), read_only=True) as connection:
        [(retried,)] = connection.execute(
            "select count(*) from events where kind = 'row_group_write_retried'"
        ).fetchall()
    assert retried > 0
    assert run_cli(["verify", str(ended.run)]) == 0


def test_a_dataset_that_cannot_be_written_ends_the_run_and_what_was_paid_for_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes its folder before a row group is written."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    dataset = tmp_path / "run" / "dataset"

    def remove() -> None:
        shutil.rmtree(dataset)
        dataset.write_text("not a folder")

    ended = run_case(replace(GROUPS, acts=((2, remove),)), tmp_path)
    assert ended.code == 3, ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.record["outcome"] == "failed"
    assert ended.record.get("rows_done", 0) == 0
    reasons = [line for line in ended.stdout.splitlines() if line.startswith("Reason")]
    assert len(reasons) == 1
    assert "could not be written" in reasons[0]
    assert "could not be written" in why(ended.run, capsys)
    assert run_cli(["verify", str(ended.run)]) == 0
    dataset.unlink()
    check_resumed(tmp_path, ended, most_repeated=8)
