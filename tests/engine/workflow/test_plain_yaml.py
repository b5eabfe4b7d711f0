"""Values of a workflow file are what they look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.workflow.load import load_workflow
from engine.workflow.plain_yaml import read_yaml
from engine.workflow.schema import SamplerColumn


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((word, word) for word in ("NO", "no", "yes", "on", "off", "y", "n", "Off")),
        *((text, text) for text in ("010", "2024-01-01", "1:30", "1_000", "0x1F", "0o7")),
        *(("true", True), ("False", False), ("null", None), ("~", None)),
        *(("0", 0), ("12", 12), ("-3", -3), ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5)),
    ],
)
def test_what_a_plain_value_is(written: str, value: Any) -> None:
    assert read_yaml(f"a: {written}")[0] == {"a": value}
    assert type(read_yaml(f"a: {written}")[0]["a"]) is type(value)


def test_keys_are_words_too_and_merges_still_work() -> None:
    assert read_yaml("{NO: 1, on: 2}")[0] == {"NO": 1, "on": 2}
    assert read_yaml("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2")[0]["c"] == {"b": 1, "d": 2}


def test_what_is_not_as_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "workflow.yaml"
    path.write_text(
        "name: t\nrecords: 3\ncolumns:\n"
        "  - { name: c, type: sampler, values: [NO, 1.10, 2.5, null, '1.20', 010] }\n"
        "run: { cooldown_seconds: 1.50 }\n"
    )
    loaded = load_workflow(path)
    [column] = loaded.workflow.columns
    assert isinstance(column, SamplerColumn)
    assert column.values == ["NO", 1.1, 2.5, None, "1.20", "010"]
    ((code, sentence),) = loaded.warnings
    assert code == "values_not_as_written"
    assert "1.10, null;" in sentence
