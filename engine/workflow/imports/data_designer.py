"""`import_data_designer`: the workflow that does what a configuration of NVIDIA NeMo Data Designer
says, and what of it has no equivalent.

It reads the files that `DataDesignerConfigBuilder.write_config` writes, as YAML or JSON (seen with
version 0.9.7), without that package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from engine.errors import UserError
from engine.events.safe_files import read_small
from engine.workflow.columns.rendering import condition_template
from engine.workflow.imports.data_designer_models import providers_and_models
from engine.workflow.load import MAX_FILE_BYTES
from engine.workflow.mistakes import first_mistake
from engine.workflow.schema import Workflow
from engine.workflow.templates import template_variables

_UNITS = {"D": "day", "h": "hour", "m": "minute", "s": "second"}
_VALUE_TYPES = {"int": "integer", "float": "number", "str": "text", "bool": "boolean"}
_ORDERS = {"ordered": "ordered", "shuffle": "shuffled"}
Raw = Mapping[str, Any]


@dataclass
class Imported:
    """A workflow as a file would say it."""

    workflow: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """What has no equivalent, or is left to do: one sentence each, without its full stop."""


def read_config(path: Path) -> Raw:
    """The configuration in a file. Raises `UserError` for what is none."""
    try:
        text = read_small(path.resolve(), limit=MAX_FILE_BYTES).decode()
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    try:
        raw = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        raise UserError(f"{path} is neither YAML nor JSON") from None
    config = raw.get("data_designer", raw) if isinstance(raw, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("columns"), list):
        raise UserError(f"{path} is no configuration of Data Designer: it has no list of columns")
    return config


def import_data_designer(config: Raw, records: int = 100, name: str = "imported") -> Imported:
    """The workflow that does the same. Raises `UserError` for a configuration that can't be read.

    Args:
        config: What `read_config` returns.
        records: Rows of the workflow; a configuration does not say how many.
        name: Name of the workflow.
    """
    return _Import(config).imported(records, name)


class _Import:
    def __init__(self, config: Raw) -> None:
        self._config = config
        self._notes: list[str] = []
        self._columns: dict[str, dict[str, Any]] = {}

    def imported(self, records: int, name: str) -> Imported:
        for raw in self._config["columns"]:
            if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
                raise UserError("a column of the configuration has no name")
            self._columns[raw["name"]] = self._column(raw)
        self._add_seed_columns()
        self._drop_columns()
        self._propagate_skips()
        self._note_the_rest()
        providers, models = providers_and_models(self._config, self._notes)
        workflow = {
            "name": name,
            "records": records,
            "providers": providers,
            "models": models,
            "columns": list(self._columns.values()),
        }
        try:
            Workflow.model_validate(workflow)
        except ValidationError as error:
            self._note(f"the workflow is not complete: {first_mistake(error, workflow)}")
        return Imported(workflow, self._notes)

    def _note(self, sentence: str) -> None:
        if sentence not in self._notes:
            self._notes.append(sentence)

    def _column(self, raw: Raw) -> dict[str, Any]:
        kind = str(raw.get("column_type", ""))
        make = _COLUMNS.get(kind)
        unknown = f'of type "{kind}"'
        column = self._by_function(raw, unknown) if make is None else make(self, raw)
        skip = raw.get("skip")
        if isinstance(skip, Mapping):
            column["skip_when"] = str(skip.get("when", ""))
            if skip.get("value") is not None:
                column["skip_value"] = skip["value"]
        if raw.get("drop"):
            column["drop"] = True
        return column

    def _by_function(self, raw: Raw, what: str) -> dict[str, Any]:
        """A column that is left to a function of the user."""
        name = raw["name"]
        self._note(
            f'column "{name}", {what}, has no equivalent: write a function {name} in '
            "functions.py beside the workflow that makes its value"
        )
        return {"name": name, "type": "custom", "function": f"functions:{name}"}

    def _sampler(self, raw: Raw) -> dict[str, Any]:
        name, kind = raw["name"], str(raw.get("sampler_type", ""))
        params = raw.get("params")
        params = params if isinstance(params, Mapping) else {}
        source = _SAMPLERS[kind](params) if kind in _SAMPLERS and params else None
        if kind == "datetime" and params.get("unit") not in _UNITS:
            source = None
        if source is None:
            return self._by_function(raw, f'a sampler of type "{kind}"')
        if raw.get("conditional_params"):
            self._note(
                f'column "{name}": conditional_params have no equivalent, and only params are taken'
            )
        if raw.get("convert_to"):
            self._note(f'column "{name}": convert_to ({raw["convert_to"]}) is left out')
        if kind == "uuid" and any(params.get(k) for k in ("prefix", "short_form", "uppercase")):
            self._note(f'column "{name}": prefix, short_form and uppercase of a UUID are left out')
        return {"name": name, "type": "sampler", **source}

    def _model_column(self, raw: Raw, kind: str) -> dict[str, Any]:
        """What columns of models have in common."""
        name = raw["name"]
        column = {
            "name": name,
            "type": kind,
            "model": raw.get("model_alias", ""),
            "prompt": raw.get("prompt", ""),
        }
        if raw.get("system_prompt"):
            column["system"] = raw["system_prompt"]
        images = [
            image
            for context in raw.get("multi_modal_context") or ()
            if (image := self._image(name, context)) is not None
        ]
        if images:
            column["images"] = images
        if raw.get("tool_alias"):
            self._note(f'column "{name}": tools have no equivalent outside custom columns')
        if raw.get("with_trace") not in (None, "none"):
            self._note(f'column "{name}": with_trace has no equivalent')
        if raw.get("extract_reasoning_content"):
            self._note(f'column "{name}": extract_reasoning_content has no equivalent')
        return column

    def _image(self, name: str, context: Raw) -> str | None:
        if context.get("modality") != "image":
            self._note(f'column "{name}": {context.get("modality")} in a prompt has no equivalent')
            return None
        value = "{{ " + str(context.get("column_name")) + " }}"
        if context.get("data_type") == "base64":
            return f"data:image/{context.get('image_format') or 'png'};base64,{value}"
        return value

    def _text(self, raw: Raw) -> dict[str, Any]:
        return self._model_column(raw, "llm_text")

    def _code(self, raw: Raw) -> dict[str, Any]:
        self._note(
            f'column "{raw["name"]}": code is not taken out of the answer, so the prompt must ask '
            "for code alone"
        )
        return self._model_column(raw, "llm_text")

    def _structured(self, raw: Raw) -> dict[str, Any]:
        return {**self._model_column(raw, "llm_structured"), "schema": raw.get("output_format")}

    def _judge(self, raw: Raw) -> dict[str, Any]:
        scores = []
        for score in raw.get("scores") or ():
            name = re.sub(r"\W", "_", str(score.get("name")))
            if name != score.get("name"):
                self._note(
                    f'column "{raw["name"]}": the score "{score.get("name")}" is called {name}'
                )
            options = {_number(key): text for key, text in score.get("options", {}).items()}
            scores.append(
                {"name": name, "description": score.get("description"), "options": options}
            )
        return {**self._model_column(raw, "llm_judge"), "scores": scores}

    def _embedding(self, raw: Raw) -> dict[str, Any]:
        column = {
            "name": raw["name"],
            "type": "embedding",
            "model": raw.get("model_alias", ""),
            "text": "{{ " + str(raw.get("target_column")) + " }}",
        }
        for model in self._config.get("model_configs") or ():
            parameters = model.get("inference_parameters") or {}
            if model.get("alias") == raw.get("model_alias") and parameters.get("dimensions"):
                column["dimensions"] = parameters["dimensions"]
                column["request_dimensions"] = True
        return column

    def _expression(self, raw: Raw) -> dict[str, Any]:
        column = {"name": raw["name"], "type": "expression", "template": raw.get("expr", "")}
        value_type = _VALUE_TYPES.get(str(raw.get("dtype", "str")), "text")
        return column if value_type == "text" else {**column, "value_type": value_type}

    def _validation(self, raw: Raw) -> dict[str, Any]:
        kind = raw.get("validator_type")
        self._note(
            f'column "{raw["name"]}", a validation of type "{kind}", has no equivalent: write a '
            f"function {raw['name']} in functions.py beside the workflow that says whether a row "
            "passes"
        )
        name, columns = raw["name"], list(raw.get("target_columns") or ())
        checked = {"columns": columns, "function": f"functions:{name}", "on_failure": "keep"}
        return {"name": name, "type": "validation", **checked}

    def _custom(self, raw: Raw) -> dict[str, Any]:
        function = str(raw.get("generator_function") or raw["name"])
        self._note(
            f'column "{raw["name"]}": a configuration does not hold its function: write {function} '
            "in functions.py beside the workflow, which returns the value of a row, and list in "
            "depends_on what it uses"
        )
        column = {"name": raw["name"], "type": "custom", "function": f"functions:{function}"}
        whole = raw.get("generation_strategy") not in (None, "cell_by_cell")
        return {**column, "batch": True} if whole else column

    def _seed(self, raw: Raw) -> dict[str, Any]:
        return self._seed_column(raw["name"])

    def _seed_column(self, name: str) -> dict[str, Any]:
        seed = self._config.get("seed_config") or {}
        source = seed.get("source") or {}
        path = str(source.get("path") or source.get("dataset") or "seed.parquet")
        column: dict[str, Any] = {
            "name": name,
            "type": "seed",
            "path": Path(path).name,
            "field": name,
            "order": _ORDERS.get(str(seed.get("sampling_strategy")), "ordered"),
        }
        part = seed.get("selection_strategy") or {}
        if "num_partitions" in part:
            column["partition"] = {"index": part.get("index", 0), "of": part["num_partitions"]}
        elif "start" in part:
            count = int(part["end"]) - int(part["start"]) + 1
            column["sql"] = f"SELECT * FROM seed LIMIT {count} OFFSET {int(part['start'])}"
        self._note(f"copy the seed data {path} beside the workflow, as {Path(path).name}")
        return column

    def _add_seed_columns(self) -> None:
        """A configuration does not list the columns of its seed: those that templates use."""
        if not self._config.get("seed_config"):
            return
        used = {name for column in self._columns.values() for name in _names_in(column)}
        missing = sorted(used - self._columns.keys())
        seeds = {name: self._seed_column(name) for name in missing}
        if not any(column["type"] == "seed" for column in self._columns.values()):
            self._note(
                "columns of the seed that no template uses are left out: add a column of type seed "
                "for each that is to be in the output"
            )
        self._columns = {**seeds, **self._columns}

    def _drop_columns(self) -> None:
        for processor in self._config.get("processors") or ():
            if processor.get("processor_type") != "drop_columns":
                kind = processor.get("processor_type")
                self._note(f'the processor "{processor.get("name")}" ({kind}) has no equivalent')
                continue
            for name in processor.get("column_names") or ():
                if name in self._columns:
                    self._columns[name]["drop"] = True

    def _propagate_skips(self) -> None:
        """A column that uses a skipped one is skipped with it, unless it says otherwise."""
        raws = {raw["name"]: raw for raw in self._config["columns"]}
        conditions: dict[str, list[str]] = {}

        def of(name: str, above: frozenset[str]) -> list[str]:
            if name in conditions or name in above or name not in self._columns:
                return conditions.get(name, [])
            column = self._columns[name]
            gathered = [_bare(column["skip_when"])] if "skip_when" in column else []
            if raws.get(name, {}).get("propagate_skip", True):
                for other in _names_in(column):
                    gathered += of(other, above | {name})
            conditions[name] = list(dict.fromkeys(gathered))
            return conditions[name]

        for name, column in self._columns.items():
            listed = of(name, frozenset())
            if len(listed) == 1:
                column["skip_when"] = listed[0]
            elif listed:
                column["skip_when"] = " or ".join(f"({condition})" for condition in listed)

    def _note_the_rest(self) -> None:
        for constraint in self._config.get("constraints") or ():
            self._note(
                f'the constraint on column "{constraint.get("target_column")}" has no equivalent: '
                "set bounds of the sampler, or add a validation"
            )
        for part in ("profilers", "tool_configs"):
            if self._config.get(part):
                self._note(f"{part} have no equivalent")


_COLUMNS: dict[str, Callable[[_Import, Raw], dict[str, Any]]] = {
    "sampler": _Import._sampler,
    "llm-text": _Import._text,
    "llm-code": _Import._code,
    "llm-structured": _Import._structured,
    "llm-judge": _Import._judge,
    "embedding": _Import._embedding,
    "expression": _Import._expression,
    "validation": _Import._validation,
    "custom": _Import._custom,
    "seed-dataset": _Import._seed,
}
_SAMPLERS: dict[str, Callable[[Raw], dict[str, Any]]] = {
    "category": lambda p: _given(values=p.get("values"), weights=p.get("weights")),
    "subcategory": lambda p: {"subcategory": {"of": p["category"], "values": dict(p["values"])}},
    "uniform": lambda p: {
        "uniform": _given(low=p.get("low"), high=p.get("high"), decimals=p.get("decimal_places"))
    },
    "gaussian": lambda p: {
        "gaussian": _given(
            mean=p.get("mean"), stddev=p.get("stddev"), decimals=p.get("decimal_places")
        )
    },
    "bernoulli": lambda p: {"bernoulli": {"p": p.get("p")}},
    "datetime": lambda p: {
        "datetime": {
            "start": str(p.get("start")),
            "end": str(p.get("end")),
            "unit": _UNITS.get(str(p.get("unit")), "day"),
        }
    },
    "uuid": lambda p: {"uuid": True},
}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _names_in(column: Raw) -> set[str]:
    """Columns that the templates of a column use."""
    templates = [column.get("prompt"), column.get("system"), column.get("template")]
    templates += [column.get("text"), *column.get("images", ())]
    if "skip_when" in column:
        templates.append(condition_template(column["skip_when"]))
    names = set(column.get("columns", ()))
    for template in templates:
        if isinstance(template, str):
            try:
                names |= template_variables(template)
            except ValueError:
                continue  # the check of the whole workflow says what is wrong
    if "subcategory" in column:
        names.add(column["subcategory"]["of"])
    return names


def _bare(condition: str) -> str:
    """The expression of a condition that may stand in braces."""
    text = condition.strip()
    return text[2:-2].strip() if text.startswith("{{") and text.endswith("}}") else text


def _number(key: Any) -> Any:
    return int(key) if isinstance(key, str) and re.fullmatch(r"-?\d{1,9}", key) else key
