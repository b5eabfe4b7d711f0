"""What a run has made, and what a run that is over says to whoever wants it to go on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.program import headgate

FUNCTIONS = """
async def odd(row):
    if row["n"] % 2 == 0:
        raise ValueError(row["n"])
    return {"n": row["n"], "text": "=1+1\\x1b[31m red"}
"""
WORKFLOW = """
name: odd
records: 12
seed: 2
columns:
  - { name: n, type: sampler, integers: { low: 1, high: 1000 } }
  - { name: odd, type: custom, function: "functions:odd", depends_on: [n] }
  - { name: text, type: expression, template: "{{ odd.text }}" }
run: { buffer_size: 5, stop_at_drop_share: null }
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "functions.py").write_text(FUNCTIONS)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    done = headgate(
        "run", "workflow.yaml", "--headless", "--out", "out", "--format", "csv", cwd=folder
    )
    assert done.returncode == 1, done.stderr
    return folder


def numbers(folder: Path) -> list[int]:
    dropped = pq.read_table(folder / "out/dropped.parquet").column("row").to_pylist()
    return [row for row in range(12) if row not in dropped]


def test_the_files_of_a_dataset(ran: Path) -> None:
    kept = numbers(ran)
    assert 0 < len(kept) < 12
    manifest = json.loads((ran / "out/manifest.json").read_text())
    assert (manifest["rows"], manifest["dropped"]) == (len(kept), 12 - len(kept))
    assert [column["name"] for column in manifest["columns"]] == ["n", "odd", "text"]
    assert [file["row_group"] for file in manifest["files"]] == [0, 1, 2]
    dropped = pq.read_table(ran / "out/dropped.parquet").to_pylist()
    assert {(row["column"], row["error_type"], row["attempts"]) for row in dropped} == {
        ("odd", "ValueError", 1)
    }
    lines = (ran / "out/rows.csv").read_bytes().decode().splitlines()
    assert len(lines) == 1 + len(kept)
    assert all("'=1+1" in line for line in lines[1:])


def test_rows_as_a_table(ran: Path) -> None:
    done = headgate("rows", "out", "--columns", "n,text", cwd=ran)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    head, _, *lines = done.stdout.splitlines()
    assert head.split() == ["row", "n", "text"]
    assert [int(line.split()[0]) for line in lines] == numbers(ran)
    chosen = headgate("rows", "latest", "--where", "row<6", "--jsonl", "--limit", "2", cwd=ran)
    rows = [json.loads(line) for line in chosen.stdout.splitlines()]
    assert len(rows) == min(2, sum(number < 6 for number in numbers(ran)))
    assert rows[0]["odd"]["n"] == rows[0]["n"]


def test_one_row_names_its_tasks(ran: Path) -> None:
    row = numbers(ran)[0]
    done = headgate("rows", "out", "--row", str(row), cwd=ran)
    assert done.returncode == 0, done.stderr
    assert f"Tasks: odd/{row}, text/{row}" in done.stderr
    assert f"replay out --open row:{row}" in done.stderr
    assert "\x1b" not in done.stdout
    task = headgate("why", "out", "--task", f"text/{row}", cwd=ran)
    assert task.returncode == 0, task.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--row", "99"], "there is no row 99"),
        (["--columns", "nothing"], "there is no column nothing; there are n, odd, text"),
        (["--where", "nothing:3"], "rows have no nothing"),
        (["--csv", "--jsonl"], "not both"),
    ],
)
def test_mistakes(ran: Path, options: list[str], said: str) -> None:
    done = headgate("rows", "out", *options, cwd=ran)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_dropped_row_says_where_to_look(ran: Path) -> None:
    dropped = next(row for row in range(12) if row not in numbers(ran))
    done = headgate("rows", "out", "--row", str(dropped), cwd=ran)
    assert done.returncode == 2
    assert "why out says what failed" in " ".join(done.stderr.split())


def test_what_a_run_that_is_over_says_to_a_resume(ran: Path) -> None:
    again = headgate("run", "workflow.yaml", "--headless", "--out", "out", cwd=ran)
    assert again.returncode == 2
    assert "--resume out" in " ".join(again.stderr.split())
    over = headgate("run", "workflow.yaml", "--headless", "--resume", "out", cwd=ran)
    assert over.returncode == 1
    assert "nothing is left to be made" in " ".join(over.stderr.split())
    nowhere = headgate("run", "workflow.yaml", "--headless", "--resume", "nowhere", cwd=ran)
    assert nowhere.returncode == 2
    (ran / "other.yaml").write_text(WORKFLOW.replace("high: 1000", "high: 10"))
    other = headgate("run", "other.yaml", "--headless", "--resume", "out", cwd=ran)
    assert other.returncode == 2
    assert 'integers of column "n" differs' in " ".join(other.stderr.split())
    alone = headgate("run", "workflow.yaml", "--retry-dropped", cwd=ran)
    assert alone.returncode == 2
    assert "--resume DIR" in " ".join(alone.stderr.split())
    for said in (again, over, nowhere, other, alone):
        assert "Traceback" not in said.stderr
