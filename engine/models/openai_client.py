"""`OpenAIClient`: any endpoint that speaks the OpenAI API, through the `openai` package.

The package is imported when a client is made, not with this module. Its own retries are off: each
attempt must pass request admission.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from engine.clock import Clock
from engine.models.client import ModelRequest, ModelResponse, ProviderError

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

SPARE_CONNECTIONS = 8
"""Beyond the sum of the caps: connections that close while new ones open."""


class OpenAIClient:
    """A `ModelClient` for one provider."""

    def __init__(
        self, base_url: str, api_key: str | None, clock: Clock, max_connections: int
    ) -> None:
        """`max_connections` is the most requests that admission lets out at once."""
        import openai

        limit = max_connections + SPARE_CONNECTIONS
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
            max_connections=limit, max_keepalive_connections=limit
        )
        self._openai = openai
        self._clock = clock
        self._headers = {} if api_key else {"Authorization": openai.Omit()}
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            # The package insists on a key, and would take OPENAI_API_KEY, meant for another host.
            api_key=api_key or "none",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, trust_env=not is_loopback(base_url)
            ),
        )

    async def send(self, request: ModelRequest) -> ModelResponse:
        openai = self._openai
        messages: list[ChatCompletionMessageParam] = []
        if request.system is not None:
            messages.append({"role": "system", "content": request.system})
        messages.append({"role": "user", "content": request.prompt})
        try:
            completion = await self._client.chat.completions.create(
                model=request.resource.model_id,
                messages=messages,
                temperature=openai.omit if request.temperature is None else request.temperature,
                max_tokens=openai.omit if request.max_tokens is None else request.max_tokens,
                timeout=request.timeout_seconds,
                extra_headers=self._headers,
            )
        except openai.APITimeoutError:
            limit = f" within {request.timeout_seconds:g} s" if request.timeout_seconds else ""
            raise ProviderError(
                "provider_timeout", "ProviderTimeout", f"no answer{limit}"
            ) from None
        except openai.APIStatusError as error:
            raise self._refusal(error.status_code, error.response.headers, error.code) from None
        except openai.APIConnectionError:
            raise ProviderError(
                "provider_failure", "ConnectionFailed", "the connection to the provider failed"
            ) from None
        except (openai.APIError, json.JSONDecodeError):
            raise _malformed() from None
        return _response(completion)

    async def close(self) -> None:
        await self._client.close()

    def _refusal(self, status: int, headers: Mapping[str, str], code: str | None) -> ProviderError:
        wait = retry_after_seconds(headers, self._clock.wall())
        if status == 429:
            spent = code == "insufficient_quota"
            return ProviderError(
                "rate_limited",
                "QuotaSpent" if spent else "RateLimited",
                "the provider answered 429 "
                + ("(the account has no quota left)" if spent else "(too many requests)"),
                retry_after_seconds=wait,
                retryable=not spent,
            )
        return ProviderError(
            "provider_failure",
            f"HTTP{status}",
            f"the provider answered {status}{_MEANINGS.get(status, '')}",
            retry_after_seconds=wait,
            retryable=status >= 500 or status in (408, 409),
        )


_MEANINGS = {
    400: " (it does not accept this request)",
    401: " (the key is missing or wrong)",
    403: " (no permission)",
    404: " (no such model or address)",
}


def retry_after_seconds(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds to wait from now (`wall`, Unix seconds), never negative; None if not said."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall)
    except (ValueError, OverflowError):
        return None


def is_loopback(url: str) -> bool:
    """Whether the host is this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _response(completion: Any) -> ModelResponse:
    # Some endpoints answer 200 with something else; the package hands it over unchecked.
    try:
        text = completion.choices[0].message.content
    except (AttributeError, IndexError, TypeError):
        raise _malformed() from None
    if not isinstance(text, str):
        raise ProviderError("provider_failure", "NoText", "the provider's answer holds no text")
    usage = getattr(completion, "usage", None)
    return ModelResponse(
        text, getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    )


def _malformed() -> ProviderError:
    return ProviderError(
        "provider_failure", "MalformedAnswer", "the provider's answer is no chat completion"
    )
