"""Templates: Jinja2 in its sandbox, without anything random, undefined names refused."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)
# Both draw from the global random source, so that a run would not repeat.
del _environment.globals["lipsum"]
del _environment.filters["random"]


@lru_cache(maxsize=512)
def template_variables(source: str) -> set[str]:
    """Names that the template takes from outside. Raises `ValueError` for broken syntax."""
    try:
        parsed = _environment.parse(source)
        # Unknown filters and tests show only here.
        _environment.from_string(source)
    except TemplateSyntaxError as error:
        raise ValueError(f"broken template, line {error.lineno}: {error.message}") from None
    return meta.find_undeclared_variables(parsed) - set(_environment.globals)


def compile_template(source: str) -> Template:
    return _environment.from_string(source)


def is_template_name(name: str) -> bool:
    """Whether a column of this name can be used in a template."""
    if name in _environment.globals:
        return False
    try:
        return template_variables("{{ " + name + " }}") == {name}
    except ValueError:
        return False
