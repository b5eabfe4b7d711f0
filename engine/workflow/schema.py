"""`Workflow`: what the user wants made, as pydantic models that refuse anything unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.events.failures import AnswerAction, AnswerVerdict
from engine.request_admission.config import RecoveryPolicy, RequestAdmissionTuningConfig
from engine.workflow.graph import ColumnGraph, find_cycle
from engine.workflow.provider_script import ProviderScript
from engine.workflow.templates import is_template_name, template_variables

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]
_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_OPERATIONS = ("/chat/completions", "/completions", "/responses", "/models")
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
    api_key_header: str | None = Field(None, pattern=_HEADER_NAME)
    """Header that carries the key as it is, such as `api-key`; None for `Authorization: Bearer`."""
    headers: dict[Annotated[str, Field(pattern=_HEADER_NAME)], str] = {}
    """Sent with each request. Secrets belong in the environment, not here."""
    query: dict[str, str] = {}
    """Parameters of the address, such as `api-version`."""
    timeout_seconds: float = Field(120.0, gt=0)
    max_parallel_requests: int | None = Field(None, ge=1)
    """Most requests in flight over all models of the provider."""
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    """Tokens in and out, over all models of the provider."""

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not (text.isascii() and (text.isprintable() or not text)):
                raise ValueError(f'the header "{name}" holds characters that no header takes')
        return value

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
        if "@" in parts.netloc or parts.fragment:
            raise ValueError(
                "base_url must not carry a user or a password: keys belong in the environment "
                "(api_key_env)"
            )
        if parts.query:
            raise ValueError(
                "base_url must not carry a query: parameters such as api-version belong in "
                "`query` of the provider, keys in the environment (api_key_env)"
            )
        value = value.rstrip("/")
        for ending in _OPERATIONS:
            if value.endswith(ending):
                raise ValueError(
                    f"base_url must not name an operation: leave {ending} out, "
                    f"{value.removesuffix(ending)}"
                )
        return value


class ScriptedProvider(ProviderScript):
    """A provider played by headgate itself, from a script."""

    type: Literal["scripted"] = "scripted"
    timeout_seconds: float = Field(120.0, gt=0)


Provider = Annotated[OpenAIProvider | ScriptedProvider, Field(discriminator="type")]


class TokenPrice(_Strict):
    """US dollars for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached_input: float | None = Field(None, ge=0)
    """Of tokens of the prompt from the provider's cache; None for the price of others."""


class Model(_Strict):
    """An alias: one model of one provider, and how to call it."""

    provider: str
    model: str = Field(min_length=1)
    max_parallel_requests: int = Field(8, ge=1)
    temperature: float | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    """What some models want in place of `max_tokens`; it counts reasoning as well."""
    top_p: float | None = Field(None, ge=0, le=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    extra_body: dict[str, Any] = {}
    """Further fields of the request's body, as they are."""
    stream: bool = False
    """Take the answer in pieces, for gateways that cut silent connections; records the time to
    the first token."""
    timeout_seconds: float | None = Field(None, gt=0)
    """None takes the provider's."""
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    """Tokens in and out."""
    input_tokens_per_minute: float | None = Field(None, gt=0)
    output_tokens_per_minute: float | None = Field(None, gt=0)
    price: TokenPrice | None = None
    """Where the provider does not tell what a call costs; None where that is not known."""

    @model_validator(mode="after")
    def _one_token_limit(self) -> Model:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("set max_tokens or max_completion_tokens, not both")
        taken = {"model", "messages", "stream", "stream_options"} & self.extra_body.keys()
        if taken:
            raise ValueError(f"extra_body must not hold {', '.join(sorted(taken))}")
        return self

    def request_options(self) -> dict[str, Any]:
        """The fields of a request's body besides model, messages, temperature and max_tokens."""
        names = (
            "max_completion_tokens",
            "top_p",
            "stop",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "reasoning_effort",
            "response_format",
        )
        options = {name: getattr(self, name) for name in names}
        given = {name: value for name, value in options.items() if value is not None}
        return given | self.extra_body


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
    on_refusal: AnswerAction | None = None
    """What becomes of a refusal, and so on; None takes the engine's default. `retry` asks once
    more, then drops the row."""
    on_filtered: AnswerAction | None = None
    on_truncated: AnswerAction | None = None
    on_empty: AnswerAction | None = None
    on_reasoning_only: AnswerAction | None = None
    on_thinking: AnswerAction | None = None

    def answer_actions(self) -> dict[AnswerVerdict, AnswerAction]:
        """What becomes of answers that are not as they should be, where the column says so."""
        given: dict[AnswerVerdict, AnswerAction | None] = {
            "refusal": self.on_refusal,
            "filtered_answer": self.on_filtered,
            "truncated": self.on_truncated,
            "empty_answer": self.on_empty,
            "reasoning_only": self.on_reasoning_only,
            "thinking_in_text": self.on_thinking,
        }
        return {verdict: action for verdict, action in given.items() if action is not None}

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
    stop_seconds: float = Field(10.0, ge=0)
    """Most seconds that running tasks may go on once the run stops."""
    stop_at_drop_share: float | None = Field(0.5, ge=0, le=1)
    """A run stops when more than this share of the last 100 tasks of a column were dropped; null
    for no bound."""
    max_retry_after_seconds: float | None = Field(None, gt=0)
    """Longest wait that a provider may ask for; a longer one is a quota that is used up."""
    outage_stop_seconds: float | None = Field(None, gt=0)
    """A run stops when a provider that it needs has been out for longer."""
    quota_wait_seconds: float | None = Field(None, ge=0)
    """A quota that comes back within this time is waited for; else the run stops."""
    max_tokens: int | None = Field(None, ge=1)
    """The run stops, and can be resumed, once it has used so many tokens, in and out."""
    max_cost: float | None = Field(None, gt=0)
    """The same for US dollars. A call of unknown cost stops the run."""
    wait_for_quota: bool = False
    """Wait for a quota however long it takes."""

    @property
    def request_tuning(self) -> RequestAdmissionTuningConfig:
        return RequestAdmissionTuningConfig(
            self.decrease_factor,
            self.increase_step,
            self.successes_until_increase,
            self.cooldown_seconds,
            self.startup_ramp_seconds,
            self.recovery,
            self.max_retry_after_seconds,
            self.outage_stop_seconds,
            self.quota_wait_seconds,
            self.wait_for_quota or None,
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

    def key_variables(self) -> dict[str, str]:
        """Variables of the environment that hold keys, by provider."""
        return {
            name: provider.api_key_env
            for name, provider in self.providers.items()
            if isinstance(provider, OpenAIProvider) and provider.api_key_env is not None
        }

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
