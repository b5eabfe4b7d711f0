"""Answers that must be JSON of a given shape: how they are asked for, read, checked and corrected.

A correction is a request of its own, in the same conversation: it passes admission, has its own
events, and names what is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

from pydantic import Field

from engine.events.failures import error_type_of
from engine.models.client import ModelRequest, ProviderError
from engine.models.scripted_answers import scripted_json
from engine.workflow.columns.conversation import Conversation, ModelColumn, ModelGenerator
from engine.workflow.columns.generator import CellContext

NativeFormat = Literal["auto", "json_schema", "json_object", "off"]
_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\n(.*?)```", re.DOTALL)
_MOST_PROBLEMS = 5
_MOST_PROBLEM_CHARACTERS = 300


class StructuredColumn(ModelColumn):
    """What columns share whose answer is JSON."""

    correction_rounds: int = Field(2, ge=0, le=10)
    """How often a model is told what is wrong with its answer, before the row fails. Each round is
    a request."""
    native: NativeFormat = "auto"
    """How the endpoint itself is asked for JSON, with `response_format`: by schema, as any JSON, or
    not at all. `auto` asks by schema, and leaves it out for a model that does not take it. The
    answer is checked in any case."""

    def calls_per_row(self) -> tuple[int, int]:
        return 1, 1 + self.correction_rounds


class Shape(Protocol):
    """What an answer must look like."""

    @property
    def schema(self) -> Mapping[str, Any]: ...

    def problems(self, value: Any) -> list[str]:
        """What is wrong with a value, for the model that gave it."""

    def value(self, answer: Any) -> Any:
        """The value of the cell, of an answer without problems."""


class SchemaShape:
    """JSON that fits a JSON Schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises `ValueError` for what is no JSON Schema."""
        import jsonschema
        import referencing

        self.schema = schema
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        try:
            kind.check_schema(dict(schema))
        except jsonschema.SchemaError as error:
            where = "".join(f"/{step}" for step in error.absolute_path)
            raise ValueError(f"no valid JSON Schema at #{where}") from None
        for reference in _references(schema):
            if not _resolves(reference, schema):
                raise ValueError(
                    f'"$ref": "{reference}" leads to nothing: it must point to a part of the '
                    'schema itself, such as "#/$defs/Name"'
                )
        # An empty registry: references never lead to the network.
        self._validator = kind(schema, registry=referencing.Registry())

    def problems(self, value: Any) -> list[str]:
        try:
            errors = sorted(self._validator.iter_errors(value), key=lambda error: error.json_path)
        except RecursionError:
            return ["it is nested too deeply"]
        return [
            f"{error.json_path}: {error.message}"[:_MOST_PROBLEM_CHARACTERS]
            for error in errors[:_MOST_PROBLEMS]
        ]

    def value(self, answer: Any) -> Any:
        return answer


class StructuredGenerator(ModelGenerator):
    """Asks for JSON of a shape, and has it corrected as often as the column allows."""

    def __init__(self, column: StructuredColumn, conversation: Conversation, shape: Shape) -> None:
        super().__init__(column.name, conversation.endpoint)
        self._conversation = conversation
        self._shape = shape
        self._rounds = column.correction_rounds
        self._format = response_format(column.native, column.name, shape.schema)
        self._instruction = instruction(shape.schema)

    def rendered(self, values: Mapping[str, Any]) -> ModelRequest:
        return wanting(self._conversation.rendered(values, self._instruction), self._format)

    def placeholder(self) -> Any:
        return json.loads(scripted_json(self._shape.schema, self.column))

    async def generate(self, context: CellContext) -> Any:
        request = wanting(self._conversation.request(context, self._instruction), self._format)
        for rest in range(self._rounds, -1, -1):
            response = await context.models.call(request)
            answer, problems = read_json(response.text)
            if not problems:
                problems = self._shape.problems(answer)
            if not problems:
                return self._shape.value(answer)
            if rest:
                request = request.followed_by(response.text, correction(problems))
        times = f"{self._rounds + 1} times" if self._rounds else "once"
        raise ProviderError(
            "invalid_structure",
            error_type_of("invalid_structure"),
            f'column "{self.column}" asked {times} for JSON, and no answer fits its schema',
        )


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _resolves(reference: str, schema: Any) -> bool:
    """Whether a reference such as `#/$defs/Name` leads to a part of the schema."""
    if reference != "#" and not reference.startswith("#/"):
        return False
    for step in reference.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(schema, Mapping) or key not in schema:
            return False
        schema = schema[key]
    return True


def instruction(schema: Mapping[str, Any]) -> str:
    """What is added to a prompt, so that the model knows the schema whatever the endpoint does."""
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return (
        "\n\nAnswer with JSON alone, without a word before or after it, that fits this JSON "
        f"Schema:\n{text}"
    )


def correction(problems: list[str]) -> str:
    """The message that asks for the answer again, naming what is wrong with it."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"That answer can't be used:\n{listed}\nAnswer again with the whole corrected JSON alone."
    )


def response_format(
    native: NativeFormat, name: str, schema: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What the endpoint is asked for; None for nothing."""
    if native == "off":
        return None
    if native == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": name[:64], "schema": dict(schema)}}


def wanting(request: ModelRequest, wanted: dict[str, Any] | None) -> ModelRequest:
    """The request with a `response_format`, which it can do without."""
    if wanted is None:
        return request
    return replace(
        request,
        options={**request.options, "response_format": wanted},
        dispensable=frozenset({"response_format"}),
    )


def read_json(text: str) -> tuple[Any, list[str]]:
    """The JSON in an answer and what is wrong with it: the whole text, the first fenced block, or
    the first object or list in it."""
    fenced = _FENCE.search(text)
    for candidate in (text, fenced[1] if fenced is not None else None):
        if candidate is not None and candidate.strip():
            try:
                return json.loads(candidate, parse_constant=_no_constant), []
            except (ValueError, RecursionError):
                pass
    start = min((p for p in (text.find("{"), text.find("[")) if p >= 0), default=-1)
    if start < 0:
        return None, ["there is no JSON in it"]
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text, start)
    except json.JSONDecodeError as error:
        return None, [f"it is no valid JSON: {error.msg} at character {error.pos}"]
    except (ValueError, RecursionError):
        return None, ["it is no valid JSON"]
    return value, []


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
