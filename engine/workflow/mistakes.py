"""Errors of pydantic as one sentence for people, which never repeats a value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.models.settings import Model, OpenAIProvider, ScriptedProvider
from engine.workflow.columns.registry import COLUMN_TYPES
from engine.workflow.schema.run_settings import RunSettings
from engine.workflow.schema.workflow import Workflow

_NAMES_ITS_KEY = {"extra_forbidden", "missing"}
_INNER_STEP = re.compile(r"str|int|callable|\[key\]|[a-z-]+\[.*\]")
"""Steps of a location that are pydantic's own: branches of unions, keys of mappings."""

_MODELS: dict[str, type[BaseModel]] = {
    **COLUMN_TYPES,
    "openai": OpenAIProvider,
    "scripted": ScriptedProvider,
}


def first_mistake(error: ValidationError, raw: Any) -> str:
    """The first mistake and where it is; `raw` is what was validated, for names of columns."""
    details_list = error.errors(include_url=False)
    # A misspelt key is also reported as a missing one; the former says more.
    first = min(details_list, key=lambda details: details["type"] != "extra_forbidden")
    location = first["loc"]
    branches = [first, *_other_branches(first, details_list)]
    sentence = ", or ".join(dict.fromkeys(map(_sentence, branches)))
    where = _location(location[:-1] if first["type"] in _NAMES_ITS_KEY else location, raw)
    rest = len(details_list) - len(branches)
    more = f" (and {rest} more)" if rest else ""
    return f"{where}: {sentence}{more}" if where else f"{sentence}{more}"


def _other_branches(first: ErrorDetails, details_list: list[ErrorDetails]) -> list[ErrorDetails]:
    """What the other branches of a union say of the same value."""
    *path, last = first["loc"] or ("",)
    if not _INNER_STEP.fullmatch(str(last)) or first["type"] in _NAMES_ITS_KEY:
        return []
    depth = len(path)
    return [
        details
        for details in details_list
        if details is not first
        and list(details["loc"][:depth]) == path
        and len(details["loc"]) == depth + 1
        and _INNER_STEP.fullmatch(str(details["loc"][-1]))
    ]


def _sentence(details: ErrorDetails) -> str:
    kind, location = details["type"], details["loc"]
    key = str(location[-1]) if location else ""
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(key, _known_keys(location), n=1)
        return f'unknown key "{key}"' + (f'; did you mean "{close[0]}"?' if close else "")
    if kind == "missing":
        return f'the key "{key}" is missing'
    if kind == "union_tag_not_found":
        return 'the key "type" is missing'
    context = details.get("ctx", {})
    if kind == "union_tag_invalid":
        return f"unknown type; expected one of {context['expected_tags']}"
    if kind == "string_pattern_mismatch":
        if key == "api_key_env":
            return "this must be the name of an environment variable, not the key itself"
        return 'this is no valid name: it takes letters, digits and "_"'
    if kind == "value_error":
        return str(context["error"])
    message = details["msg"]
    return message[0].lower() + message[1:]


def _location(location: tuple[int | str, ...], raw: Any) -> str:
    """`column "answer", prompt` out of `("columns", 2, "llm_text", "prompt")`."""
    if len(location) < 2 or location[0] not in ("columns", "providers", "models"):
        return ", ".join(str(step) for step in location)
    section, entry, *inner = location
    if section == "columns":
        columns = raw.get("columns") if isinstance(raw, dict) else None
        location_text = _column(int(entry), columns)
    else:
        location_text = f'{str(section).removesuffix("s")} "{entry}"'
    if section != "models":
        inner = inner[1:]  # the tag of the union
    return ", ".join(
        [location_text, *(str(step) for step in inner if not _INNER_STEP.fullmatch(str(step)))]
    )


def _column(index: int, columns: Any) -> str:
    raw = columns[index] if isinstance(columns, list) else None
    name = raw.get("name") if isinstance(raw, dict) else None
    return f'column "{name}"' if isinstance(name, str) else f"column {index + 1}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys that are possible where the last step of a location is not."""
    if len(location) == 1:
        return _keys(Workflow)
    section, *steps = location[:-1]
    if section == "run":
        return _keys(RunSettings)
    model: type[BaseModel] | None = Model
    if section != "models":
        model = _MODELS.get(str(steps[1])) if len(steps) > 1 else None
    for step in steps[1 if section == "models" else 2 :]:
        model = _inner_model(model, step)
    return [] if model is None else _keys(model)


def _inner_model(model: type[BaseModel] | None, step: int | str) -> type[BaseModel] | None:
    """The model of a field; the model itself for a step that is no field."""
    if model is None:
        return None
    for name, field in model.model_fields.items():
        if step in (name, field.alias):
            return next(_models_in(field.annotation), None)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
