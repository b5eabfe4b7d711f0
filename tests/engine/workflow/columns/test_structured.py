from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from engine.errors import UserError
from engine.models.client import ProviderError, Turn
from engine.models.scripted_answers import scripted_json
from engine.workflow.columns.structured import SchemaShape, read_json
from tests.engine.workflow.columns.cells import Answers, generator, make, workflow

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["year"],
    "additionalProperties": False,
    "properties": {"year": {"type": "integer", "minimum": 1900}, "name": {"type": "string"}},
}
SCORES = [
    {"name": "clear", "description": "Is it clear?", "options": {1: "no", 2: "yes"}},
    {"name": "tone", "description": "Which tone?", "options": {"kind": "k", "rude": "r"}},
]
GOOD = {
    "clear": {"reasoning": "why", "score": 2},
    "tone": {"reasoning": "why", "score": "kind"},
}


def structured(**parts: Any) -> dict[str, Any]:
    return {"type": "llm_structured", "model": "writer", "prompt": "Hi", "schema": SCHEMA, **parts}


def judge(**parts: Any) -> dict[str, Any]:
    return {"type": "llm_judge", "model": "judge", "prompt": "Hi", "scores": SCORES, **parts}


def test_the_endpoint_is_asked_for_the_schema_and_so_is_the_model() -> None:
    models = Answers('{"year": 1999}')
    assert make(generator(structured()), {}, models) == {"year": 1999}
    [request] = models.requests
    assert request.options["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": SCHEMA},
    }
    assert request.dispensable == {"response_format"}
    assert json.dumps(SCHEMA, separators=(",", ":")) in request.prompt


@pytest.mark.parametrize(
    ("native", "wanted"), [("off", None), ("json_object", {"type": "json_object"})]
)
def test_how_the_endpoint_is_asked_is_a_choice(native: str, wanted: Any) -> None:
    models = Answers('{"year": 1999}')
    make(generator(structured(native=native)), {}, models)
    assert models.requests[0].options.get("response_format") == wanted


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("I think it was 1999.", "there is no JSON in it"),
        ('{"year": 1999', "no valid JSON"),
        ('{"year": "1999"}', "$.year: '1999' is not of type 'integer'"),
        ('{"year": 1}', "less than the minimum"),
        ("[]", "is not of type 'object'"),
        ('{"year": NaN}', "no valid JSON"),
    ],
)
def test_a_wrong_answer_is_corrected_in_the_same_conversation(answer: str, problem: str) -> None:
    models = Answers(answer, '{"year": 1999}')
    assert make(generator(structured()), {}, models) == {"year": 1999}
    first, second = models.requests
    assert second.turns == (Turn("user", first.prompt), Turn("assistant", answer))
    assert problem in second.prompt
    assert second.options == first.options


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_the_rounds_are_bounded_and_the_failure_has_its_class(rounds: int) -> None:
    models = Answers("private words")
    with pytest.raises(ProviderError) as caught:
        make(generator(structured(correction_rounds=rounds)), {}, models)
    assert len(models.requests) == rounds + 1
    assert caught.value.failure == "invalid_structure"
    assert not caught.value.retryable
    assert "private" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        '{"year": 1999}',
        '  {"year": 1999}\n',
        'Here it is:\n```json\n{"year": 1999}\n```\nAnything else?',
        'Sure! {"year": 1999} is what I found.',
    ],
)
def test_json_is_found_in_what_models_write_around_it(text: str) -> None:
    assert read_json(text) == ({"year": 1999}, [])


def test_deeply_nested_answers_are_no_crash() -> None:
    value, problems = read_json("[" * 200_000)
    assert value is None
    assert problems


class Facts(BaseModel):
    year: int
    tags: list[str] = []


def test_a_model_of_pydantic_is_the_schema_and_the_check() -> None:
    models = Answers('{"year": "soon"}', '{"year": 1999}')
    made_by = generator(structured(schema="facts:Facts"), functions={"x": Facts})
    assert make(made_by, {}, models) == {"year": 1999, "tags": []}
    assert "$.year: Input should be a valid integer" in models.requests[1].prompt
    with pytest.raises(UserError, match=r'column "x", schema: this is no model of pydantic'):
        generator(structured(schema="facts:Facts"), functions={"x": len})


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "no valid JSON Schema at #/type"),
        ({"$ref": "http://host/schema"}, "leads to nothing"),
        ({"properties": {"a": {"$ref": "#/$defs/gone"}}}, "leads to nothing"),
        ("facts.Facts", "module:Class"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        workflow({"name": "x", **structured(schema=schema)})


def test_a_judge_gives_a_score_and_a_reason_for_each_question() -> None:
    models = Answers(json.dumps(GOOD))
    assert make(generator(judge()), {}, models) == GOOD
    schema = models.requests[0].options["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["clear", "tone"]
    assert schema["properties"]["clear"]["properties"]["score"]["enum"] == [1, 2]


def test_scores_in_other_words_are_the_options_that_they_name() -> None:
    answer = {
        "clear": {"reasoning": "why", "score": "2"},
        "tone": {"reasoning": "why", "score": " Kind"},
    }
    assert make(generator(judge()), {}, Answers(json.dumps(answer))) == GOOD


@pytest.mark.parametrize(
    "answer",
    [
        "It is clear and kind.",
        json.dumps({"clear": GOOD["clear"]}),
        json.dumps(GOOD | {"tone": {"reasoning": "why", "score": "neutral"}}),
        json.dumps(GOOD | {"clear": 2}),
        json.dumps(GOOD | {"more": 2}),
    ],
)
def test_a_judge_that_answers_otherwise_is_asked_again(answer: str) -> None:
    models = Answers(answer, json.dumps(GOOD))
    assert make(generator(judge()), {}, models) == GOOD
    assert len(models.requests) == 2


def test_two_scores_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match='two scores are named "clear"'):
        workflow({"name": "x", **judge(scores=[SCORES[0], SCORES[0]])})


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        {"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"enum": ["b", "c"]}}},
        {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "boolean"}},
        {"type": "number", "minimum": 0.2, "maximum": 0.3},
        {"type": "integer", "exclusiveMinimum": 4, "maximum": 6},
        {"type": "string", "minLength": 90, "maxLength": 95},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        {"type": ["string", "null"], "maxLength": 3},
        {"const": 4},
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}}},
        Facts.model_json_schema(),
    ],
)
def test_the_scripted_provider_answers_what_fits(schema: dict[str, Any]) -> None:
    shape = SchemaShape(schema)
    for prompt in map(str, range(30)):
        assert shape.problems(json.loads(scripted_json(schema, prompt))) == []
    assert scripted_json(schema, "a") == scripted_json(schema, "a")
