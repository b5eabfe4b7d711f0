"""`ScriptedServer`: scripted providers behind real HTTP on loopback, in the OpenAI dialect.

In a program of its own: `python -m engine.models.scripted_server SCRIPT.yaml`, where the file maps
provider names to scripts; `--log FILE` writes a line of JSON for each chat request. A script that
is `PUT` to `/NAME/script` as JSON takes the place of the provider's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import yaml
from pydantic import TypeAdapter, ValidationError

from engine.clock import LoopClock
from engine.errors import UserError
from engine.models.script import ProviderScript, Reply, ScriptPlayer

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Served:
    """One chat request as the server saw it. Times are the server's monotonic seconds."""

    provider: str
    model: str
    outcome: str
    """The script's word, or `abandoned` where the caller hung up before it."""
    arrived_at: float
    answered_at: float


class ScriptedServer:
    """Serves each script under `http://127.0.0.1:PORT/NAME/v1` between enter and exit."""

    def __init__(
        self,
        scripts: Mapping[str, ProviderScript],
        port: int = 0,
        on_served: Callable[[Served], None] | None = None,
    ) -> None:
        self._players = {name: ScriptPlayer(script) for name, script in scripts.items()}
        self._wanted_port = port
        self._on_served = on_served
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self.port = 0
        self.requests = dict.fromkeys(scripts, 0)
        """Chat requests by provider, those refused or failed included."""

    async def __aenter__(self) -> ScriptedServer:
        loop = asyncio.get_running_loop()
        self._clock = LoopClock(loop)
        self._server = await loop.create_server(
            lambda: _Connection(self), host="127.0.0.1", port=self._wanted_port
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is None:
            return
        self._server.close()
        await asyncio.gather(
            *(connection.abort() for connection in self._connections), return_exceptions=True
        )
        await self._server.wait_closed()

    def url(self, name: str) -> str:
        """Base URL of a provider, as a workflow's `base_url`."""
        if name not in self._players:
            raise KeyError(name)
        return f"http://127.0.0.1:{self.port}/{name}/v1"

    def in_service(self, name: str) -> int:
        """Requests of this provider that are being served now."""
        return self._players[name].in_service

    def opened(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    async def answer(self, request: _HttpRequest) -> bytes | None:
        """A whole HTTP response, or None to hang up without one."""
        name, _, route = request.path.strip("/").partition("/")
        player = self._players.get(name)
        if player is None or route not in ("script", "v1/models", "v1/chat/completions"):
            return _error(404, "no such address")
        if route == "script":
            return self._replace_script(name, request)
        if route == "v1/models":
            return _json(200, {"object": "list", "data": []})
        if request.method != "POST":
            return _error(405, "a chat completion must be posted")
        try:
            body = json.loads(request.body)
            model, messages = str(body["model"]), body["messages"]
            prompt = str(messages[-1]["content"])
            system = next((str(m["content"]) for m in messages if m["role"] == "system"), None)
        except (ValueError, KeyError, IndexError, TypeError):
            return _error(400, "the body is no chat completion request")
        if body.get("stream"):
            return _error(400, "streaming is not served")
        self.requests[name] += 1
        arrived_at = self._clock.monotonic()
        reply = player.arrive(arrived_at, model, prompt, system)
        outcome = "abandoned"
        try:
            await asyncio.sleep(reply.seconds)
            outcome = reply.outcome
        finally:
            player.leave(reply)
            if self._on_served is not None:
                now = self._clock.monotonic()
                self._on_served(Served(name, model, outcome, arrived_at, now))
        return self._completion(model, reply)

    def _replace_script(self, name: str, request: _HttpRequest) -> bytes:
        """From now on; what is being served already goes on as it began."""
        if request.method != "PUT":
            return _error(405, "a script must be put")
        try:
            script = ProviderScript.model_validate_json(request.body)
        except ValidationError as error:
            return _error(400, _first_problem(error))
        self._players[name] = ScriptPlayer(script)
        return _json(200, script.model_dump(mode="json"))

    def _completion(self, model: str, reply: Reply) -> bytes | None:
        if reply.outcome == "hang":
            return None
        if reply.outcome == "rate_limited":
            wait = {} if reply.retry_after is None else {"retry-after": f"{reply.retry_after:g}"}
            return _error(429, "too many requests", wait)
        if reply.outcome == "error":
            return _error(reply.status, "the script says so")
        return _json(
            200,
            {
                "id": "chatcmpl-scripted",
                "object": "chat.completion",
                "created": int(self._clock.wall()),
                "model": model,
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": reply.text},
                    }
                ],
                "usage": {
                    "prompt_tokens": reply.prompt_tokens,
                    "completion_tokens": reply.completion_tokens,
                    "total_tokens": reply.prompt_tokens + reply.completion_tokens,
                },
            },
        )


