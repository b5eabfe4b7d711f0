"""`Workflow`: what the user wants made, as pydantic models that refuse anything unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.request_admission.config import RecoveryPolicy, RequestAdmissionTuningConfig
from engine.workflow.graph import ColumnGraph, find_cycle
from engine.workflow.provider_script import ProviderScript
from engine.workflow.templates import is_template_name, template_variables

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


MOST_RECORDS = 10**15
MOST_CELLS_IN_A_ROW_GROUP = 2_000_000
"""All cells of a row group are in memory, about 1 kB each, until it is written."""


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        validate_default=True,
        frozen=True,
        allow_inf_nan=False,
    )


class OpenAIProvider(_Strict):
    """Any endpoint that speaks the OpenAI API; its key stays in the environment."""

    type: Literal["openai"] = "openai"
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key; None for an endpoint without one."""
    timeout_seconds: float = Field(120.0, gt=0)

    @field_validator("base_url")
    @classmethod
    def _plain_http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError("base_url is no valid URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must begin with http:// or https:// and name a host")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "base_url must not carry a user, a password or a query: keys belong in the "
                "environment (api_key_env)"
            )
        return value.rstrip("/")


class ScriptedProvider(ProviderScript):
    """A provider played by headgate itself, from a script."""

    type: Literal["scripted"] = "scripted"
    timeout_seconds: float = Field(120.0, gt=0)


Provider = Annotated[OpenAIProvider | ScriptedProvider, Field(discriminator="type")]


class Model(_Strict):
    """An alias: one model of one provider, and how to call it."""

    provider: str
    model: str = Field(min_length=1)
    max_parallel_requests: int = Field(8, ge=1)
    temperature: float | None = None
    max_tokens: int | None = Field(None, ge=1)
    timeout_seconds: float | None = Field(None, gt=0)
    """None takes the provider's."""


class Integers(_Strict):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    @model_validator(mode="after")
    def _ordered(self) -> Integers:
        if self.high < self.low:
            raise ValueError("high must not be below low")
        return self


class SamplerColumn(_Strict):
    """A value drawn for each row; exactly one of `values`, `categories`, `integers`, `uuid`."""

    type: Literal["sampler"] = "sampler"
    name: ColumnName
    values: list[Any] | None = Field(None, min_length=1)
    weights: list[float] | None = None
    """One per value; equal where left out."""
    categories: dict[str, float] | None = Field(None, min_length=1)
    """Value to weight: the short form of `values` with `weights`."""
    integers: Integers | None = None
    uuid: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> SamplerColumn:
        given = [
            self.values is not None,
            self.categories is not None,
            self.integers is not None,
            self.uuid,
        ]
        if sum(given) != 1:
            raise ValueError("a sampler needs exactly one of values, categories, integers, uuid")
        if self.weights is not None:
            if self.values is None:
                raise ValueError("weights go with values")
            if len(self.weights) != len(self.values):
                raise ValueError(
                    f"there are {len(self.weights)} weights for {len(self.values)} values"
                )
        weights = self.weights or list((self.categories or {}).values())
        if weights and (min(weights) < 0 or not 0 < sum(weights) < float("inf")):
            raise ValueError("weights must be 0 or more, and at least one of them above 0")
        return self

    def dependencies(self) -> tuple[str, ...]:
        return ()


class ExpressionColumn(_Strict):
    """Text rendered from other columns with a Jinja2 template."""

    type: Literal["expression"] = "expression"
    name: ColumnName
    template: str
    depends_on: list[str] = []

    @field_validator("template")
    @classmethod
    def _is_template(cls, value: str) -> str:
        template_variables(value)
        return value

    def dependencies(self) -> tuple[str, ...]:
        return _merged(template_variables(self.template), self.depends_on)


