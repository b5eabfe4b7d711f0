"""Templates: Jinja2 in its sandbox, without anything random, undefined names refused."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta, nodes

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
    """The template of `source`. Raises Jinja's `TemplateSyntaxError` for what is none."""
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


def can_be_empty(source: str, empty_values: frozenset[str]) -> bool:
    """Whether a template may render to nothing but spaces.

    Args:
        source: The template.
        empty_values: Names of values that may be empty themselves; others are taken not to be.
    """
    return all(_can_be_empty(node, empty_values) for node in _environment.parse(source).body)


def _can_be_empty(node: nodes.Node, empty_values: frozenset[str]) -> bool:
    if isinstance(node, nodes.TemplateData):
        return not node.data.strip()
    if isinstance(node, nodes.Output):
        return all(_can_be_empty(part, empty_values) for part in node.nodes)
    if isinstance(node, nodes.If):
        branches = [node.body, *(other.body for other in node.elif_), node.else_]
        return any(all(_can_be_empty(n, empty_values) for n in branch) for branch in branches)
    if isinstance(node, nodes.For):
        return all(_can_be_empty(n, empty_values) for n in node.else_)
    if isinstance(node, nodes.Const):
        return not str(node.value).strip()
    if isinstance(node, nodes.Expr):
        if any(str(constant.value).strip() for constant in node.find_all(nodes.Const)):
            return False
        names = {name.name for name in node.find_all(nodes.Name)}
        if isinstance(node, nodes.Name):
            names.add(node.name)
        return bool(names) and names <= empty_values
    return not isinstance(node, nodes.FilterBlock | nodes.CallBlock)
