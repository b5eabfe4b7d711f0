"""The fixtures are what Data Designer 0.9.7 wrote of one configuration, as YAML and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.errors import UserError
from engine.workflow.imports.data_designer import Imported, import_data_designer, read_config
from engine.workflow.imports.yaml_text import workflow_yaml
from engine.workflow.plain_yaml import read_yaml
from engine.workflow.schema import Workflow

CONFIGS = Path(__file__).parents[3] / "fixtures" / "data_designer_configs"


@pytest.fixture(scope="module")
def imported() -> Imported:
    return import_data_designer(read_config(CONFIGS / "config.yaml"), records=20)


def columns(imported: Imported) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in imported.workflow["columns"]}


def test_both_forms_give_the_same_workflow(imported: Imported) -> None:
    other = import_data_designer(read_config(CONFIGS / "config.json"), records=20)
    assert other.workflow == imported.workflow
    assert other.notes == imported.notes


def test_every_column_is_there_and_the_workflow_is_one(imported: Imported) -> None:
    raw = yaml.safe_load((CONFIGS / "config.yaml").read_text())["data_designer"]["columns"]
    assert set(columns(imported)) == {column["name"] for column in raw} | {"city"}
    workflow = Workflow.model_validate(imported.workflow)
    assert workflow.records == 20
    assert workflow.models["m"].temperature == 0.3
    assert workflow.models["m"].timeout_seconds == 30
    assert workflow.key_variables() == {"nvidia": "NVIDIA_API_KEY"}


def test_columns_do_what_theirs_do(imported: Imported) -> None:
    made = columns(imported)
    assert made["city"] == {
        "name": "city",
        "type": "seed",
        "path": "seed.csv",
        "field": "city",
        "order": "shuffled",
        "partition": {"index": 1, "of": 2},
    }
    assert made["sub"]["subcategory"] == {"of": "topic", "values": {"a": ["x", "y"], "b": ["z"]}}
    assert made["uni"]["uniform"] == {"low": 0.0, "high": 1.0, "decimals": 2}
    assert made["dt"]["datetime"] == {"start": "2024-01-01", "end": "2024-12-31", "unit": "day"}
    assert made["text"]["skip_value"] == "none"
    assert made["text"]["drop"] is True
    assert made["judge"]["scores"][0] == {
        "name": "Clear_it",
        "description": "clear?",
        "options": {1: "no", 2: "yes"},
    }
    assert made["emb"]["dimensions"] == 8
    assert made["emb"]["drop"] is True
    assert made["ex"]["value_type"] == "number"
    assert made["img"]["images"] == ["{{ topic }}"]


def test_columns_that_use_a_skipped_one_are_skipped_with_it(imported: Imported) -> None:
    skipped = {name for name, column in columns(imported).items() if "skip_when" in column}
    assert skipped == {"text", "facts", "code", "judge", "emb", "val"}
    assert {columns(imported)[name]["skip_when"] for name in skipped} == {"topic == 'a'"}


@pytest.mark.parametrize(
    "what",
    [
        'column "poi", a sampler of type "poisson"',
        'column "per", a sampler of type "person_from_faker"',
        'column "cond": conditional_params',
        'column "uni": convert_to (int)',
        'column "id": prefix',
        'column "val", a validation of type "code"',
        'column "cust": a configuration does not hold its function',
        'the constraint on column "uni"',
        'model "u": a distribution of temperature',
        "copy the seed data data/seed.csv beside the workflow, as seed.csv",
    ],
)
def test_what_has_no_equivalent_is_listed(imported: Imported, what: str) -> None:
    assert sum(note.startswith(what) for note in imported.notes) == 1


def test_the_file_says_what_the_workflow_is(imported: Imported) -> None:
    raw, changed = read_yaml(workflow_yaml(imported.workflow))
    assert raw == imported.workflow
    assert changed == []


def config(*made: dict[str, Any], **parts: Any) -> dict[str, Any]:
    models = [{"alias": "m", "model": "x", "provider": "mine", "inference_parameters": {}}]
    return {"columns": list(made), "model_configs": models, **parts}


def test_conditions_of_several_columns_are_joined() -> None:
    def text(name: str, prompt: str, when: str | None = None, **parts: Any) -> dict[str, Any]:
        skip = None if when is None else {"when": when, "value": None}
        given = {"column_type": "llm-text", "model_alias": "m", "prompt": prompt, "skip": skip}
        return {"name": name, **given, **parts}

    sampler = {"name": "n", "column_type": "sampler", "sampler_type": "uniform"}
    imported = import_data_designer(
        config(
            {**sampler, "params": {"low": 0, "high": 1}},
            text("a", "A", "{{ n > 0.5 }}"),
            text("b", "B {{ a }}", "{{ n < 0.1 }}"),
            text("c", "C {{ b }}", propagate_skip=False),
        )
    )
    made = columns(imported)
    assert made["b"]["skip_when"] == "(n < 0.1) or (n > 0.5)"
    assert "skip_when" not in made["c"]
    assert any('provider "mine"' in note for note in imported.notes)


def test_a_column_type_that_is_not_known_is_left_to_a_function() -> None:
    imported = import_data_designer(config({"name": "pic", "column_type": "image", "prompt": "x"}))
    assert columns(imported)["pic"]["function"] == "functions:pic"
    assert any('column "pic", of type "image", has no equivalent' in n for n in imported.notes)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.yaml", "- 1", "it has no list of columns"),
        ("a.json", "{", "is neither YAML nor JSON"),
        ("a.yaml", "a: [", "is neither YAML nor JSON"),
        ("a.yaml", "data_designer: {columns: [{column_type: sampler}]}", "has no name"),
    ],
)
def test_what_is_no_configuration_is_told(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=says):
        import_data_designer(read_config(tmp_path / name))


def test_a_configuration_with_a_mistake_is_imported_with_a_note() -> None:
    raw = {"name": "x", "column_type": "llm-text", "model_alias": "gone", "prompt": "{{ y }}"}
    imported = import_data_designer(json.loads(json.dumps(config(raw))))
    assert any(note.startswith("the workflow is not complete: ") for note in imported.notes)
