from __future__ import annotations

from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from engine.models.settings import OpenAIProvider
from engine.workflow.schema import COLUMN_TYPES, Column, Workflow

COLUMN: TypeAdapter[Column] = TypeAdapter(Column)


def test_the_column_types_are_those_of_the_modules() -> None:
    assert list(COLUMN_TYPES) == [
        "custom",
        "embedding",
        "expression",
        "llm_judge",
        "llm_structured",
        "llm_text",
        "sampler",
        "seed",
        "validation",
    ]


@pytest.mark.parametrize("name", COLUMN_TYPES)
def test_the_example_of_a_column_type_is_one(name: str) -> None:
    column = COLUMN.validate_python(yaml.safe_load(COLUMN_TYPES[name].example))
    assert column.type == name
    assert type(column) is COLUMN_TYPES[name]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [] if annotation is BaseModel else [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def test_every_field_that_a_workflow_may_set_is_described() -> None:
    rest: list[type[BaseModel]] = [Workflow, OpenAIProvider, *COLUMN_TYPES.values()]
    seen: set[type[BaseModel]] = set()
    undescribed = []
    while rest:
        model = rest.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            rest += models_in(field.annotation)
            if not field.description:
                undescribed.append(f"{model.__name__}.{name}")
    assert len(seen) > 15
    assert undescribed == []
