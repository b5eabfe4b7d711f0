"""Templates: Jinja2 in its sandbox, without anything random, undefined names refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta

from engine.workflow.template_limits import Allowance, LimitedEnvironment, TemplateLimitError

_environment = LimitedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)
# Both draw from the global random source, so that a run would not repeat.
del _environment.globals["lipsum"]
del _environment.filters["random"]


@lru_cache(maxsize=512)
def template_variables(source: str) -> set[str]:
    """Names that the template takes from outside. Raises `ValueError` for broken syntax, and for a
    template that takes nothing from outside and exceeds a limit."""
    try:
        parsed = _environment.parse(source)
        # Unknown filters and tests show only here.
        template = compile_template(source)
    except TemplateSyntaxError as error:
        raise ValueError(f"broken template, line {error.lineno}: {error.message}") from None
    names = meta.find_undeclared_variables(parsed) - set(_environment.globals)
    if not names:
        try:
            render_template(template, {})
        except TemplateLimitError as error:
            raise ValueError(f"the template {error}") from None
        except Exception:
            return names  # the task that renders it says what is wrong
    return names


def compile_template(source: str) -> Template:
    _environment.allowance = Allowance()
    return _environment.from_string(source)


def render_template(template: Template, values: Mapping[str, Any]) -> str:
    """Raises `TemplateLimitError`, or whatever the template itself comes to."""
    _environment.allowance = Allowance()
    return template.render(values)


def is_template_name(name: str) -> bool:
    """Whether a column of this name can be used in a template."""
    if name in _environment.globals:
        return False
    try:
        return template_variables("{{ " + name + " }}") == {name}
    except ValueError:
        return False
