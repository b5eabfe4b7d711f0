"""What lies between the client and a provider: TLS with an authority of its own, proxies,
connections that are used again, compressed answers. Real sockets on loopback."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.clock import LoopClock
from engine.identity import RequestResourceKey
from engine.models.client import ModelRequest, ProviderError
from engine.models.openai_client import MAX_ANSWER_BYTES, OpenAIClient

ANSWER = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}}]}'
OPENSSL = shutil.which("openssl")


def request(prompt: str = "Hello") -> ModelRequest:
    resource = RequestResourceKey("alpha", "m", "chat")
    return ModelRequest(resource, "writer", prompt, timeout_seconds=20.0)


class Server:
    """Counts connections and requests, and answers each with the same bytes."""

    def __init__(self, body: bytes = ANSWER, headers: str = "", close_after: int = 0) -> None:
        self.body = body
        self.headers = headers
        self.close_after = close_after
        self.connections = 0
        self.heads: list[str] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        served = 0
        try:
            while not self.close_after or served < self.close_after:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line.split(":")[1])
                    for line in head.lower().splitlines()
                    if line.startswith("content-length:")
                )
                await reader.readexactly(length)
                self.heads.append(head)
                served += 1
                lines = f"HTTP/1.1 200 OK\r\ncontent-length: {len(self.body)}\r\n{self.headers}"
                writer.write(lines.encode() + b"\r\n" + self.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Proxy:
    """An HTTP proxy: a tunnel for CONNECT, and whole addresses for the rest, all to one port."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.asked: list[str] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            back.write(head)
        await asyncio.gather(_pipe(reader, back), _pipe(there, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


def with_client(
    server: Server,
    body: Callable[[OpenAIClient], Awaitable[None]],
    *,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    through: bool = False,
) -> list[str]:
    """Runs `body` with a client of this server; returns what a proxy was asked for."""

    async def main() -> list[str]:
        async with server.serving(context), Proxy(server.port).serving() as proxy:
            scheme = "http" if context is None else "https"
            client = OpenAIClient(
                f"{scheme}://{host}:{server.port}/v1",
                None,
                LoopClock(asyncio.get_running_loop()),
                40,
                proxy=f"http://127.0.0.1:{proxy.port}" if through else None,
            )
            try:
                await body(client)
            finally:
                await client.close()
            return proxy.asked

    return asyncio.run(main())


async def answered(client: OpenAIClient) -> None:
    assert (await client.send(request())).text == "fine"


# TLS


def _openssl(*arguments: str, cwd: Path) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, and a key and certificate for `localhost` that it signed."""
    if OPENSSL is None:
        pytest.skip("certificates are made with the openssl command, which is not here")
    folder = tmp_path_factory.mktemp("authority")
    name = ("-subj", "/CN=authority of the test")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    _openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", *name, cwd=folder)
    made = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "request.pem")
    _openssl(*made, "-subj", "/CN=localhost", cwd=folder)
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    signed = ("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key")
    more = ("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "cert.pem")
    _openssl(*signed, *more, cwd=folder)
    return folder


@pytest.fixture
def server_context(authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    return context


@pytest.mark.parametrize("through", [False, True], ids=["directly", "through a proxy"])
def test_a_certificate_of_an_authority_that_the_environment_names(
    authority: Path,
    server_context: ssl.SSLContext,
    through: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    server = Server()
    asked = with_client(server, answered, context=server_context, host="localhost", through=through)
    assert len(server.heads) == 1
    assert asked == ([f"CONNECT localhost:{server.port} HTTP/1.1"] if through else [])


@pytest.mark.parametrize(
    ("known", "host"), [(False, "localhost"), (True, "127.0.0.1")], ids=["unknown", "other host"]
)
def test_a_certificate_that_proves_nothing_is_refused_before_anything_is_sent(
    authority: Path,
    server_context: ssl.SSLContext,
    known: bool,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))

    async def refused(client: OpenAIClient) -> None:
        with pytest.raises(ProviderError, match="certificate is not valid") as caught:
            await client.send(request())
        assert caught.value.error_type == "CertificateRefused"

    server = Server()
    with_client(server, refused, context=server_context, host=host)
    assert server.heads == []


# Proxies


def test_a_proxy_is_asked_for_the_whole_address() -> None:
    server = Server()
    (asked,) = with_client(server, answered, through=True)
    assert asked == f"POST http://127.0.0.1:{server.port}/v1/chat/completions HTTP/1.1"


# Connections


def test_calls_one_after_another_use_one_connection() -> None:
    async def body(client: OpenAIClient) -> None:
        for _ in range(50):
            await answered(client)

    server = Server()
    with_client(server, body)
    assert (server.connections, len(server.heads)) == (1, 50)


def test_calls_at_once_use_no_more_connections_than_calls() -> None:
    async def body(client: OpenAIClient) -> None:
        for _ in range(10):
            await asyncio.gather(*(answered(client) for _ in range(8)))

    server = Server()
    with_client(server, body)
    assert server.connections <= 8
    assert len(server.heads) == 80


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    async def body(client: OpenAIClient) -> None:
        for _ in range(10):
            await answered(client)
            await asyncio.sleep(0.01)  # the end of the connection has to arrive

    server = Server(close_after=1)
    with_client(server, body)
    assert (server.connections, len(server.heads)) == (10, 10)


# Compression


@pytest.mark.parametrize(
    ("coding", "packed"),
    [("gzip", gzip.compress(ANSWER)), ("deflate", zlib.compress(ANSWER))],
    ids=["gzip", "deflate"],
)
def test_compressed_answers(coding: str, packed: bytes) -> None:
    server = Server(packed, f"content-encoding: {coding}\r\n")
    with_client(server, answered)
    assert coding in server.heads[0].lower()


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(ANSWER)[:30], ANSWER, gzip.compress(b"x" * (MAX_ANSWER_BYTES + 1))],
    ids=["cut", "not compressed", "too long"],
)
def test_compressed_answers_that_are_none(packed: bytes) -> None:
    async def failed(client: OpenAIClient) -> None:
        with pytest.raises(ProviderError) as caught:
            await client.send(request())
        assert caught.value.failure in ("connection", "malformed_answer")

    with_client(Server(packed, "content-encoding: gzip\r\n"), failed)
