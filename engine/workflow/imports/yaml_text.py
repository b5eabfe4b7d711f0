"""`workflow_yaml`: a workflow as the text of a YAML file."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def workflow_yaml(workflow: dict[str, Any]) -> str:
    """The text of a workflow file; what it holds reads back as it is."""
    text: str = yaml.dump(workflow, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
