"""Writes the parts of `docs/` that derive from code: `python -m tests.docs.generate`.

The reference of the workflow file comes from its models, whatever they are: a section for each, a
row for each key. `test_docs.py` fails where it is not up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.workflow.schema import Workflow
from tests.plans.generate import table

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "workflow-reference.md"
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matches `{}`",
}
_HEAD = """\
# The workflow file: reference

Every key of a workflow in YAML, generated from the models that read it (`make docs`). A Python file
that exports `workflow` builds the same models from `engine.workflow.schema`. Unknown keys are
refused. [Write a workflow](workflow.md) introduces them.
"""


def reference() -> str:
    """The page: the workflow itself, then what it is made of, in the order of their use."""
    schema = Workflow.model_json_schema(by_alias=True)
    models = schema.pop("$defs", {})
    pages = [_HEAD, _section("Workflow", schema, models)]
    pages += [_section(name, models[name], models) for name in _in_order(schema, models)]
    return "\n".join(pages)


def _in_order(schema: dict[str, Any], models: dict[str, Any]) -> list[str]:
    result: dict[str, None] = {}
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop(0)
        if name not in result and "properties" in models[name]:
            result[name] = None
            waiting += _references(models[name])
    return list(result)


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield str(value).rpartition("/")[2]
            elif key not in ("default", "discriminator"):
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _section(name: str, model: dict[str, Any], models: dict[str, Any]) -> str:
    required = set(model.get("required", ()))
    rows = [
        (
            f"`{key}`",
            _type(field, models),
            "required" if key in required else _default(field),
            _sentence(" ".join([_words(field.get("description", "")), _bounds(field)]).strip()),
        )
        for key, field in model.get("properties", {}).items()
    ]
    about = _words(model.get("description", ""))
    text = f"## {name}\n\n{about}\n" if about else f"## {name}\n"
    return f"{text}\n{table(('key', 'type', 'default', 'meaning'), rows)}"


def _type(field: dict[str, Any], models: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        if "properties" in models[name]:
            return f"[{name}](#{name.lower()})"
        return _type(models[name], models)
    for choice in ("anyOf", "oneOf"):
        if choice in field:
            kinds = dict.fromkeys(_type(option, models) for option in field[choice])
            return " or ".join(kind for kind in kinds if kind != "null")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    kind = field.get("type")
    if kind == "array":
        return f"list of {_type(field.get('items', {}), models)}"
    if kind == "object":
        values = field.get("additionalProperties")
        patterns = list(field.get("patternProperties", {}).values())
        values = patterns[0] if patterns else values
        return f"map to {_type(values, models)}" if isinstance(values, dict) else "map"
    return str(kind) if kind else "any"


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if default is None:
        return ""
    if default in ([], {}):
        return "none"
    if isinstance(default, dict):
        return "its defaults"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _bounds(field: dict[str, Any]) -> str:
    parts = [field, *field.get("anyOf", ())]
    bounds = [
        words.format(part[name])
        for part in parts
        if isinstance(part, dict)
        for name, words in _BOUNDS.items()
        if name in part
    ]
    return f"({', '.join(bounds)})" if bounds else ""


def _words(text: str) -> str:
    return " ".join(text.split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
