"""What all columns have: `skip_when`, `drop`, and values of expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from engine.errors import PermanentTaskError
from engine.models.settings import ScriptedProvider
from engine.workflow.schema import Workflow
from tests.engine.workflow.columns.cells import Answers, batch, generator, make, workflow
from tests.engine_run import run_engine


@pytest.mark.parametrize("condition", ["topic == 'tides'", "{{ topic == 'tides' }}"])
def test_a_row_that_is_skipped_is_not_made(condition: str) -> None:
    column = {"type": "llm_text", "model": "writer", "prompt": "Hi", "skip_when": condition}
    made_by = generator(column | {"skip_value": "none"}, "topic")
    models = Answers("made")
    assert make(made_by, {"topic": "tides"}, models) == "none"
    assert models.requests == []
    assert make(made_by, {"topic": "rivers"}, models) == "made"


def test_rows_of_a_batch_are_skipped_one_by_one() -> None:
    sampler = generator(
        {"type": "sampler", "integers": {"low": 1, "high": 9**9}, "skip_when": "not wanted"},
        "wanted",
    )
    plain = generator({"type": "sampler", "integers": {"low": 1, "high": 9**9}})
    values = batch(sampler, range(4), [{"wanted": row != 2} for row in range(4)])
    all_values = batch(plain, range(4))
    assert values == [*all_values[:2], None, all_values[3]]


def test_a_condition_that_fails_drops_the_row_without_its_values() -> None:
    column = {"type": "expression", "template": "x", "skip_when": "topic + 1 > 2"}
    with pytest.raises(PermanentTaskError) as caught:
        make(generator(column, "topic"), {"topic": "private words"})
    assert "private" not in caught.value.message


@pytest.mark.parametrize("condition", ["topic ==", "no_such_filter(", "1 if"])
def test_a_broken_condition_is_refused(condition: str) -> None:
    with pytest.raises(ValidationError, match="broken template"):
        workflow({"name": "x", "type": "expression", "template": "x", "skip_when": condition})


def test_a_condition_counts_as_a_dependency() -> None:
    made = workflow(
        {"name": "x", "type": "expression", "template": "x", "skip_when": "number > 2"},
        {"name": "number", "type": "sampler", "integers": {"low": 1, "high": 3}},
    )
    assert made.graph.order == ("number", "x")


def test_dropped_columns_are_made_and_left_out_of_the_output(tmp_path: Path) -> None:
    made = Workflow.model_validate(
        {
            "name": "w",
            "records": 7,
            "providers": {"p": ScriptedProvider()},
            "models": {"m": {"provider": "p", "model": "m"}},
            "columns": [
                {"name": "number", "type": "sampler", "values": [4], "drop": True},
                {"name": "double", "type": "expression", "template": "{{ number * 2 }}"},
                {
                    "name": "text",
                    "type": "llm_text",
                    "model": "m",
                    "prompt": "On {{ double }}",
                    "skip_when": "double == '8'",
                },
            ],
            "run": {"buffer_size": 3},
        }
    )
    assert run_engine(made, dataset=tmp_path).result.rows_done == 7
    tables = [pq.read_table(file) for file in sorted(tmp_path.glob("*.parquet"))]
    assert [table.column_names for table in tables] == [["double", "text"]] * 3
    assert {value for t in tables for value in t["double"].to_pylist()} == {"8"}
    assert {value for t in tables for value in t["text"].to_pylist()} == {None}


def test_a_workflow_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(ValidationError, match="every column is dropped"):
        workflow({"name": "x", "type": "sampler", "uuid": True, "drop": True})


@pytest.mark.parametrize(
    ("value_type", "template", "value"),
    [
        ("text", "{{ n }} ", "3 "),
        ("integer", " {{ n }} ", 3),
        ("number", "{{ n / 2 }}", 1.5),
        ("boolean", "{{ n > 2 }}", True),
        ("boolean", "no", False),
        ("json", '{"a": [{{ n }}]}', {"a": [3]}),
    ],
)
def test_an_expression_is_read_as_its_type(value_type: str, template: str, value: Any) -> None:
    column = {"type": "expression", "template": template, "value_type": value_type}
    made = make(generator(column, "n"), {"n": 3})
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize("value_type", ["integer", "number", "boolean", "json"])
def test_a_text_that_is_no_such_value_drops_the_row(value_type: str) -> None:
    column = {"type": "expression", "template": "{{ n }}", "value_type": value_type}
    with pytest.raises(PermanentTaskError) as caught:
        make(generator(column, "n"), {"n": "private words"})
    assert caught.value.error_type == "WrongValue"
    assert "private" not in caught.value.message


def test_a_field_goes_before_a_method_of_its_name() -> None:
    column = {"type": "expression", "template": "{{ s.clear }} {{ s.items }} {{ s['keys'] }}"}
    row = {"s": {"clear": 2, "items": [1], "keys": "k"}}
    assert make(generator(column, "s"), row) == "2 [1] k"
