"""Templates reach nothing but the row, wherever a column takes one."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import PermanentTaskError
from tests.engine.workflow.columns.cells import Answers, generator, make

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ topic.__class__.__init__.__globals__ }}",
    "{{ topic|attr('__class__') }}",
    "{{ (topic|map(attribute='__class__')|list)[0].__name__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ dict.__base__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(topic) }}",
    "{{ '{x.__class__}'.format_map({'x': topic}) }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as stolen %}{{ stolen }}",
    "{% extends '/etc/passwd' %}",
    "{% set f = topic.upper.__func__ %}{{ f }}",
    "{{ (topic.upper).__self__.__class__ }}",
    "{% macro m() %}{{ caller.__class__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{{ topic.encode().__class__.__base__ }}",
    "{{ [].append.__self__.__class__ }}",
    "{{ ().__class__.__bases__[0].__subclasses__()[0] }}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{{ items.append(1) }}",
    "{{ items.__setitem__(0, 1) }}",
]
COLUMNS: list[dict[str, Any]] = [
    {"type": "expression", "template": "TEMPLATE"},
    {"type": "llm_text", "model": "writer", "prompt": "TEMPLATE"},
    {"type": "llm_text", "model": "writer", "prompt": "Hi", "images": ["TEMPLATE"]},
]


@pytest.mark.parametrize("template", ESCAPES)
@pytest.mark.parametrize("column", COLUMNS, ids=["expression", "prompt", "image"])
def test_no_template_leaves_its_sandbox(column: dict[str, Any], template: str) -> None:
    field = next(name for name, value in column.items() if "TEMPLATE" in value)
    source = [template] if field == "images" else template
    models = Answers("answered")
    row = {"topic": "tides", "items": [0]}
    with pytest.raises((PermanentTaskError, ValidationError)):
        make(generator(column | {field: source}, "topic", "items"), row, models)
    assert models.requests == []
    assert row["items"] == [0]


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(9**9) %}{% for j in range(9**9) %}{{ i }}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**9 }}",
        "{{ topic.ljust(10**9) }}",
        "{% set ns = namespace(t='x' * 1000) %}{% for i in range(99) %}"
        "{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}",
        "{{ 9**(9**9) }}",
        "{{ range(10**8)|list|length }}",
        "{{ ('x' * 10**5)|wordwrap(1)|wordwrap(1) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_no_template_takes_more_than_its_share(template: str) -> None:
    began = time.process_time()
    column = {"type": "expression", "template": template + "{{ topic }}"}
    with pytest.raises((PermanentTaskError, ValidationError)):
        make(generator(column, "topic"), {"topic": "tides"})
    assert time.process_time() - began < 2.0
