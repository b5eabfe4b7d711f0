"""`OpenAIClient`: any endpoint that speaks the OpenAI API, over aiohttp.

It sends each request once: each attempt must pass request admission. What it learns, since every
later request would meet it again: where a redirect on the same host leads, under which name a model
wants the token limit, and which of the options that a request can do without it does not take.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import msgspec

from engine.clock import Clock
from engine.models.chat import malformed, read_answer, request_body
from engine.models.client import ModelRequest, ModelResponse, Operation, ProviderError
from engine.models.embeddings import embedding_body, read_embedding
from engine.models.hints import budgets_of
from engine.models.network import client_ssl_context
from engine.models.refusals import holds_error, refusal, sanitised
from engine.models.streaming import StreamedAnswer

if TYPE_CHECKING:
    import aiohttp

SPARE_CONNECTIONS = 8
"""Beyond the sum of the caps: connections that close while new ones open."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
KEEP_ALIVE_SECONDS = 30.0
_MAX_REDIRECTS = 3
_PATHS: dict[Operation, str] = {"chat": "chat/completions", "embedding": "embeddings"}
_RENAMED = {"max_tokens": "max_completion_tokens"}
"""Options that some models want under another name."""


class OpenAIClient:
    """A `ModelClient` for one provider.

    Args:
        base_url: Its address, without `/chat/completions`.
        api_key: Its key; None for an endpoint without one.
        clock: The clock of the run.
        max_connections: Most requests that admission lets out at once.
        headers: Sent with each request.
        query: Parameters of the address, such as `api-version`.
        proxy: The proxy to use.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        clock: Clock,
        max_connections: int,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        proxy: str | None = None,
    ) -> None:
        import aiohttp
        from yarl import URL

        self._aiohttp = aiohttp
        self._urls = {
            operation: URL(f"{base_url}/{path}").update_query(dict(query or {}))
            for operation, path in _PATHS.items()
        }
        self._clock = clock
        self._key = api_key or ""
        self._proxy = proxy
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._headers.update(headers or {})
        self._limit = max_connections + SPARE_CONNECTIONS
        self._tls = base_url.startswith("https:") or (proxy or "").startswith("https:")
        self._renamed: dict[str, dict[str, str | None]] = {}
        """By model: options under another name, or None for those that are left out."""
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: ModelRequest) -> ModelResponse:
        allowed = asyncio.timeout(request.timeout_seconds)
        try:
            async with allowed:
                return await self._send_adapted(request)
        except TimeoutError:
            if not allowed.expired():
                raise
            raise ProviderError(
                "timeout", "ProviderTimeout", f"no answer within {request.timeout_seconds:g} s"
            ) from None

    async def _send_adapted(self, request: ModelRequest) -> ModelResponse:
        """Send the request with the names that its model wants for its options."""
        model = request.resource.model_id
        renamed = self._renamed.get(model, {})
        try:
            return await self._send(request, renamed)
        except ProviderError as error:
            option = self._refused_option(request, error, renamed)
            if option is None:
                raise
            known = {**self._renamed.get(model, {}), option: _RENAMED.get(option)}
            self._renamed[model] = known
            return await self._send(request, known)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _refused_option(
        self, request: ModelRequest, error: ProviderError, known: Mapping[str, str | None]
    ) -> str | None:
        """The option that the model refuses, if it has another name or the request can do without
        it. `known`: what the request was sent with."""
        param = error.details.param or ""
        if error.failure == "bad_option":
            for option in _RENAMED:
                sent = option in request.options or (
                    option == "max_tokens" and request.max_tokens is not None
                )
                if sent and option not in known and (param == option or option in error.message):
                    return option
        if error.failure in ("bad_option", "invalid_request"):
            for option in sorted(request.dispensable & request.options.keys() - known.keys()):
                if param.startswith(option) or option in error.message:
                    return option
        return None

    async def _send(
        self, request: ModelRequest, renamed: Mapping[str, str | None]
    ) -> ModelResponse:
        session = self._session or self._open()
        client = self._aiohttp
        embeds = request.operation == "embedding"
        body = embedding_body(request, renamed) if embeds else request_body(request, renamed)
        began = self._clock.monotonic()
        try:
            for _ in range(_MAX_REDIRECTS):
                async with session.post(
                    self._urls[request.operation],
                    data=body,
                    proxy=self._proxy,
                    allow_redirects=False,
                ) as response:
                    if 300 <= response.status < 400 and self._follow(request.operation, response):
                        continue
                    return await self._read(response, request, began)
        except ProviderError:
            raise
        except (client.ClientPayloadError, client.ContentTypeError):
            raise ProviderError(
                "connection", "ConnectionFailed", "the connection broke within the answer"
            ) from None
        except client.ClientConnectorCertificateError:
            raise ProviderError(
                "connection", "CertificateRefused", "the provider's certificate is not valid"
            ) from None
        except (client.ClientError, OSError, asyncio.IncompleteReadError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, client.ClientError):
                raise
            raise ProviderError(
                "connection",
                "ConnectionFailed",
                f"the connection to the provider failed{_cause(error)}",
            ) from None
        raise ProviderError("wrong_address", "WrongAddress", "the address redirects in a circle")

    async def _read(
        self, response: aiohttp.ClientResponse, request: ModelRequest, began: float
    ) -> ModelResponse:
        private = (*request.texts, self._key)
        status = response.status
        if status < 300 and request.stream and "event-stream" in response.content_type:
            streamed = StreamedAnswer(began, self._clock.monotonic)
            async for line in response.content:
                streamed.feed(line)
            answer_body: Any = streamed.error
            if answer_body is None:
                return streamed.response(request)
        else:
            answer_body = _decoded(await _whole_body(response.content))
        if not 200 <= status < 300 or holds_error(answer_body):
            wall = self._clock.wall()
            raise refusal(status, _lower(response), answer_body, wall, private)
        if answer_body is None or isinstance(answer_body, str):
            title = sanitised(_title(answer_body or ""), private)
            raise malformed(f': "{title}"' if title else "")
        embeds = request.operation == "embedding"
        answer = read_embedding(answer_body) if embeds else read_answer(answer_body, request)
        if any(b"ratelimit" in name.lower() for name, _ in response.raw_headers):
            budgets = budgets_of(_lower(response), self._clock.wall())
            return dataclasses.replace(answer, budgets=budgets)
        return answer

    def _follow(self, operation: Operation, response: aiohttp.ClientResponse) -> bool:
        """Take the address of a redirect on the same host for this and all later requests."""
        from yarl import URL

        location = response.headers.get("Location")
        if not location:
            return False
        url = self._urls[operation]
        target = URL(urljoin(str(url), location))
        if target.origin() != url.origin():
            raise ProviderError(
                "wrong_address",
                "WrongAddress",
                f"the provider redirects to another host ({target.host}): set base_url to it",
            )
        self._urls[operation] = target
        return True

    def _open(self) -> aiohttp.ClientSession:
        client = self._aiohttp
        connector = client.TCPConnector(
            limit=self._limit,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            ssl=client_ssl_context() if self._tls else False,
        )
        self._session = client.ClientSession(
            connector=connector,
            headers=self._headers,
            # The executor has its own time limits.
            timeout=client.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=client.DummyCookieJar(),
            trust_env=False,
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )
        return self._session


async def _whole_body(content: aiohttp.StreamReader) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise malformed(f": it is longer than {MAX_ANSWER_BYTES >> 20} MB")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _decoded(data: bytes) -> Any:
    """The JSON of a body; its text where it is none; None where it is empty.

    Raises `ProviderError` for bytes that are no UTF-8.
    """
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise malformed(": it is not UTF-8") from None
    try:
        return json.loads(text)  # lone surrogates and numbers beyond 64 bits, which msgspec refuses
    except (ValueError, RecursionError):
        return text


def _title(text: str) -> str:
    """The title of a page, or the beginning of a text."""
    start = text.lower().find("<title>")
    if start >= 0:
        end = text.lower().find("</title>", start)
        return text[start + 7 : end] if end > 0 else ""
    return "" if "<" in text[:200] else text[:100]


def _cause(error: BaseException) -> str:
    reason = getattr(error, "os_error", error)
    if isinstance(reason, OSError) and reason.strerror and "Cannot connect" not in reason.strerror:
        return f": {sanitised(reason.strerror)}"
    return ""


def _lower(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The headers by their names in lower case."""
    return {name.lower(): value for name, value in response.headers.items()}
