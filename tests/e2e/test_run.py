"""Whole runs as a user starts them: real processes, real HTTP, real DuckDB files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.e2e.program import HEADGATE, environment, headgate
from tests.fixtures.data_designer_format import generate
from tests.scripted_server import COMMAND

SCRIPTS = """
alpha: {seed: 1, latency: {mean: 0.03, spread: 0.01}}
beta:
  seed: 2
  latency: {mean: 0.03, spread: 0.01}
  rate_limits: [{from: 1.0, to: 2.5, retry_after: 0.4, allow: 2}]
"""

WORKFLOW = """
name: five-columns
records: 300
seed: 11
providers:
  alpha: { type: openai, base_url: "$alpha" }
  beta: { type: openai, base_url: "$beta", api_key_env: BETA_KEY }
models:
  writer: { provider: alpha, model: gen-8b, max_parallel_requests: 12 }
  judge: { provider: beta, model: judge-70b, max_parallel_requests: 12 }
columns:
  - { name: topic, type: sampler, values: [tides, bridges, lanterns] }
  - { name: n, type: sampler, integers: { low: 1, high: 100000 } }
  - { name: question, type: llm_text, model: writer, prompt: "Ask {{ n }} about {{ topic }}" }
  - { name: keywords, type: llm_text, model: writer, prompt: "Keywords {{ topic }} {{ n }}" }
  - { name: answer, type: llm_text, model: writer, prompt: "{{ question }}" }
  - { name: critique, type: llm_text, model: judge, prompt: "{{ question }} {{ answer }}" }
  - { name: verdict, type: llm_text, model: judge, prompt: "{{ critique }} {{ n }}" }
run: { buffer_size: 50, max_concurrent_row_groups: 3 }
"""

SECRET = "sk-canary-0123456789"


@pytest.fixture
def provider_urls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Two scripted providers behind one real HTTP server on loopback; it ends by itself."""
    script = tmp_path / "providers.yaml"
    script.write_text(SCRIPTS)
    server = subprocess.Popen(
        [*COMMAND, str(script), "--for", "120"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        pairs = [server.stdout.readline().split() for _ in range(2)]
        yield {pair[0]: pair[1] for pair in pairs}
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def query(recording: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(recording), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_demo_without_a_terminal(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = headgate("demo", "--headless", "--records", "60", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert (out / "recording.duckdb").is_file()
    assert not (out / "journal").exists()
    record = json.loads((out / "run.json").read_text())
    assert (record["state"], record["outcome"]) == ("complete", "success")
    assert record["rows_done"] == 60
    kinds = dict(query(out / "recording.duckdb", "select kind, count(*) from events group by 1"))
    assert kinds["request_limit_decreased"] >= 1
    assert kinds["request_limit_increased"] >= 1
    assert kinds["task_completed"] == kinds["task_lease_released"]
    why = headgate("why", out, "--json", cwd=tmp_path)
    assert why.returncode == 0, why.stderr
    report = json.loads(why.stdout)
    assert sum(share["fraction"] for share in report["run_blame"]) == pytest.approx(1, abs=1e-3)
    assert any(
        verdict["verdict"] == "request_cooldown" and verdict["resource"].startswith("beta/")
        for verdict in report["verdicts"]
    )
    listed = json.loads(headgate("runs", "--json", cwd=tmp_path).stdout)
    assert [row["folder"] for row in listed] == [str(out)]
    replayed = headgate("replay", out, "--once", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    assert "60" in replayed.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_headless_run_is_stopped_by_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [HEADGATE, "demo", "--headless", "--out", out],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        assert "live" in command.stderr.readline()
        command.send_signal(number)
        assert command.stderr.readline().startswith("Stopping")
        command.send_signal(number)
        said, complaints = command.communicate(timeout=60)
    assert command.returncode == 128 + number, complaints
    assert said.startswith("demo: cancelled")
    assert "Traceback" not in complaints
    assert not (out / "journal").exists()
    assert json.loads((out / "run.json").read_text())["outcome"] == "cancelled"


def test_a_reader_that_leaves_is_no_finding(tmp_path: Path) -> None:
    recording = tmp_path / "storm.jsonl"
    generate(recording, storm=True, rows=20)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [HEADGATE, "replay", recording, "--once"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_a_library_hides_is_still_one(number: signal.Signals) -> None:
    """DuckDB makes its own error of a Ctrl+C that comes during a query."""
    code = f"""
import os, sys
import console.cli.main as main

def command(*arguments, **options):
    try:
        os.kill(os.getpid(), {number})
    except KeyboardInterrupt:
        raise RuntimeError("Query interrupted") from None

main.cli.main = command
sys.exit(main.run_cli([]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 2])
def test_an_import_that_is_interrupted_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, times: int
) -> None:
    """Twice: the second Ctrl+C comes while it cleans up after the first."""
    lines, scratch = tmp_path / "run.jsonl", tmp_path / "scratch"
    generate(lines, storm=False, rows=20)
    scratch.mkdir()
    code = f"""
import os, sys
from console.cli.main import run_cli
from replay.recording.ingest import Ingest

def interrupt(found):
    assert found
    os.kill(os.getpid(), {number})

def remove(path, **options):
    os.rmdir = rmdir
    interrupt(path)

rmdir = os.rmdir
if {times} == 2:
    os.rmdir = remove
Ingest.step = lambda self: interrupt(os.listdir({str(scratch)!r}))
sys.exit(run_cli(["sql", {str(lines)!r}, "SELECT 1"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (128 + number, b"")
    assert b"Traceback" not in done.stderr
    assert list(scratch.iterdir()) == []


def test_three_hundred_records_over_real_http(
    tmp_path: Path, provider_urls: dict[str, str]
) -> None:
    workflow = tmp_path / "workflow.yaml"
    workflow.write_text(Template(WORKFLOW).substitute(provider_urls))
    out = tmp_path / "out"
    done = headgate(
        "run", workflow, "--headless", "--out", out, cwd=tmp_path, env={"BETA_KEY": SECRET}
    )
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(out / "dataset").to_pylist()
    assert len(rows) == 300
    assert all(all(value for value in row.values()) for row in rows)

    recording = out / "recording.duckdb"
    kinds: Counter[str] = Counter(
        dict(query(recording, "select kind, count(*) from events group by 1"))
    )
    assert kinds["request_rate_limited"] > 0
    assert kinds["model_request_completed"] == 1500 + kinds["request_rate_limited"]
    for table in ("leases", "attempts"):
        assert query(recording, f"select count(*) from {table} where released_at is null") == [(0,)]
    checked = headgate(
        "verify", out, "--json", "--canary", "env:BETA_KEY", cwd=tmp_path, env={"BETA_KEY": SECRET}
    )
    assert checked.returncode == 0, checked.stdout
    statuses = {check["rule"]: check["status"] for check in json.loads(checked.stdout)["checks"]}
    assert {rule for rule, status in statuses.items() if status != "ok"} <= {"fairness"}

    kept = [path for path in out.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert SECRET.encode() not in path.read_bytes(), path