@dataclass(frozen=True, slots=True)
class _HttpRequest:
    method: str
    path: str
    body: bytes
    keep_alive: bool


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.response = _error(status, message)


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: requests in turn; a caller who hangs up ends the one at work."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.closed(self)
        if self._work is not None:
            self._work.cancel()

    async def abort(self) -> None:
        self._transport.abort()
        if self._work is not None:
            self._work.cancel()
            await self._work

    def _next(self) -> None:
        if self._work is not None or self._transport.is_closing():
            return
        try:
            request = self._parse()
        except _Refused as refused:
            self._transport.write(refused.response)
            self._transport.close()
            return
        if request is not None:
            self._work = asyncio.get_running_loop().create_task(self._respond(request))

    def _parse(self) -> _HttpRequest | None:
        """The next whole request, taken off the buffer; None while it is incomplete."""
        head, found, _ = bytes(self._buffer[:MAX_HEAD_BYTES]).partition(b"\r\n\r\n")
        if not found:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise _Refused(400, "the head of the request is too large")
            return None
        lines = head.decode("latin-1").split("\r\n")
        try:
            method, path, version = lines[0].split(" ")
            headers = {
                k.strip().lower(): v.strip() for k, v in (x.split(":", 1) for x in lines[1:])
            }
            length = int(headers.get("content-length", "0"))
        except ValueError:
            raise _Refused(400, "this is no HTTP request") from None
        if length < 0 or "transfer-encoding" in headers:
            raise _Refused(400, "a body needs a content-length")
        if length > MAX_BODY_BYTES:
            raise _Refused(413, "the body is too large")
        start = len(head) + 4
        if len(self._buffer) < start + length:
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return _HttpRequest(method, path.partition("?")[0], body, keep_alive)

    async def _respond(self, request: _HttpRequest) -> None:
        response = await self._server.answer(request)
        self._work = None
        if response is not None:
            self._transport.write(response)
        if response is None or not request.keep_alive:
            self._transport.close()
        else:
            self._next()


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> bytes:
    body = json.dumps(content).encode()
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> bytes:
    content = {"error": {"message": message, "type": "scripted", "code": None, "param": None}}
    return _json(status, content, headers)


def read_scripts(path: Path) -> dict[str, ProviderScript]:
    """A YAML mapping of provider names to scripts. Raises `UserError`."""
    try:
        return TypeAdapter(dict[str, ProviderScript]).validate_python(
            yaml.safe_load(path.read_text(encoding="utf-8"))
        )
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{path}: broken YAML") from None
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{', '.join(str(step) for step in first['loc'])}: {first['msg']}"


async def _serve(
    scripts: Mapping[str, ProviderScript], port: int, seconds: float, log: TextIO | None
) -> None:
    def write(served: Served) -> None:
        if log is not None:
            log.write(json.dumps(asdict(served)) + "\n")

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with ScriptedServer(scripts, port, write) as server:
        for name in scripts:
            sys.stdout.write(f"{name} {server.url(name)}\n")
        sys.stdout.flush()
        loop.call_later(seconds, ended.set)
        await ended.wait()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine.models.scripted_server")
    parser.add_argument("script", type=Path, help="YAML file: provider name to script")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument(
        "--for", dest="seconds", type=float, default=600.0, help="ends by itself after this long"
    )
    parser.add_argument("--log", type=Path, help="JSON Lines of every chat request are added here")
    options = parser.parse_args(arguments)
    try:
        scripts = read_scripts(options.script)
        with ExitStack() as stack:
            log = None
            if options.log is not None:
                log = stack.enter_context(options.log.open("a", buffering=1, encoding="utf-8"))
            asyncio.run(_serve(scripts, options.port, options.seconds, log))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        what = error.filename or f"127.0.0.1:{options.port}"
        sys.stderr.write(f"can't open {what}: {error.strerror}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
