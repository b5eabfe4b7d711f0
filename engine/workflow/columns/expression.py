"""`ExpressionColumn`: a value computed from other columns of the row."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from engine.errors import PermanentTaskError
from engine.workflow.columns.base import BaseColumn, BuildContext, checked_templates
from engine.workflow.columns.generator import CellContext, ColumnGenerator
from engine.workflow.columns.rendering import ColumnTemplate
from engine.workflow.templates import can_be_empty

ValueType = Literal["text", "integer", "number", "boolean", "json"]


class ExpressionColumn(BaseColumn):
    """Text rendered from other columns with a Jinja2 template. The template runs in a sandbox, for
    at most a second, and makes at most 2,500,000 characters."""

    type: Literal["expression"] = "expression"
    """A value computed from the row."""
    template: str
    """A Jinja2 template over the other columns."""
    value_type: ValueType = "text"
    """What the rendered text is read as; a row whose text is no such value fails."""

    example: ClassVar[str] = "{ name: title, type: expression, template: 'On {{ topic }}' }"

    _check = field_validator("template")(checked_templates)

    def templates(self) -> dict[str, str]:
        return {"template": self.template}

    def may_be_empty(self, empty_values: frozenset[str]) -> bool:
        return super().may_be_empty(empty_values) or can_be_empty(self.template, empty_values)

    def must_not_be_empty(self) -> dict[str, str]:
        return {} if self.value_type == "text" else {"template": self.template}

    def generator(self, build: BuildContext) -> ColumnGenerator:
        return ExpressionGenerator(self)


class ExpressionGenerator(ColumnGenerator):
    """Renders the template and reads the text as the column's type. Calls no model."""

    def __init__(self, column: ExpressionColumn) -> None:
        super().__init__(column.name)
        self._template = ColumnTemplate(column.name, column.template)
        self._value_type = column.value_type

    async def generate(self, context: CellContext) -> Any:
        text = self._template.render(context.values)
        if self._value_type == "text":
            return text
        try:
            return _read(text.strip(), self._value_type)
        except (ValueError, RecursionError):
            raise PermanentTaskError(
                "WrongValue",
                f'the template of column "{self.column}" gives no {self._value_type} for this row',
            ) from None


def _read(text: str, value_type: ValueType) -> Any:
    if value_type == "integer":
        return int(text)
    if value_type == "number":
        return float(text)
    if value_type == "json":
        return json.loads(text)
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]
