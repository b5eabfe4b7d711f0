"""`LlmStructuredColumn`: a model's answer as JSON that fits a schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from engine.errors import UserError
from engine.workflow.columns.base import BuildContext
from engine.workflow.columns.generator import ColumnGenerator
from engine.workflow.columns.structured import (
    SchemaShape,
    Shape,
    StructuredColumn,
    StructuredGenerator,
)

ModelClass = type[BaseModel]
_REFERENCE = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")


class LlmStructuredColumn(StructuredColumn):
    """A model's answer as JSON that fits a schema. Templates of other columns use its fields as
    `{{ column.field }}`."""

    type: Literal["llm_structured"] = "llm_structured"
    """JSON that a model writes."""
    output_schema: dict[str, Any] | str | ModelClass = Field(alias="schema")
    """A JSON Schema; or a model of pydantic, written as `module:Class`, which is looked up beside
    the workflow file. A model is also what the answer is checked with."""

    example: ClassVar[str] = (
        "{ name: facts, type: llm_structured, model: writer, prompt: 'Facts on {{ topic }}', "
        "schema: { type: object, required: [year], properties: { year: { type: integer } } } }"
    )

    @field_validator("output_schema")
    @classmethod
    def _is_schema(cls, value: Any) -> Any:
        if isinstance(value, str) and not _REFERENCE.match(value):
            raise ValueError('schema must be a JSON Schema, or be written as "module:Class"')
        if isinstance(value, dict):
            SchemaShape(value)
        return value

    def reference(self) -> str | Callable[..., Any] | None:
        return None if isinstance(self.output_schema, dict) else self.output_schema

    def generator(self, build: BuildContext) -> ColumnGenerator:
        return StructuredGenerator(self, self.conversation(build), self.shape(build.functions))

    def shape(self, references: Mapping[str, Callable[..., Any]]) -> Shape:
        if isinstance(self.output_schema, dict):
            return SchemaShape(self.output_schema)
        model = references[self.name]
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise UserError(f'column "{self.name}", schema: this is no model of pydantic')
        return ModelShape(model)


class ModelShape:
    """JSON of which a model of pydantic can be made."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self.schema: Mapping[str, Any] = model.model_json_schema()

    def problems(self, value: Any) -> list[str]:
        try:
            self._model.model_validate(value)
        except ValidationError as error:
            return [
                f"$.{'.'.join(map(str, details['loc']))}: {details['msg']}"
                for details in error.errors(include_url=False)[:5]
            ]
        return []

    def value(self, answer: Any) -> Any:
        return self._model.model_validate(answer).model_dump(mode="json")
