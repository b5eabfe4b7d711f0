"""A run goes on only with the workflow with which it began; the difference is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import UserError
from engine.run.fingerprint import fingerprint_of, read_fingerprint, resumed_workflow
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow

PROMPT = "a secret prompt about {{ n }}"


def workflow(**changes: Any) -> Workflow:
    facts: dict[str, Any] = {
        "name": "w",
        "records": 10,
        "seed": 3,
        "providers": {"p": {"type": "scripted"}},
        "models": {"m": {"provider": "p", "model": "x", "temperature": 0.5}},
        "columns": [
            {"name": "n", "type": "sampler", "uuid": True},
            {"name": "q", "type": "llm_text", "model": "m", "prompt": PROMPT},
        ],
    }
    return Workflow.model_validate(facts | changes)


def go_on(now: Workflow, records: int | None = None, seed: int | None = None) -> Workflow:
    begun = read_fingerprint(msgspec.json.encode(fingerprint_of(workflow())))
    return resumed_workflow(LoadedWorkflow(now, None, {}), begun, records, seed).workflow


def test_no_prompt_stands_in_it() -> None:
    assert b"secret" not in msgspec.json.encode(fingerprint_of(workflow()))


def test_seed_and_records_of_the_command_line_are_kept() -> None:
    assert go_on(workflow(records=99, seed=8)).records == 10
    assert go_on(workflow(records=99, seed=8)).seed == 3


COLUMNS = workflow().model_dump()["columns"]


@pytest.mark.parametrize(
    "now",
    [
        workflow(),
        workflow(run={"max_in_flight_tasks": 7, "max_attempts": 2}),
        workflow(providers={"p": {"type": "openai", "base_url": "http://127.0.0.1:9/v1"}}),
        workflow(
            models={
                "m": {
                    "provider": "p",
                    "model": "x",
                    "temperature": 0.5,
                    "max_parallel_requests": 2,
                    "price": {"input": 1, "output": 2},
                }
            }
        ),
        workflow(columns=[*COLUMNS, {"name": "z", "type": "expression", "template": "{{ n }}"}]),
    ],
)
def test_what_may_change(now: Workflow) -> None:
    assert go_on(now).records == 10


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (workflow(run={"buffer_size": 7}), "run.buffer_size is 7, it was 100"),
        (workflow(columns=COLUMNS[:1]), 'column "q" is gone'),
        (workflow(columns=COLUMNS[::-1]), "reordered"),
        (
            workflow(columns=[{"name": "z", "type": "sampler", "uuid": True}, *COLUMNS]),
            'column "z" stands before others',
        ),
        (workflow(columns=[COLUMNS[0], COLUMNS[1] | {"prompt": "x"}]), 'prompt of column "q"'),
        (
            workflow(models={"m": {"provider": "p", "model": "y", "temperature": 0.1}}),
            'model, temperature of model "m"',
        ),
    ],
)
def test_a_change_is_refused_and_named(now: Workflow, named: str) -> None:
    with pytest.raises(UserError) as refusal:
        go_on(now)
    assert named in str(refusal.value)


def test_another_content_of_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lines.csv"
    file.write_text("x\n1\n2\n")
    column = {"name": "s", "type": "seed", "path": "lines.csv"}
    loaded = LoadedWorkflow(workflow(columns=[column]), tmp_path / "w.yaml", {})
    begun = fingerprint_of(loaded.workflow, tmp_path)
    assert resumed_workflow(loaded, begun, None, None).workflow == loaded.workflow
    file.write_text("x\n1\n3\n")
    with pytest.raises(UserError, match='content of the file of column "s" differs'):
        resumed_workflow(loaded, begun, None, None)


def test_another_seed_on_the_command_line_is_refused() -> None:
    with pytest.raises(UserError, match="seed is 4, it was 3"):
        go_on(workflow(), seed=4)
    with pytest.raises(UserError, match="records is 11, it was 10"):
        go_on(workflow(), records=11)


def test_what_is_no_fingerprint() -> None:
    with pytest.raises(UserError, match="begin a new"):
        read_fingerprint(b"{}")