class LlmTextColumn(_Strict):
    """A model's answer to a prompt rendered from other columns."""

    type: Literal["llm_text"] = "llm_text"
    name: ColumnName
    model: str
    prompt: str
    system: str | None = None
    depends_on: list[str] = []

    @field_validator("prompt", "system")
    @classmethod
    def _is_template(cls, value: str | None) -> str | None:
        if value is not None:
            template_variables(value)
        return value

    def dependencies(self) -> tuple[str, ...]:
        variables = template_variables(self.prompt) | template_variables(self.system or "")
        return _merged(variables, self.depends_on)


class CustomColumn(_Strict):
    """A Python function of the row: `module:function` beside the workflow file, or a callable."""

    type: Literal["custom"] = "custom"
    name: ColumnName
    function: str | Callable[..., Any]
    depends_on: list[str] = []
    models: list[str] = []
    """Aliases that the function may call."""

    @field_validator("function")
    @classmethod
    def _reference(cls, value: str | Callable[..., Any]) -> str | Callable[..., Any]:
        if isinstance(value, str):
            module, _, function = value.partition(":")
            if not (function.isidentifier() and all(p.isidentifier() for p in module.split("."))):
                raise ValueError('function must be written as "module:function"')
        return value

    def dependencies(self) -> tuple[str, ...]:
        return _merged(set(), self.depends_on)


Column = Annotated[
    SamplerColumn | ExpressionColumn | LlmTextColumn | CustomColumn, Field(discriminator="type")
]


class RunSettings(_Strict):
    """Public knobs of a run; the request tuning left at None takes the engine's own policy."""

    buffer_size: int = Field(100, ge=1)
    """Rows in a row group."""
    max_concurrent_row_groups: int = Field(3, ge=1)
    max_in_flight_tasks: int = Field(256, ge=1)
    max_attempts: int = Field(5, ge=1)
    """Executions of one task before its row is dropped."""
    task_shares: Literal["strict_fair", "bounded_borrow"] | None = None
    """How columns share the task slots; None takes the engine's own choice, as below."""
    provider_aware: bool | None = None
    """Let work of a healthy provider go before work that would only wait at a pressed one."""
    decrease_factor: float | None = Field(None, gt=0, lt=1)
    increase_step: int | None = Field(None, ge=1)
    successes_until_increase: int | None = Field(None, ge=1)
    cooldown_seconds: float | None = Field(None, ge=0)
    startup_ramp_seconds: float | None = Field(None, ge=0)
    health_check: bool = False
    """Ask each model one short question first; one that does not answer ends the run."""
    recovery: RecoveryPolicy | None = None
    """How request limits recover after rate limits: `adaptive` or `published`."""

    @property
    def request_tuning(self) -> RequestAdmissionTuningConfig:
        return RequestAdmissionTuningConfig(
            self.decrease_factor,
            self.increase_step,
            self.successes_until_increase,
            self.cooldown_seconds,
            self.startup_ramp_seconds,
            self.recovery,
        )


class Workflow(_Strict):
    """A data set to be made. Every instance is consistent: names resolve, columns form a DAG."""

    name: str = Field(min_length=1, max_length=200)
    records: int = Field(ge=1, le=MOST_RECORDS)
    seed: int = 0
    providers: dict[Name, Provider] = {}
    models: dict[Name, Model] = {}
    columns: list[Column] = Field(min_length=1)
    run: RunSettings = RunSettings()

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
            for alias in _aliases(column):
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
        return ColumnGraph({c.name: c.dependencies() for c in self.columns})

    def column(self, name: str) -> Column:
        """Raises `KeyError` where there is none of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def request_timeout(self, alias: str) -> float:
        """Seconds that one request to this alias may take."""
        model = self.models[alias]
        return model.timeout_seconds or self.providers[model.provider].timeout_seconds


def _aliases(column: Column) -> Sequence[str]:
    if isinstance(column, LlmTextColumn):
        return [column.model]
    return column.models if isinstance(column, CustomColumn) else []


def _merged(variables: set[str], explicit: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(variables | set(explicit)))


def _known(what: str, names: Sequence[str] | dict[str, Any]) -> str:
    return f"known {what}: {', '.join(names)}" if names else f"the workflow declares no {what}"
