"""What a workflow says of its providers and models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from engine.models.provider_script import ProviderScript
from engine.strict_model import StrictModel

_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_OPERATIONS = ("/chat/completions", "/completions", "/responses", "/models", "/embeddings")


class OpenAIProvider(StrictModel):
    """Any endpoint that speaks the OpenAI API; its key stays in the environment."""

    type: Literal["openai"] = "openai"
    """An endpoint that is reached over HTTP."""
    base_url: str = "https://api.openai.com/v1"
    """Address of the endpoint, without the name of an operation; it usually ends in `/v1`."""
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key; None for an endpoint without one."""
    api_key_header: str | None = Field(None, pattern=_HEADER_NAME)
    """Header that carries the key as it is, such as `api-key`; None for `Authorization: Bearer`."""
    headers: dict[Annotated[str, Field(pattern=_HEADER_NAME)], str] = Field({})
    """Sent with each request. Secrets belong in the environment, not here."""
    query: dict[str, str] = Field({})
    """Parameters of the address, such as `api-version`."""
    timeout_seconds: float = Field(120.0, gt=0)
    """Most seconds for one answer."""
    max_parallel_requests: int | None = Field(None, ge=1)
    """Most requests in flight over all models of the provider."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Most requests per minute, over all models of the provider."""
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
    """A provider inside the process."""
    timeout_seconds: float = Field(120.0, gt=0)
    """Most seconds for one answer."""


Provider = Annotated[OpenAIProvider | ScriptedProvider, Field(discriminator="type")]


class SamplingParameters(StrictModel):
    """How a model is asked to answer; a column may say it for itself. None leaves it out."""

    temperature: float | None = None
    """Randomness of the answer."""
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of an answer."""
    max_completion_tokens: int | None = Field(None, ge=1)
    """What some models want in place of `max_tokens`; it counts reasoning as well."""
    top_p: float | None = Field(None, ge=0, le=1)
    """Share of the likeliest tokens that are drawn from."""
    stop: str | list[str] | None = None
    """Texts at which an answer ends."""
    seed: int | None = None
    """Seed that is sent to the endpoint."""
    presence_penalty: float | None = None
    """Makes words that have occurred less likely."""
    frequency_penalty: float | None = None
    """Makes words less likely the more often they have occurred."""
    reasoning_effort: str | None = None
    """How long a reasoning model may think, in its own words."""
    response_format: dict[str, Any] | None = None
    """Format of the answer, as the endpoint wants it."""
    extra_body: dict[str, Any] = Field({})
    """Further fields of the request's body, as they are."""
    timeout_seconds: float | None = Field(None, gt=0)
    """Most seconds for one answer; None takes the next outer one: the model's, the provider's."""

    _NOT_IN_OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"temperature", "max_tokens", "extra_body", "timeout_seconds"}
    )

    @model_validator(mode="after")
    def _single_token_limit(self) -> SamplingParameters:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("set max_tokens or max_completion_tokens, not both")
        taken = {"model", "messages", "stream", "stream_options"} & self.extra_body.keys()
        if taken:
            raise ValueError(f"extra_body must not hold {', '.join(sorted(taken))}")
        return self

    def request_options(self) -> dict[str, Any]:
        """The fields of a request's body besides model, messages, temperature and max_tokens."""
        names = SamplingParameters.model_fields.keys() - self._NOT_IN_OPTIONS
        options = {name: getattr(self, name) for name in sorted(names)}
        options_given = {name: value for name, value in options.items() if value is not None}
        return options_given | self.extra_body


class TokenPrice(StrictModel):
    """US dollars for a million tokens."""

    input: float = Field(ge=0)
    """Of the prompt."""
    output: float = Field(ge=0)
    """Of the answer."""
    cached_input: float | None = Field(None, ge=0)
    """Of tokens of the prompt from the provider's cache; None for the price of others."""


class Model(SamplingParameters):
    """An alias: one model of one provider, and how to call it."""

    provider: str
    """Name of a provider of the workflow."""
    model: str = Field(min_length=1)
    """Name of the model at the provider."""
    max_parallel_requests: int = Field(8, ge=1)
    """Most requests in flight; the smallest of all aliases of one model holds for all of them."""
    stream: bool = False
    """Take the answer in pieces, for gateways that cut silent connections; records the time to
    the first token."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Most requests per minute."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """Tokens in and out."""
    input_tokens_per_minute: float | None = Field(None, gt=0)
    """Tokens in."""
    output_tokens_per_minute: float | None = Field(None, gt=0)
    """Tokens out."""
    price: TokenPrice | None = None
    """Where the provider does not tell what a call costs; None where that is not known."""
