"""What a user sees of providers that fail: exit code, one sentence with the reason, the rows that
are there, the first paragraph of `why`, and a recording that keeps its promises."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.faulty_server import serving
from tests.e2e.program import headgate
from tests.effort import effort
from tests.engine.run.faulty_provider import Behaviour, Call, completion, failure, reset

RECORDS = 60
FINISHED = 20
OUT_SECONDS = 1.5
TIMEOUT_SECONDS = 60
DROPPED = "dropped.parquet"


def after(calls: int, status: int, code: Any = None, message: str = "no") -> Behaviour:
    return lambda call: completion() if call.number < calls else failure(status, code, message)


def out(status: int, **headers: str) -> Behaviour:
    """Down from a tenth of a second on."""

    def behaviour(call: Call) -> Any:
        if 0.1 <= call.seconds < 0.1 + OUT_SECONDS:
            return reset(call) if status == 0 else failure(status, headers=headers)
        return completion()

    return behaviour


def always(status: int, code: Any = None, message: str = "no") -> Behaviour:
    """Prompts with ODD in them get this answer whenever they are sent."""
    return lambda call: failure(status, code, message) if "ODD" in call.prompt else completion()


@dataclass(frozen=True)
class Case:
    """One kind of provider, and how a run against it is to end."""

    behaviour: Behaviour
    exit_code: int = 0
    rows: int = RECORDS
    """Rows that are written, of those that are not odd."""
    says: str = ""
    """In the sentence with the reason, and in `headgate runs`."""
    why: str = ""
    """In the first paragraph of `why`."""
    error: str = ""
    """Class of the failure that drops the odd rows."""
    workflow: dict[str, Any] = field(default_factory=dict)


ODD_ROWS = {"kind": {"ODD": 1, "plain": 5}}
CASES: dict[str, Case] = {
    "a key that is refused": Case(
        after(FINISHED, 401, "invalid_api_key"), 1, FINISHED, "invalid_api_key", "key"
    ),
    "a quota that is spent": Case(
        after(FINISHED, 429, "insufficient_quota"), 1, FINISHED, "no credit or quota", "quota"
    ),
    "a bill that is not paid": Case(after(FINISHED, 402), 1, FINISHED, "402", "402"),
    "a daily quota": Case(
        after(FINISHED, 429, "RESOURCE_EXHAUSTED", "Quota exceeded: RequestsPerDay"),
        1,
        FINISHED,
        "RequestsPerDay",
        "quota",
    ),
    "an unknown model": Case(after(0, 404, "model_not_found"), 1, 0, "model_not_found", "model"),
    "a wrong address": Case(after(0, 404), 1, 0, "404", "404"),
    "an outage with 529": Case(out(529), why="out"),
    "an outage with 503 and a delay": Case(out(503, **{"retry-after": "1"}), why=""),
    "resets": Case(out(0), why=""),
    "a context that is too long": Case(
        always(400, "context_length_exceeded"),
        1,
        error="context_length",
        why="dropped",
        workflow=ODD_ROWS,
    ),
    "requests that never fit": Case(
        always(429, "rate_limit_exceeded", "Request too large: limit 300, requested 306"),
        1,
        error="request_too_large",
        why="dropped",
        workflow=ODD_ROWS,
    ),
}


def write_workflow(folder: Path, address: str, case: Case) -> Path:
    columns: list[dict[str, Any]] = [{"name": "id", "type": "sampler", "uuid": True}]
    prompt = "About {{ id }}"
    if "kind" in case.workflow:
        columns.append({"name": "kind", "type": "sampler", "categories": case.workflow["kind"]})
        prompt = "{{ kind }} {{ id }}"
    columns.append({"name": "text", "type": "llm_text", "model": "m", "prompt": prompt})
    parts = {
        "name": "trial",
        "records": RECORDS,
        "providers": {"p": {"type": "openai", "base_url": address}},
        "models": {"m": {"provider": "p", "model": "m1", "max_parallel_requests": 4}},
        "columns": columns,
        "run": {"buffer_size": 20, "cooldown_seconds": 0.2},
    }
    path = folder / "workflow.yaml"
    path.write_text(yaml.safe_dump(parts))
    return path


def rows_of(dataset: Path) -> list[dict[str, Any]]:
    return [row for file in dataset.iterdir() for row in pq.read_table(file).to_pylist()]


def dropped_of(dataset: Path) -> list[dict[str, Any]]:
    file = dataset.parent / DROPPED
    return pq.read_table(file).to_pylist() if file.exists() else []


@pytest.mark.parametrize(
    "name", effort(["a key that is refused", "requests that never fit"], list(CASES))
)
def test_a_run_says_what_its_provider_did(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    run = tmp_path / "run"
    with serving(case.behaviour, 0.03) as provider:
        path = write_workflow(tmp_path, provider.address, case)
        done = headgate(
            "run", path, "--headless", "--out", run, cwd=tmp_path, timeout=TIMEOUT_SECONDS
        )
        odd = sum("ODD" in prompt for prompt in provider.prompts)
    assert done.returncode == case.exit_code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    rows = rows_of(run / "dataset")
    assert len(rows) == case.rows - odd
    assert len({row["id"] for row in rows}) == len(rows)
    assert all("ODD" not in str(row.get("kind")) for row in rows)
    record = json.loads((run / "run.json").read_text())
    assert record.get("rows_done", 0) == len(rows)
    assert (record.get("rows_dropped") or 0) == odd
    if case.says:
        reasons = [line for line in done.stdout.splitlines() if line.startswith("Reason")]
        assert len(reasons) == 1
        assert case.says in reasons[0]
        (listed,) = headgate("runs", cwd=tmp_path).stdout.splitlines()
        assert "stopped" in listed
        assert record["message"].split(". ")[0][:60] in listed
    why = headgate("why", run, cwd=tmp_path)
    assert why.returncode == 0
    assert case.why in " ".join(first_paragraph(why.stdout).split())
    dropped = dropped_of(run / "dataset")
    assert len(dropped) == odd
    assert {row["class"] for row in dropped} == ({case.error} if case.error else set())
    assert bool(odd) == bool(case.error)
    verified = headgate("verify", run, cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout


def first_paragraph(report: str) -> str:
    """The one after the heading."""
    return re.split(r"\n\s*\n", report.strip())[1]
