"""A template ends within its limits of steps, time and size, whatever it asks for."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from engine.errors import PermanentTaskError
from engine.workflow.columns.rendering import ColumnTemplate
from engine.workflow.template_limits import TemplateLimitError
from engine.workflow.templates import compile_template, render_template, template_variables

DOUBLING = "{% set ns = namespace(x=VALUE) %}{% for i in range(200) %}STEP{% endfor %}{{ ns.x }}"


def doubling(value: str, step: str) -> str:
    return DOUBLING.replace("VALUE", value).replace("STEP", step)


ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% set b = range(99999) | sum %}{% endfor %}",
    "{% for a in range(99999) %}{% set b = range(99999) | list %}{% endfor %}",
    "{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(60) }}",
    "{% macro f(n) %}{% if n %}{% call f(n - 1) %}{% endcall %}{{ f(n - 1) }}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "{% for a in [[[1]]] recursive %}{% for b in range(9999) %}{{ loop(a) }}{% endfor %}"
    "{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ 10**10 * 'x' }}",
    "{{ [1] * 10**10 }}",
    "{{ (range(99999) | list) * 100000 }}",
    "{{ 10**(10**10) }}",
    "{{ 10**(10**5) * 10**(10**5) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'x'.center(10**9) }}",
    "{{ 'x'.ljust(width) }}{% set width = 1 %}{{ 'x'.zfill(10**9) }}",
    "{{ 'x'.rjust(10**9) }}",
    "{{ ('\t' * 9999).expandtabs(999999) }}",
    "{{ ('a\n' * 99999) | indent(99999) }}",
    "{{ ('a\n' * 99999) | indent('x' * 99999) }}",
    "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "{{ range(99999) | join('x' * 99999) }}",
    "{{ range(99999) | map('string') | join('x' * 99999) }}",
    "{{ ('x' * 99999).join('y' * 99999) }}",
    "{{ ('x' * 99999).join(range(99999) | map('string')) }}",
    "{{ 'x'.translate({120: 'y' * 999999}) }}{{ ('x' * 99999).translate({120: 'y' * 99999}) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=10**9) }}",
    "{{ ('%(x)s' * 99999) % {'x': 'y' * 99999} }}",
    "{{ ('%s' * 9999) % (('y' * 999999,) * 9999) }}",
    "{{ ('{0}' * 99999).format('y' * 99999) }}",
    "{{ ['y' * 999999] * 99999 }}",
    "{{ (5).to_bytes(10**9, 'big') }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ [] | slice(10**9) | list }}",
    "{{ 1 | round(10**7, 'ceil') }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ ('<!-- -->' * 400000) | striptags }}",
    "{{ range(99999) | map('list') | list }}{{ ([[1]] * 99999) | sum(start=[]) }}",
    doubling("'x'", "{% set ns.x = ns.x ~ ns.x %}"),
    doubling("'x'", "{% set ns.x = ns.x + ns.x %}"),
    doubling("[1]", "{% set ns.x = ns.x + ns.x %}"),
    doubling("[1]", "{% set ns.x = [ns.x, ns.x] %}"),
    doubling("[1]", "{% set ns.x = (ns.x, ns.x) %}"),
    doubling("[1]", "{% set ns.x = {1: ns.x, 2: ns.x} %}"),
    doubling("[1]", "{% set ns.x = dict(a=ns.x, b=ns.x) %}"),
    doubling("[1]", "{% set ns.x = namespace(a=ns.x, b=ns.x) %}"),
    doubling("'x'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
    doubling("'x'", "{% set ns.x = '%s%s' % (ns.x, ns.x) %}"),
    doubling("'x'", "{% set ns.x = '{0}{0}'.format(ns.x) %}"),
    doubling("'x'", "{% set ns.x = [ns.x, ns.x] | join %}"),
    doubling("2", "{% set ns.x = ns.x * ns.x %}"),
]


@pytest.mark.parametrize("source", ENDLESS)
def test_it_ends(source: str) -> None:
    template = compile_template(source)
    began, peak = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # A limit, or an error of the template's own; never an endless computation.
    with pytest.raises(Exception):  # noqa: B017, PT011
        render_template(template, {})
    assert time.thread_time() - began < 6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000


@pytest.mark.parametrize("source", [ENDLESS[0], "{{ 10**(10**10) }}", "{{ 'x' | center(10**9) }}"])
def test_what_needs_no_row_is_refused_when_it_is_loaded(source: str) -> None:
    with pytest.raises(ValueError, match=r"^the template (takes|makes) .*more than "):
        template_variables(source)


def test_what_depends_on_the_row_fails_its_task_for_good() -> None:
    template = ColumnTemplate("c", "{{ 'x' * n }}")
    assert template.render({"n": 3}) == "xxx"
    with pytest.raises(PermanentTaskError) as caught:
        template.render({"n": 10**10})
    assert caught.value.error_type == "TemplateLimit"
    assert caught.value.message == (
        'the template of column "c" makes a text of more than 2,500,000 characters'
    )


def test_each_rendering_has_an_allowance_of_its_own() -> None:
    template = compile_template(
        "{% for a in range(n) %}{% for b in range(999) %}{% endfor %}{% endfor %}"
    )
    for _ in range(3):
        assert render_template(template, {"n": 200}) == ""
    with pytest.raises(TemplateLimitError, match="500,000 steps"):
        render_template(template, {"n": 900})
    assert render_template(template, {"n": 1}) == ""


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("{% for a in xs %}{{ loop.index }}/{{ loop.length }}{{ a }} {% endfor %}", "1/2a 2/2b "),
        ("{% for a in xs if a != 'a' %}{{ a }}{% else %}none{% endfor %}", "b"),
        ("{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "k=1"),
        ("{{ xs | join(', ') }} {{ ', '.join(xs) }}", "a, b a, b"),
        (
            "{{ 2 ** 10 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 1.5 * 2 }} {{ 'ab' * 2 }}",
            "1024 3 3 3.0 abab",
        ),
        ("{{ '%05d|%s' % (42, 'x') }} {{ '{:>6}'.format('x') }}", "00042|x      x"),
        (
            "{{ 'a' ~ 1 ~ none }} {{ [1, 'b'] }} {{ (1,) }} {{ {'a': [1]} }}",
            "a1None [1, 'b'] (1,) {'a': [1]}",
        ),
        ("{{ 'a b' | replace('a', 'c') | center(7) | upper }}", "  C B  "),
        (
            "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) }}{% set y %}s{% endset %}{{ y }}",
            "<1>s",
        ),
        ("{{ xs | tojson(indent=2) | length }} {{ 2.345 | round(1) }}", "16 2.3"),
        (
            "{{ [1, 2, 3] | sum }} {{ [3, 1] | sort | first }} {{ xs | batch(2) | list }}",
            "6 1 [['a', 'b']]",
        ),
        ("{{ 'x\ny' | indent(2) }}", "x\n  y"),
    ],
)
def test_what_templates_are_for_is_as_before(source: str, rendered: str) -> None:
    values: dict[str, Any] = {"xs": ["a", "b"], "d": {"k": 1}}
    assert render_template(compile_template(source), values) == rendered
