"""`load_workflow`: reads a workflow file, with one clear sentence for every mistake in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from engine.errors import UserError
from engine.events.safe_files import read_small
from engine.workflow.mistakes import first_mistake
from engine.workflow.modules import UserModules
from engine.workflow.plain_yaml import read_yaml
from engine.workflow.schema.workflow import Workflow

MAX_FILE_BYTES = 16 << 20
"""Of a file that says what to run."""


@dataclass(frozen=True)
class LoadedWorkflow:
    """A workflow and its Python functions, by the name of the column that uses them."""

    workflow: Workflow
    path: Path | None
    """The file it was read from; None for a workflow that is built in."""
    functions: Mapping[str, Callable[..., Any]]
    warnings: tuple[tuple[str, str], ...] = ()
    """Code and sentence of what its author should know."""

    def override(self, records: int | None = None, seed: int | None = None) -> LoadedWorkflow:
        """The same workflow with these values where they are given. Raises `UserError` for a size
        that can't be made."""
        overrides = {"records": records, "seed": seed}
        changes = {name: value for name, value in overrides.items() if value is not None}
        workflow = self.workflow.model_copy(update=changes)
        try:
            workflow.check_size()
        except ValueError as error:
            raise UserError(str(error)) from None
        return replace(self, workflow=workflow)

    def limited(self, max_tokens: int | None, max_cost: float | None) -> LoadedWorkflow:
        """The same with these limits where they are given."""
        overrides = {"max_tokens": max_tokens, "max_cost": max_cost}
        changes = {name: value for name, value in overrides.items() if value is not None}
        run = self.workflow.run.model_copy(update=changes)
        return replace(self, workflow=self.workflow.model_copy(update={"run": run}))

    def waiting_for_quotas(self) -> LoadedWorkflow:
        """The same, but a quota that is used up is waited for, however long that takes."""
        run = self.workflow.run.model_copy(update={"wait_for_quota": True})
        return replace(self, workflow=self.workflow.model_copy(update={"run": run}))


def load_workflow(path: Path) -> LoadedWorkflow:
    """Read `.yaml`, `.yml` or `.py`. Raises `UserError` for whatever is wrong with it."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a workflow file")
    if not path.exists():
        raise UserError(f"there is no workflow file {path}")
    modules = UserModules(path.resolve().parent)
    changed: list[str] = []
    if path.suffix in (".yaml", ".yml"):
        raw, changed = _read_yaml(path)
        workflow = _validated(raw, path)
    elif path.suffix == ".py":
        workflow = _exported(modules, path)
    else:
        raise UserError(f"{path} is no workflow file: its name must end in .yaml, .yml or .py")
    functions = _functions(workflow, modules, path)
    return LoadedWorkflow(workflow, path, functions, _warnings(changed))


def _warnings(changed: list[str]) -> tuple[tuple[str, str], ...]:
    if not changed:
        return ()
    listed = ", ".join(dict.fromkeys(changed))
    return (
        (
            "values_not_as_written",
            f"values of samplers that are not used as they are written: {listed}; in quotes they "
            "are text",
        ),
    )


def _read_yaml(path: Path) -> tuple[Any, list[str]]:
    try:
        # Resolved: a link that the user names is followed.
        text = read_small(path.resolve(), limit=MAX_FILE_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from None
    try:
        return read_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: broken YAML: {error.problem or error.context}") from None
    except yaml.YAMLError:
        raise UserError(f"{path}: broken YAML: it holds characters that YAML forbids") from None
    except (RecursionError, ValueError):  # PyYAML lets impossible dates and numbers through
        raise UserError(f"{path}: broken YAML: it holds values that can't be read") from None


def _exported(modules: UserModules, path: Path) -> Workflow:
    module = modules.load_file(path)
    if not hasattr(module, "workflow"):
        raise UserError(
            f"{path} exports no `workflow`: assign a Workflow (or a dictionary) to that name"
        )
    exported = module.workflow
    return exported if isinstance(exported, Workflow) else _validated(exported, path)


def _validated(raw: Any, path: Path) -> Workflow:
    if raw is None:
        raise UserError(f"{path} is empty")
    if not isinstance(raw, dict):
        kind = type(raw).__name__
        raise UserError(f"{path}: a workflow is a mapping of settings, but this is of type {kind}")
    try:
        return Workflow.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error, raw)}") from None


def _functions(
    workflow: Workflow, modules: UserModules, path: Path
) -> dict[str, Callable[..., Any]]:
    functions: dict[str, Callable[..., Any]] = {}
    for column in workflow.columns:
        reference = column.reference()
        if isinstance(reference, str):
            functions[column.name] = modules.function(reference, column.name, path)
        elif reference is not None:
            functions[column.name] = reference
    return functions
