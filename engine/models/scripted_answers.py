"""What a scripted provider answers: text, JSON that fits a schema, vectors. All of it depends on
the request alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

_ADJECTIVES = "quiet bright narrow early distant steady plain open curious patient".split()
_NOUNS = "river gate signal harbour ledger garden engine lantern valley question".split()
_VERBS = "carries follows answers measures crosses holds returns opens marks meets".split()
_MOST_DEPTH = 12


def scripted_text(prompt: str) -> str:
    """A short answer that depends on the prompt alone."""
    d = digest(prompt)
    return (
        f"The {_ADJECTIVES[d[0] % 10]} {_NOUNS[d[1] % 10]} {_VERBS[d[2] % 10]} "
        f"the {_ADJECTIVES[d[3] % 10]} {_NOUNS[d[4] % 10]} ({d[5:8].hex()})."
    )


def scripted_vector(text: str, dimensions: int) -> tuple[float, ...]:
    """A vector of length 1. Texts with words in common lie closer to one another."""
    total = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        stream = hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(dimensions)
        for position, byte in enumerate(stream):
            total[position] += byte - 127.5
    length = math.sqrt(sum(number * number for number in total))
    return tuple(round(number / length, 6) for number in total)


def scripted_json(schema: Any, prompt: str) -> str:
    """JSON that fits a schema, for the keywords that describe what a value is made of."""
    return json.dumps(_value(schema, schema, (prompt,), 0), ensure_ascii=False)


def schema_of(response_format: Any) -> Any:
    """The schema in the `response_format` of a request; None where it wants no JSON."""
    if not isinstance(response_format, Mapping):
        return None
    if response_format.get("type") == "json_object":
        return {"type": "object"}
    described = response_format.get("json_schema")
    return described.get("schema") if isinstance(described, Mapping) else None


def _value(schema: Any, root: Any, path: tuple[str, ...], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _MOST_DEPTH:
        return None
    number = int.from_bytes(digest(*path)[:6], "big")
    if "$ref" in schema:
        return _value(_resolved(schema["$ref"], root), root, path, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][number % len(schema["enum"])]
    for keyword in ("anyOf", "oneOf", "allOf"):
        options = schema.get(keyword)
        if isinstance(options, Sequence) and options:
            return _value(options[0], root, path, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {k: _value(v, root, (*path, k), depth + 1) for k, v in properties.items()}
    if kind == "array":
        count = max(schema.get("minItems", 1), min(2, schema.get("maxItems", 2)))
        items = schema.get("items", {"type": "string"})
        return [_value(items, root, (*path, str(i)), depth + 1) for i in range(count)]
    if kind in ("integer", "number"):
        return _number(schema, kind, number)
    if kind == "boolean":
        return number % 2 == 0
    if kind == "null":
        return None
    text = scripted_text("\x1f".join(path)).ljust(schema.get("minLength", 0), ".")
    return text[: schema.get("maxLength", len(text))]


def _number(schema: Mapping[str, Any], kind: str, number: int) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 101) - 1)
    if kind == "integer":
        return int(low) + number % max(1, int(high) - int(low) + 1)
    return round(float(low + (high - low) * (number % 1000) / 1000), 3)


def _resolved(reference: Any, root: Any) -> Any:
    """What `#/$defs/Name` leads to."""
    value = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def digest(*parts: str) -> bytes:
    """16 bytes; lone surrogates in a prompt are hashed like any other character."""
    joined = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=16).digest()
