"""Renders a column's template over a row, telling failures apart without repeating row values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Template

from engine.errors import PermanentTaskError
from engine.workflow.template_limits import TemplateLimitError
from engine.workflow.templates import render_template


def render(template: Template, column: str, values: Mapping[str, Any]) -> str:
    """Raises `PermanentTaskError`: the same row would fail again."""
    try:
        return render_template(template, values)
    except TemplateLimitError as error:
        raise PermanentTaskError(
            "TemplateLimit", f'the template of column "{column}" {error}'
        ) from None
    except Exception as error:
        raise PermanentTaskError(
            type(error).__name__, f'the template of column "{column}" failed on this row'
        ) from None
