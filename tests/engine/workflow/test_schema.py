from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from engine.identity import ProviderModelKey
from engine.workflow.columns.endpoint import endpoints_of
from engine.workflow.demo import demo_workflow
from engine.workflow.endpoints import resource_resolver
from engine.workflow.mistakes import first_mistake
from engine.workflow.schema import (
    Column,
    CustomColumn,
    ExpressionColumn,
    LlmTextColumn,
    Model,
    OpenAIProvider,
    Provider,
    SamplerColumn,
    ScriptedProvider,
    Workflow,
)

COLUMN: TypeAdapter[Column] = TypeAdapter(Column)
PROVIDER: TypeAdapter[Provider] = TypeAdapter(Provider)


def test_dependencies_come_from_templates_and_from_depends_on() -> None:
    column = LlmTextColumn(
        name="answer",
        model="writer",
        prompt="{% for word in words %}{{ word }}{% endfor %} {{ range(3)|list }}",
        system="{{ tone }}",
        depends_on=["topic"],
    )
    assert column.dependencies() == ("tone", "topic", "words")


@pytest.mark.parametrize(
    "source",
    [
        {"values": ["a", "b"], "weights": [1, 3]},
        {"categories": {"a": 1, "b": 0}},
        {"integers": {"low": 1, "high": 1}},
        {"uuid": True},
    ],
)
def test_a_sampler_has_one_source(source: dict[str, Any]) -> None:
    assert COLUMN.validate_python({"name": "x", "type": "sampler", **source})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({}, "exactly one"),
        ({"values": ["a"], "uuid": True}, "exactly one"),
        ({"values": []}, "at least 1"),
        ({"values": ["a", "b"], "weights": [1]}, "1 weights for 2 values"),
        ({"uuid": True, "weights": [1]}, "weights go with values"),
        ({"values": ["a"], "weights": [0]}, "above 0"),
        ({"values": ["a", "b"], "weights": [-1, 2]}, "0 or more"),
        ({"categories": {"a": float("nan")}}, "finite number"),
        ({"integers": {"low": 2, "high": 1}}, "high must not be below low"),
    ],
)
def test_a_sampler_that_makes_no_sense_is_refused(source: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        COLUMN.validate_python({"name": "x", "type": "sampler", **source})


@pytest.mark.parametrize(
    "template",
    ["{{ unclosed", "{% for %}", "{{ topic | no_such_filter }}", "{{ topics | random }}"],
)
def test_broken_templates_are_refused(template: str) -> None:
    with pytest.raises(ValidationError, match="broken template, line 1"):
        ExpressionColumn(name="x", template=template)


@pytest.mark.parametrize("name", ["two words", "1st", "not", "range", "", "naïve"])
def test_a_column_name_must_work_in_a_template(name: str) -> None:
    with pytest.raises(ValidationError):
        Workflow(name="w", records=1, columns=[SamplerColumn(name=name, uuid=True)])


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "localhost:8000",
        "http://",
        "http://[broken/v1",
        "http://host:port/v1",
        "http://user:secret@host/v1",
        "http://host/v1?key=secret",
    ],
)
def test_a_base_url_is_plain_http_and_carries_no_secret(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        OpenAIProvider(base_url=url)


def test_providers_are_told_apart_by_type() -> None:
    openai = PROVIDER.validate_python({"type": "openai", "base_url": "http://host/v1/"})
    assert isinstance(openai, OpenAIProvider)
    assert openai.base_url == "http://host/v1"
    scripted = PROVIDER.validate_python(
        {"type": "scripted", "rate_limits": [{"from": 2, "to": 4, "retry_after": 1}]}
    )
    assert isinstance(scripted, ScriptedProvider)
    assert (scripted.rate_limits[0].start, scripted.rate_limits[0].end) == (2, 4)


def test_a_function_reference_has_two_parts() -> None:
    assert CustomColumn(name="x", function="package.module:function")
    assert CustomColumn(name="x", function=lambda row: row)
    for wrong in ("module", "module:", ":function", "mod/ule:function", "module:a.b"):
        with pytest.raises(ValidationError, match="module:function"):
            CustomColumn(name="x", function=wrong)


def workflow(**changes: Any) -> Workflow:
    parts: dict[str, Any] = {
        "name": "w",
        "records": 3,
        "providers": {"p": {"type": "scripted"}},
        "models": {"writer": {"provider": "p", "model": "m"}},
        "columns": [{"name": "topic", "type": "sampler", "values": ["a"]}],
    }
    return Workflow.model_validate(parts | changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"models": {"writer": {"provider": "q", "model": "m"}}},
            'model "writer" names the unknown provider "q"; known providers: p',
        ),
        (
            {"columns": [{"name": "x", "type": "llm_text", "model": "poet", "prompt": "Hi"}]},
            'column "x" names the unknown model "poet"; known models: writer',
        ),
        (
            {"columns": [{"name": "x", "type": "custom", "function": "m:f", "models": ["poet"]}]},
            'unknown model "poet"',
        ),
        (
            {"columns": [{"name": "x", "type": "expression", "template": "{{ y }}"}]},
            'column "x" uses the unknown column "y"; known columns: x',
        ),
        (
            {
                "columns": [
                    {"name": "x", "type": "expression", "template": "{{ y }}"},
                    {"name": "y", "type": "expression", "template": "{{ x }}"},
                ]
            },
            "the columns form a cycle: (x → y → x|y → x → y)",
        ),
        (
            {"columns": [{"name": "x", "type": "sampler", "uuid": True}] * 2},
            'two columns are named "x"',
        ),
        ({"records": 0}, "greater than or equal to 1"),
        ({"columns": []}, "at least 1"),
    ],
)
def test_names_must_resolve(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        workflow(**changes)


def test_a_model_s_time_out_stands_over_its_provider_s() -> None:
    made = workflow(
        providers={"p": {"type": "scripted", "timeout_seconds": 30}},
        models={
            "plain": {"provider": "p", "model": "m"},
            "quick": {"provider": "p", "model": "m", "timeout_seconds": 2},
        },
    )
    endpoints = endpoints_of(made.models, made.providers)
    assert endpoints["plain"].timeout_seconds == 30
    assert endpoints["quick"].timeout_seconds == 2


def test_the_smallest_cap_of_an_endpoint_counts_whatever_the_order() -> None:
    models = {
        "b": Model(provider="p", model="m", max_parallel_requests=4),
        "a": Model(provider="p", model="m", max_parallel_requests=9),
        "c": Model(provider="p", model="other", max_parallel_requests=2),
    }
    resources = resource_resolver(models)
    caps = resources.static_caps
    assert caps == resource_resolver(dict(reversed(models.items()))).static_caps
    merged = caps[ProviderModelKey("p", "m")]
    assert merged.cap == 4
    assert merged.aliases == ("a", "b")
    assert merged.raw_caps == {"a": 9, "b": 4}
    assert caps[ProviderModelKey("p", "other")].cap == 2
    assert resources.resolve("a", "chat").label == "p/m/chat"
    assert resources.resolve("a", "chat") == resources.resolve("b", "chat")
    assert resources.resolve("b", "healthcheck").provider_model == ProviderModelKey("p", "m")
    assert (resources.cap("a"), resources.cap("c")) == (4, 2)
    with pytest.raises(KeyError):
        resources.resolve("nobody", "chat")


def test_the_demo_has_independent_work_for_its_healthy_provider() -> None:
    demo = demo_workflow()
    models = [c for c in demo.columns if isinstance(c, LlmTextColumn)]
    assert len(models) >= 5
    by_provider: dict[str, set[str]] = {}
    for column in models:
        by_provider.setdefault(demo.models[column.model].provider, set()).add(column.name)
    assert set(by_provider) == {"alpha", "beta"}
    for column in models:
        if column.name in by_provider["alpha"]:
            assert not set(demo.graph.depends_on[column.name]) & by_provider["beta"]


@pytest.mark.parametrize(
    ("field", "model"),
    [("columns", model) for model in get_args(get_args(Column)[0])]
    + [("providers", model) for model in get_args(get_args(Provider)[0])],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_misspelt_key_of_each_type_is_recognised(field: str, model: type[BaseModel]) -> None:
    name, described = list(model.model_fields.items())[-1]
    key = described.alias or name
    part = {"type": model.model_fields["type"].default, f"{key}s": 1}
    parts = [{**part, "name": "c"}] if field == "columns" else {"p": part}
    raw = {"name": "w", "records": 1, field: parts}
    with pytest.raises(ValidationError) as caught:
        Workflow.model_validate(raw)
    assert f'unknown key "{key}s"; did you mean "{key}"?' in first_mistake(caught.value, raw)
