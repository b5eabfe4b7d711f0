"""The column types: every `BaseColumn` with a `type` of its own in a module of this package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

import engine.workflow.columns as package
from engine.workflow.columns.base import BaseColumn


def _column_types() -> dict[str, type[BaseColumn]]:
    types = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        if module_info.name == "registry":
            continue
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseColumn):
                default = value.model_fields["type"].default
                if isinstance(default, str):
                    types[default] = value
    return dict(sorted(types.items()))


COLUMN_TYPES: Mapping[str, type[BaseColumn]] = _column_types()
"""By `type`."""

if TYPE_CHECKING:
    Column = BaseColumn
else:
    Column = Annotated[Union[tuple(COLUMN_TYPES.values())], Field(discriminator="type")]  # noqa: UP007
