"""`ScriptedServer`: scripted providers behind real HTTP on loopback, in the OpenAI dialect.

In a program of its own: `python tests/scripted_server.py SCRIPT.yaml` (`COMMAND`), where the file
maps provider names to scripts; `--log FILE` writes a line of JSON for each chat request. A script
that is `PUT` to `/NAME/script` as JSON takes the place of the provider's.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import yaml
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from engine.clock import LoopClock
from engine.errors import UserError
from engine.models.provider_script import ProviderScript
from engine.models.script import Reply, ScriptPlayer
from engine.models.scripted_answers import schema_of

COMMAND = (sys.executable, "-P", __file__)
"""Starts the program."""
MAX_BODY_BYTES = 16 * 1024 * 1024
SHUTDOWN_SECONDS = 0.01
"""How long requests under way may take once the server ends; 0 would mean for ever."""


@dataclass(frozen=True, slots=True)
class Served:
    """One chat request as the server saw it. Times are the server's monotonic seconds."""

    provider: str
    model: str
    outcome: str
    """The script's word, or `abandoned` where the caller hung up before it."""
    arrived_at: float
    answered_at: float
    prompt_digest: str = ""
    """Tells requests of different prompts apart, without the prompt."""


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
        self.port = 0
        self.requests = dict.fromkeys(scripts, 0)
        """Chat requests by provider, those refused or failed included."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors_as_json])
        application.router.add_put("/{name}/script", self._replace_script)
        application.router.add_get("/{name}/v1/models", self._list_models)
        application.router.add_post("/{name}/v1/chat/completions", self._complete)
        application.router.add_post("/{name}/v1/embeddings", self._embed)
        # A caller who hangs up cancels the handler: its request is over.
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )

    async def __aenter__(self) -> ScriptedServer:
        self._clock = LoopClock(asyncio.get_running_loop())
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._wanted_port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    def url(self, name: str) -> str:
        """Base URL of a provider, as a workflow's `base_url`."""
        if name not in self._players:
            raise KeyError(name)
        return f"http://127.0.0.1:{self.port}/{name}/v1"

    def in_service(self, name: str) -> int:
        """Requests of this provider that are being served now."""
        return self._players[name].in_service

    def _named(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in self._players:
            raise web.HTTPNotFound
        return name

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        self._named(request)
        return web.json_response({"object": "list", "data": []})

    async def _replace_script(self, request: web.Request) -> web.StreamResponse:
        """From now on; what is being served already goes on as it began."""
        name = self._named(request)
        try:
            script = ProviderScript.model_validate_json(await request.read())
        except ValidationError as error:
            return _error(400, _first_problem(error))
        self._players[name] = ScriptPlayer(script)
        return web.json_response(script.model_dump(mode="json"))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
            model, messages = str(body["model"]), body["messages"]
            system = next((str(m["content"]) for m in messages if m["role"] == "system"), None)
            said = [str(message["content"]) for message in messages if message["role"] != "system"]
            _ = messages[-1]
            asked = {"system": system, "schema": schema_of(body.get("response_format"))}
        except (ValueError, KeyError, IndexError, TypeError):
            return _error(400, "the body is no chat completion request")
        if body.get("stream"):
            return _error(400, "streaming is not served")
        return await self._play(request, model, "\n".join(said), asked)

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
            model, text = str(body["model"]), str(body["input"])
        except (ValueError, KeyError, TypeError):
            return _error(400, "the body is no embeddings request")
        asked = {"embeds": True, "dimensions": body.get("dimensions")}
        return await self._play(request, model, text, asked)

    async def _play(
        self, request: web.Request, model: str, prompt: str, asked: dict[str, Any]
    ) -> web.StreamResponse:
        name = self._named(request)
        player = self._players[name]
        self.requests[name] += 1
        arrived_at = self._clock.monotonic()
        reply = player.arrive(arrived_at, model, prompt, **asked)
        outcome = "abandoned"
        try:
            await asyncio.sleep(reply.seconds)
            outcome = reply.outcome
        finally:
            player.leave(reply)
            if self._on_served is not None:
                now = self._clock.monotonic()
                digest = hashlib.blake2b(prompt.encode("utf-8", "replace"), digest_size=8)
                self._on_served(Served(name, model, outcome, arrived_at, now, digest.hexdigest()))
        if reply.outcome == "hang":
            return _hang_up(request)
        return self._completion(model, reply)

    def _completion(self, model: str, reply: Reply) -> web.Response:
        told = _budget_headers(reply)
        if reply.outcome == "rate_limited":
            wait = {} if reply.retry_after is None else {"retry-after": f"{reply.retry_after:g}"}
            return _error(reply.status, "too many requests", wait | told)
        if reply.outcome == "error":
            return _error(reply.status, "the script says so")
        if reply.vector:
            return web.json_response(
                {
                    "object": "list",
                    "model": model,
                    "data": [{"object": "embedding", "index": 0, "embedding": reply.vector}],
                    "usage": {"prompt_tokens": reply.prompt_tokens},
                }
            )
        return web.json_response(
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
            headers=told,
        )


def _budget_headers(reply: Reply) -> dict[str, str]:
    headers: dict[str, str] = {}
    for budget in reply.budgets:
        headers |= {
            f"x-ratelimit-limit-{budget.dimension}": str(budget.limit),
            f"x-ratelimit-remaining-{budget.dimension}": str(budget.remaining),
            f"x-ratelimit-reset-{budget.dimension}": f"{budget.reset_seconds:.3f}s",
        }
    return headers


def _hang_up(request: web.Request) -> web.Response:
    """End the connection without a response; the one that is returned goes nowhere."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error(error.status, error.reason)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    content = {"error": {"message": message, "type": "scripted", "code": None, "param": None}}
    return web.json_response(content, status=status, headers=headers)


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
    parser = argparse.ArgumentParser(prog="python tests/scripted_server.py")
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
