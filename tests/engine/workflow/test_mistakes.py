"""Mistakes in columns: one sentence, with the path of the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.workflow.mistakes import first_mistake
from engine.workflow.schema import Workflow

MODEL = {"model": "w", "prompt": "a"}


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (
            {"type": "sampler", "uniform": {"low": 0, "high": 1, "decimls": 1}},
            'column "x", uniform: unknown key "decimls"; did you mean "decimals"?',
        ),
        (
            {"type": "sampler", "subcategory": {"of": "topic", "values": {"a": 3}}},
            'column "x", subcategory, values, a: input should be a valid list, or input should be '
            "a valid dictionary",
        ),
        (
            {"type": "llm_text", **MODEL, "messages": [{"role": "user", "txt": "a"}]},
            'column "x", messages, 0: unknown key "txt"; did you mean "text"? (and 1 more)',
        ),
        (
            {"type": "llm_text", **MODEL, "stop": 3},
            'column "x", stop: input should be a valid string, or input should be a valid list',
        ),
        (
            {"type": "llm_judge", **MODEL, "scores": [{"name": "a b", "description": "d"}]},
            'column "x", scores, 0, name: this is no valid name: it takes letters, digits and "_" '
            "(and 1 more)",
        ),
        (
            {"type": "llm_structured", **MODEL, "schema": {"type": "a"}},
            'column "x", schema: no valid JSON Schema at #/type',
        ),
        (
            {"type": "seed", "path": "a.csv", "partition": {"index": 3, "of": 2}},
            'column "x", partition: index must be below 2: parts are counted from 0',
        ),
        (
            {"type": "validation", "columns": ["topic"], "sql": "1; DROP TABLE a"},
            'column "x", sql: the SQL of a validation can\'t be used: ',
        ),
        (
            {"type": "embedding", "model": "gone", "text": "a"},
            'column "x" names the unknown model "gone"; known models: w',
        ),
    ],
)
def test_a_mistake_is_one_sentence(column: dict[str, Any], sentence: str) -> None:
    raw = {
        "name": "w",
        "records": 1,
        "providers": {"p": {"type": "scripted"}},
        "models": {"w": {"provider": "p", "model": "m"}},
        "columns": [{"name": "topic", "type": "sampler", "uuid": True}, {"name": "x", **column}],
    }
    with pytest.raises(ValidationError) as caught:
        Workflow.model_validate(raw)
    said = first_mistake(caught.value, raw)
    assert said == sentence or (sentence.endswith(": ") and said.startswith(sentence))
    assert "\n" not in said
