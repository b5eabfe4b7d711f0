"""Renders a column's template over a row, telling failures apart without repeating row values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import UndefinedError

from engine.errors import PermanentTaskError
from engine.workflow.template_limits import TemplateLimitError
from engine.workflow.templates import compile_template, render_template

_MISSING = re.compile(r"'(\w{1,100})' is undefined|has no (?:attribute|element) '?(\w{1,100})'?")


class ColumnTemplate:
    """A template of a column, compiled."""

    def __init__(self, column: str, source: str) -> None:
        self._column = column
        self._template = compile_template(source)
        self._words = frozenset(re.findall(r"\w+", source))

    def render(self, values: Mapping[str, Any]) -> str:
        """Raises `PermanentTaskError`: the same row would fail again."""
        try:
            return render_template(self._template, values)
        except TemplateLimitError as error:
            raise PermanentTaskError(
                "TemplateLimit", f'the template of column "{self._column}" {error}'
            ) from None
        except UndefinedError as error:
            raise PermanentTaskError(
                "UndefinedError",
                f'the template of column "{self._column}" failed on this row{self._field(error)}',
            ) from None
        except Exception as error:
            raise PermanentTaskError(
                type(error).__name__, f'the template of column "{self._column}" failed on this row'
            ) from None

    def _field(self, error: UndefinedError) -> str:
        """The field that is missing, if it is a word of the template and no value of the row."""
        match = _MISSING.search(str(error))
        name = (match[1] or match[2]) if match is not None else None
        return f', which has no "{name}"' if name in self._words else ""


class ColumnCondition:
    """An expression of Jinja2 over a row, such as `score < 3`."""

    def __init__(self, column: str, source: str) -> None:
        self._template = ColumnTemplate(column, condition_template(source))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Raises `PermanentTaskError`: the same row would fail again."""
        return bool(self._template.render(values))


def condition_template(source: str) -> str:
    """A template that renders to "1" where the expression is true, else to nothing."""
    expression = source.strip()
    if expression.startswith("{{") and expression.endswith("}}") and expression.count("{{") == 1:
        expression = expression[2:-2]
    return "{% if (" + expression + ") %}1{% endif %}"
