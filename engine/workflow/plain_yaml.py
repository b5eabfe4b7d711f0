"""`read_yaml`: YAML in which a value is what it looks like.

YAML 1.1 takes NO, on and y for truth values, 010 for eight, and 2024-01-01 for a date. Workflow
files hold such words as data, so here only true and false are truth values, numbers are decimal
without leading zeros, and everything else is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

_RESOLVERS = (
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), "-+0123456789"),
    (
        "float",
        re.compile(
            r"^[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)\.)(?:[eE][-+]?[0-9]+)?$"
            r"|^[-+]?(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+$"
            r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
        ),
        "-+0123456789.",
    ),
)
_TAG = "tag:yaml.org,2002:"


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader with resolvers of its own."""


_PlainLoader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (
        kept := [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.removeprefix(_TAG) in ("null", "merge")
        ]
    )
}
for _name, _pattern, _first in _RESOLVERS:
    _PlainLoader.add_implicit_resolver(_TAG + _name, _pattern, list(_first))


def read_yaml(text: str) -> tuple[Any, list[str]]:
    """The document, and its values of samplers that do not stay as they are written.

    Raises `yaml.YAMLError` where it is broken, and `ValueError` or `RecursionError` for values that
    can't be read.
    """
    loader = _PlainLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        return loader.construct_document(node), list(_changed_values(node))
    finally:
        loader.dispose()


def _changed_values(document: yaml.Node) -> Iterator[str]:
    columns = _entry(document, "columns")
    for column in columns.value if isinstance(columns, yaml.SequenceNode) else ():
        values = _entry(column, "values")
        for value in values.value if isinstance(values, yaml.SequenceNode) else ():
            if not isinstance(value, yaml.ScalarNode) or value.style is not None:
                continue
            if value.tag == _TAG + "null":
                yield value.value or "an empty value"
            elif value.tag == _TAG + "float" and str(float(value.value)) != value.value:
                yield value.value


def _entry(node: Any, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == name:
                entry: yaml.Node = value
                return entry
    return None
