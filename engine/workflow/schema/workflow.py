"""`Workflow`: what the user wants made, as pydantic models that refuse anything unknown."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated

from pydantic import Field, model_validator

from engine.identity import RequestDomain
from engine.models.settings import Model, OpenAIProvider, Provider
from engine.strict_model import StrictModel
from engine.workflow.columns.base import BaseColumn
from engine.workflow.columns.registry import Column
from engine.workflow.graph import ColumnGraph, find_cycle
from engine.workflow.schema.run_settings import RunSettings
from engine.workflow.templates import is_template_name

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
MOST_RECORDS = 10**15
MOST_CELLS_IN_A_ROW_GROUP = 2_000_000
"""All cells of a row group are in memory, about 1 kB each, until it is written."""


class Workflow(StrictModel):
    """A data set to be made. Every instance is consistent: names resolve, columns form a DAG."""

    name: str = Field(min_length=1, max_length=200)
    """Name of the run."""
    records: int = Field(ge=1, le=MOST_RECORDS)
    """How many rows are made."""
    seed: int = 0
    """Seed of everything random: with the same one, samplers and seeds give the same values."""
    providers: dict[Name, Provider] = Field({})
    """The endpoints, by name."""
    models: dict[Name, Model] = Field({})
    """The models, by the alias that columns use."""
    columns: list[Column] = Field(min_length=1)
    """The columns of a row. Those that templates name are made first."""
    run: RunSettings = RunSettings()
    """How the run is scheduled."""

    @model_validator(mode="after")
    def _names_resolve(self) -> Workflow:
        for alias, model in self.models.items():
            if model.provider not in self.providers:
                raise ValueError(
                    f'model "{alias}" names the unknown provider "{model.provider}"; '
                    f"{_known('providers', self.providers)}"
                )
        seen: set[str] = set()
        for column in self.columns:
            if column.name in seen:
                raise ValueError(f'two columns are named "{column.name}"')
            if not is_template_name(column.name):
                raise ValueError(f'"{column.name}" is a word of Jinja2 and can\'t name a column')
            seen.add(column.name)
        for column in self.columns:
            for alias in column.aliases():
                if alias not in self.models:
                    raise ValueError(
                        f'column "{column.name}" names the unknown model "{alias}"; '
                        f"{_known('models', self.models)}"
                    )
            for needed in column.dependencies():
                if needed not in seen:
                    raise ValueError(
                        f'column "{column.name}" uses the unknown column "{needed}"; '
                        f"{_known('columns', sorted(seen))}"
                    )
        cycle = find_cycle({c.name: c.dependencies() for c in self.columns})
        if cycle:
            raise ValueError(f"the columns form a cycle: {' → '.join(cycle)}")
        if all(column.drop for column in self.columns):
            raise ValueError("every column is dropped, so that nothing is left of a row")
        self.check_size()
        return self

    def check_size(self) -> None:
        """Raises `ValueError` where no machine could make it."""
        if self.records > MOST_RECORDS:
            raise ValueError(f"{self.records:,} records are too many: at most {MOST_RECORDS:,}")
        rows = min(self.run.buffer_size, self.records)
        cells = rows * len(self.columns)
        if cells > MOST_CELLS_IN_A_ROW_GROUP:
            raise ValueError(
                f"run.buffer_size makes row groups of {cells:,} cells ({rows:,} rows × "
                f"{len(self.columns):,} columns), which are all kept in memory; the most is "
                f"{MOST_CELLS_IN_A_ROW_GROUP:,}: set it to "
                f"{max(1, MOST_CELLS_IN_A_ROW_GROUP // len(self.columns)):,} or less"
            )

    @cached_property
    def graph(self) -> ColumnGraph:
        """Which column waits for which: for those that it uses, and for the checks that may have
        them made again."""
        graph = ColumnGraph({c.name: c.dependencies() for c in self.columns})
        for column in self.columns:
            if not column.renewed():
                continue
            again = set(graph.between(column.renewed(), column.name))
            before = graph.ancestors(column.name) | {column.name}
            waits = dict(graph.depends_on)
            for name, needed in waits.items():
                if name not in before and again.intersection(needed):
                    waits[name] = tuple(sorted({*needed, column.name}))
            graph = ColumnGraph(waits)
        return graph

    @property
    def output_columns(self) -> list[str]:
        """Columns of the rows that are written, in declared order."""
        return [column.name for column in self.columns if not column.drop]

    def domains(self, alias: str) -> tuple[RequestDomain, ...]:
        """What columns want of an alias; chat where none uses it."""
        wanted = {column.domain() for column in self.columns if alias in column.aliases()}
        return tuple(sorted(wanted)) or ("chat",)

    def column(self, name: str) -> BaseColumn:
        """Raises `KeyError` where there is none of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def key_variables(self) -> dict[str, str]:
        """Variables of the environment that hold keys, by provider."""
        return {
            name: provider.api_key_env
            for name, provider in self.providers.items()
            if isinstance(provider, OpenAIProvider) and provider.api_key_env is not None
        }


def _known(what: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"known {what}: {listed}" if listed else f"the workflow declares no {what}"
