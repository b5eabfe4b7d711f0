"""Errors of pydantic as one sentence for people, which never repeats a value."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.models.settings import Model, OpenAIProvider, ScriptedProvider
from engine.workflow.columns.registry import COLUMN_TYPES
from engine.workflow.schema.run_settings import RunSettings
from engine.workflow.schema.workflow import Workflow

_NAMES_ITS_KEY = {"extra_forbidden", "missing"}
_INNER_STEPS = {"str", "callable", "[key]"}
"""Steps of a location that are pydantic's own: branches of unions, keys of mappings."""


_MODELS: dict[str, type[BaseModel]] = {
    **COLUMN_TYPES,
    "openai": OpenAIProvider,
    "scripted": ScriptedProvider,
    "models": Model,
    "run": RunSettings,
}


def first_mistake(error: ValidationError, raw: Any) -> str:
    """The first mistake and where it is; `raw` is what was validated, for names of columns."""
    details_list = error.errors(include_url=False)
    # A misspelt key is also reported as a missing one; the former says more.
    first = min(details_list, key=lambda details: details["type"] != "extra_forbidden")
    location = first["loc"]
    sentence = _sentence(first)
    where = _location(location[:-1] if first["type"] in _NAMES_ITS_KEY else location, raw)
    more = f" (and {len(details_list) - 1} more)" if len(details_list) > 1 else ""
    return f"{where}: {sentence}{more}" if where else f"{sentence}{more}"


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
    return ", ".join([location_text, *(str(step) for step in inner if step not in _INNER_STEPS)])


def _column(index: int, columns: Any) -> str:
    raw = columns[index] if isinstance(columns, list) else None
    name = raw.get("name") if isinstance(raw, dict) else None
    return f'column "{name}"' if isinstance(name, str) else f"column {index + 1}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    if len(location) == 1:
        return list(Workflow.model_fields)
    for step in (location[2] if len(location) == 4 else None, location[0]):
        if isinstance(step, str) and step in _MODELS:
            return [field.alias or name for name, field in _MODELS[step].model_fields.items()]
    return []
