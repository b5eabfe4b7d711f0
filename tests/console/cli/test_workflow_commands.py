"""`headgate plan`, `preview`, `init` and `import-config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from console.cli import exit_codes
from console.cli.main import run_cli
from engine.workflow.examples import EXAMPLES
from engine.workflow.load import load_workflow

CONFIG = Path(__file__).parents[2] / "fixtures" / "data_designer_configs" / "config.yaml"
WORKFLOW = """
name: small
records: 40
providers:
  p: { type: scripted, latency: { mean: 0 } }
models:
  writer: { provider: p, model: m, max_parallel_requests: 4 }
columns:
  - { name: topic, type: sampler, values: [tides] }
  - { name: text, type: llm_text, model: writer, prompt: "On {{ topic }}" }
"""


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "workflow.yaml"
    path.write_text(WORKFLOW)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run_cli([*map(str, arguments)])
    return (code, *capsys.readouterr())


def test_plan_shows_what_the_run_would_do(
    workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "plan", workflow)
    assert code == exit_codes.OK
    for part in ("40 rows in 1 row group", "On tides", "model_stage:p/m", "default", "Nothing"):
        assert part in out
    assert list(workflow.parent.iterdir()) == [workflow]


def test_plan_as_json_and_with_findings(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "plan", workflow, "--json", "--records", 3)
    assert code == exit_codes.FINDINGS
    plan = json.loads(out)
    assert plan["records"] == 3
    assert [finding["code"] for finding in plan["findings"]] == ["cap_never_fills"]
    assert plan["columns"][1]["first_prompt"] == [{"role": "user", "text": "On tides", "images": 0}]


def test_plan_needs_no_key(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = "{ type: openai, api_key_env: NO_SUCH_KEY }"
    workflow.write_text(WORKFLOW.replace("{ type: scripted, latency: { mean: 0 } }", remote))
    assert run(capsys, "plan", workflow)[0] == exit_codes.OK


def test_preview_prints_rows_and_keeps_nothing(
    workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "preview", workflow, "--rows", 2)
    assert code == exit_codes.OK
    assert out.count("topic: tides") == 2
    assert "2 rows made, 0 dropped, 2 calls." in out
    code, out, _ = run(capsys, "preview", workflow, "--rows", 2, "--json")
    rows = json.loads(out)["rows"]
    assert [row["topic"] for row in rows] == ["tides", "tides"]
    assert list(workflow.parent.iterdir()) == [workflow]


def test_preview_says_why_a_row_is_missing(
    workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = "  - { name: check, type: validation, columns: [text], sql: 'false' }\n"
    workflow.write_text(WORKFLOW + check)
    code, out, _ = run(capsys, "preview", workflow, "--rows", 1)
    assert code == exit_codes.FINDINGS
    assert "Dropped: row 1, column check: RowRejected" in out
    assert "0 rows made, 1 dropped, 1 calls." in out


@pytest.mark.parametrize("command", ["plan", "preview"])
@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("{ name: x, type: sampler, uniform: { low: 2 } }", 'column "x", uniform: the key "high"'),
        ("{ name: x, type: llm_text, model: writer, promt: a }", 'did you mean "prompt"?'),
        ("{ name: x, type: llm_judge, model: writer, prompt: a }", 'the key "scores" is missing'),
        (
            "{ name: x, type: llm_structured, model: writer, prompt: a, schema: { type: 3 } }",
            'column "x", schema: no valid JSON Schema at #/type',
        ),
        (
            "{ name: x, type: llm_text, model: writer, prompt: a, messages: [{ role: me }] }",
            'column "x", messages, 0, role',
        ),
        ("{ name: x, type: seed, path: gone.csv }", 'column "x", path: gone.csv: there is no'),
        ("{ name: x, type: seed, path: ../a.csv }", "leads out of the workflow's folder"),
        ("{ name: x, type: validation, columns: [topic], sql: 'a b c' }", 'column "x"'),
        ("{ name: x, type: embedding, model: writer, text: '{{' }", 'column "x", text: broken'),
        ("{ name: x, type: unknown }", "expected one of 'custom', 'embedding'"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(
    command: str, column: str, says: str, workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow.write_text(f"{WORKFLOW}  - {column}\n")
    code, out, err = run(capsys, command, workflow)
    assert code == exit_codes.MISUSE
    assert out == ""
    assert len(err.splitlines()) == 1
    assert says in err


def test_init_lists_and_writes_examples(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "init")
    assert [line.split()[0] for line in out.splitlines()] == list(EXAMPLES)
    assert run(capsys, "init", "seed-rewriting", "--scripted")[0] == exit_codes.OK
    written = workflow.parent / "seed-rewriting"
    assert {path.name for path in written.iterdir()} == {"workflow.yaml", "passages.csv"}
    assert load_workflow(written / "workflow.yaml").workflow.name == "seed-rewriting"


def test_init_overwrites_nothing(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workflow.parent / "mine").mkdir()
    code, _, err = run(capsys, "init", "question-answer", "--out", "mine")
    assert code == exit_codes.MISUSE
    assert "mine exists already" in err
    assert list((workflow.parent / "mine").iterdir()) == []
    code, _, err = run(capsys, "init", "question")
    assert code == exit_codes.MISUSE
    assert 'there is no example "question"' in err


def test_import_config_writes_a_workflow_and_says_what_is_missing(
    workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "import-config", CONFIG)
    assert code == exit_codes.FINDINGS
    assert out.startswith("name: imported\n")
    assert all(line.startswith("headgate: ") for line in err.splitlines())
    code, out, _ = run(capsys, "import-config", CONFIG, "--out", "made.yaml", "--records", 7)
    assert (code, out) == (exit_codes.FINDINGS, "")
    text = (workflow.parent / "made.yaml").read_text()
    assert "records: 7" in text
    code, _, err = run(capsys, "import-config", CONFIG, "--out", "made.yaml")
    assert code == exit_codes.MISUSE
    assert "is not overwritten" in err
    assert (workflow.parent / "made.yaml").read_text() == text


def test_an_imported_configuration_with_equivalents_alone_is_fine(
    workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    column: dict[str, Any] = {"name": "x", "column_type": "expression", "expr": "a"}
    (workflow.parent / "config.json").write_text(json.dumps({"columns": [column]}))
    code, out, err = run(capsys, "import-config", "config.json")
    assert (code, err) == (exit_codes.OK, "")
    assert "template: a" in out
