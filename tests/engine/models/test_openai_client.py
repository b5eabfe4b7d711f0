"""The OpenAI client over real HTTP on loopback, against the scripted server and raw answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.clock import LoopClock
from engine.errors import UserError
from engine.identity import RequestResourceKey
from engine.models.build import build_client
from engine.models.client import ModelRequest, ModelResponse, ProviderError
from engine.models.hints import retry_after_seconds
from engine.models.network import is_loopback
from engine.models.openai_client import OpenAIClient
from engine.models.provider_script import ProviderScript
from engine.models.reach import check_reachable
from engine.models.scripted import ScriptedClient
from engine.models.scripted_answers import scripted_text
from engine.workflow.schema import OpenAIProvider, ScriptedProvider
from tests.scripted_server import ScriptedServer

AT_ONCE = {"distribution": "constant", "mean": 0}
CHAT = '{"choices": [{"index": 0, "message": {"role": "assistant", "content": %s}}]}'


def request(prompt: str = "Hello", timeout: float | None = 20.0, **parts: Any) -> ModelRequest:
    resource = RequestResourceKey("alpha", "gen-8b", "chat")
    return ModelRequest(resource, "writer", prompt, timeout_seconds=timeout, **parts)


@asynccontextmanager
async def client_of(url: str, key: str | None = None) -> AsyncIterator[OpenAIClient]:
    client = OpenAIClient(url, key, LoopClock(asyncio.get_running_loop()), 40)
    try:
        yield client
    finally:
        await client.close()


def scripted(
    script: dict[str, Any], body: Callable[[OpenAIClient, ScriptedServer], Awaitable[Any]]
) -> Any:
    """Runs `body` with a client of a provider that plays `script`."""

    async def main() -> Any:
        played = ProviderScript.model_validate({"latency": AT_ONCE} | script)
        async with (
            ScriptedServer({"alpha": played}) as server,
            client_of(server.url("alpha")) as client,
        ):
            return await body(client, server)

    return asyncio.run(main())


def refused(script: dict[str, Any], sent: ModelRequest | None = None) -> ProviderError:
    """The error of the one request that goes out."""

    async def body(client: OpenAIClient, server: ScriptedServer) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await client.send(sent or request())
        assert server.requests["alpha"] == 1
        return caught.value

    error: ProviderError = scripted(script, body)
    return error


def raw(
    answer: str, key: str | None = None, status: str = "200 OK", kind: str = "application/json"
) -> tuple[ModelResponse | ProviderError, str]:
    """What the client makes of `answer`, and the head of the request that it sent."""

    async def main() -> tuple[ModelResponse | ProviderError, str]:
        heads: list[str] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
            body = answer.encode()
            writer.write(
                f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n"
                f"content-length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with client_of(f"http://127.0.0.1:{port}/v1", key) as client:
                try:
                    outcome: ModelResponse | ProviderError = await client.send(request())
                except ProviderError as error:
                    outcome = error
        return outcome, heads[0]

    return asyncio.run(main())


def test_an_answer_with_its_tokens() -> None:
    async def body(client: OpenAIClient, server: ScriptedServer) -> ModelResponse:
        return await client.send(
            request("Name a river.", system="Be brief.", temperature=0.1, max_tokens=9)
        )

    answer = scripted({}, body)
    assert (answer.text, answer.prompt_tokens) == (scripted_text("Name a river."), 5)
    assert (answer.verdict, answer.finish_reason) == (None, "stop")
    assert answer.completion_tokens == len(answer.text.split())


def test_many_at_once_over_one_client() -> None:
    async def body(client: OpenAIClient, server: ScriptedServer) -> list[ModelResponse]:
        return await asyncio.gather(*(client.send(request(str(i))) for i in range(40)))

    answers = scripted({"latency": {"distribution": "constant", "mean": 0.05}}, body)
    assert [a.text for a in answers] == [scripted_text(str(i)) for i in range(40)]


def test_a_429_brings_its_retry_after_and_is_not_repeated() -> None:
    error = refused({"rate_limits": [{"retry_after": 1.5}]})
    assert (error.kind, error.error_type) == ("rate_limited", "RateLimited")
    assert error.retry_after_seconds == 1.5
    assert error.retryable


def test_a_429_without_retry_after() -> None:
    assert refused({"rate_limits": [{"from": 0}]}).retry_after_seconds is None


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        *((status, "invalid_request") for status in (400, 422)),
        *((status, "auth") for status in (401, 403)),
        (402, "quota_spent"),
        (404, "wrong_address"),
        *((status, "server_error") for status in (408, 409, 500, 502, 503)),
        (529, "overload"),
    ],
)
def test_other_refusals(status: int, failure: str) -> None:
    error = refused({"errors": [{"status": status}]})
    assert (error.failure, error.details.status) == (failure, status)
    assert str(status) in error.message


def test_no_answer_in_time() -> None:
    error = refused({"timeouts": [{"from": 0}]}, request(timeout=0.1))
    assert error.kind == "provider_timeout"
    assert error.retryable
    assert "0.1 s" in error.message


def test_a_caller_who_gives_up_frees_the_place_at_the_server() -> None:
    async def body(client: OpenAIClient, server: ScriptedServer) -> None:
        with pytest.raises(ProviderError, match="no answer"):
            await client.send(request(timeout=0.1))
        await served(server, 0)
        waiting = asyncio.create_task(client.send(request()))
        await served(server, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await served(server, 0)

    scripted({"timeouts": [{"from": 0}]}, body)


async def served(server: ScriptedServer, count: int) -> None:
    """Until the server has this many requests in service."""
    async with asyncio.timeout(10):
        while server.in_service("alpha") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_nobody_listens() -> None:
    async def main() -> None:
        async with client_of(f"http://127.0.0.1:{free_port()}/v1") as client:
            await client.send(request())

    with pytest.raises(ProviderError) as caught:
        asyncio.run(main())
    assert (caught.value.kind, caught.value.error_type) == ("provider_failure", "ConnectionFailed")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("answer", "kind", "error_type"),
    [
        ("{}", "application/json", "MalformedAnswer"),
        ('{"choices": []}', "application/json", "MalformedAnswer"),
        ("[1, 2]", "application/json", "MalformedAnswer"),
        ("{broken", "application/json", "MalformedAnswer"),
        ("<html>Sign in</html>", "text/html", "MalformedAnswer"),
        ("", "application/json", "MalformedAnswer"),
    ],
)
def test_an_answer_that_is_none(answer: str, kind: str, error_type: str) -> None:
    error, _ = raw(answer, kind=kind)
    assert isinstance(error, ProviderError)
    assert (error.kind, error.error_type) == ("provider_failure", error_type)
    assert error.retryable


def test_an_answer_without_usage() -> None:
    assert raw(CHAT % '"Hi"')[0] == ModelResponse("Hi", None, None)


def test_the_body_of_an_error_and_the_key_stay_out_of_messages() -> None:
    error, head = raw('{"error": {"message": "sk-secret"}}', "sk-secret", "401 Unauthorized")
    assert isinstance(error, ProviderError)
    assert "sk-secret" not in str(error) + error.message
    assert "authorization: bearer sk-secret" in head
    assert error.failure == "auth"


def test_spent_quota_is_no_rate_limit() -> None:
    error, _ = raw('{"error": {"code": "insufficient_quota"}}', None, "429 Too Many Requests")
    assert isinstance(error, ProviderError)
    assert (error.kind, error.error_type, error.scope) == (
        "provider_failure",
        "QuotaSpent",
        "person",
    )


def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-another-host")
    _, head = raw(CHAT % '"Hi"')
    assert "authorization" not in head
    assert "sk-for-another-host" not in head


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:16:50 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, wall=1000.0) == seconds


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]/v1", True),
        ("http://localhost/v1", True),
        ("http://0.0.0.0:8000/v1", True),
        ("http://[::]:8000/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://10.0.0.3/v1", False),
    ],
)
def test_what_counts_as_loopback(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


def test_clients_are_built_from_providers() -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        assert isinstance(build_client("p", ScriptedProvider(), clock), ScriptedClient)
        provider = OpenAIProvider(base_url="http://127.0.0.1:1/v1", api_key_env="ALPHA_KEY")
        client = build_client("p", provider, clock, environment={"ALPHA_KEY": "k"})
        assert isinstance(client, OpenAIClient)
        await client.close()
        with pytest.raises(UserError, match=r'provider "p" needs its key in .* ALPHA_KEY'):
            build_client("p", provider, clock, environment={"ALPHA_KEY": " "})

    asyncio.run(main())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_any_http_answer_is_reachable() -> None:
    async def main() -> None:
        async with ScriptedServer({"alpha": ProviderScript()}) as server:
            there = OpenAIProvider(base_url=server.url("alpha"))
            await asyncio.to_thread(check_reachable, "alpha", there)
            lost = OpenAIProvider(base_url=server.url("alpha") + "/no/such/place")
            await asyncio.to_thread(check_reachable, "alpha", lost)
            assert server.requests["alpha"] == 0

    asyncio.run(main())
    check_reachable("beta", ScriptedProvider())


def test_an_unreachable_provider_is_named_with_its_address() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(UserError) as caught:
        check_reachable("alpha", OpenAIProvider(base_url=url))
    assert str(caught.value) == (f'provider "alpha" can\'t be reached at {url}: Connection refused')


def test_a_host_without_a_name() -> None:
    with pytest.raises(UserError, match=r"can't be reached at http://no-such-host\.invalid/v1"):
        check_reachable("alpha", OpenAIProvider(base_url="http://no-such-host.invalid/v1"))


def test_something_that_does_not_speak_http() -> None:
    async def main() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail ready\r\n")
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            provider = OpenAIProvider(base_url=f"http://127.0.0.1:{port}/v1")
            with pytest.raises(UserError) as caught:
                await asyncio.to_thread(check_reachable, "alpha", provider)
        return str(caught.value)

    assert "does not speak HTTP" in asyncio.run(main())


def test_a_list_of_models_that_never_comes_is_no_reason_not_to_run() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            provider = OpenAIProvider(base_url=f"http://127.0.0.1:{port}/v1")
            await asyncio.to_thread(check_reachable, "alpha", provider, 0.1)

    asyncio.run(main())
