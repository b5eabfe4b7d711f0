"""Providers on loopback that do what a situation says, and write down every call.

In a program of its own: `python tests/truth/server.py SPEC.json LOG`. The specification maps
providers to `ProviderSpec`; a line with their port is printed once they listen. Times of episodes
count from the first call of a row; checks that a model answers are not logged, and are refused
like rows while all of them are.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from pathlib import Path
from typing import Literal, TextIO

import msgspec
from aiohttp import web

MARK = "Row "
"""Prompts of rows begin with it."""
LIFETIME_SECONDS = 300.0
EVERYTHING = 1_000_000
Act = Literal[
    "status", "hang", "slow", "trickle", "reset", "malformed", "empty", "filter", "error_body"
]


class Episode(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to calls that arrive from `start` to `end`."""

    act: Act
    start: float = 0.0
    end: float = 1e9
    status: int = 500
    code: str | None = None
    retry_after: float | None = None
    most: int = EVERYTHING
    """At most so many calls."""
    seconds: float = 0.0
    """How long a hung call stays without an answer."""
    factor: float = 1.0
    """How many times slower."""
    prompt: str = ""
    """Only calls whose prompt has this."""


class ProviderSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    latency: float = 0.16
    spread: float = 0.05
    """Half the width of an even distribution."""
    tail: float = 0.0
    """Share of calls that take five to ten times as long."""
    check_seconds: float | None = None
    """How long a check of a model takes; None for the latency."""
    bucket: float | None = None
    """Calls a second, beyond which 429 is answered."""
    episodes: tuple[Episode, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """One call of a row, in monotonic seconds of this machine."""

    resource: str
    arrived: float
    answered: float
    status: str
    """A number, or `reset`, `abandoned` for a caller who hung up."""
    note: str = ""
    """`hung`, `slow`, `malformed`, ... where an episode or the tail applied."""
    retry_after: float | None = None


class _Provider:
    def __init__(self, spec: ProviderSpec, name: str) -> None:
        self.spec = spec
        self.random = random.Random(name)
        self.tokens = 0.0 if spec.bucket is None else spec.bucket
        self.refilled = time.monotonic()
        self.used: dict[int, int] = {}

    def episode(self, elapsed: float, prompt: str) -> Episode | None:
        for number, episode in enumerate(self.spec.episodes):
            if not episode.start <= elapsed < episode.end or episode.prompt not in prompt:
                continue
            if self.used.get(number, 0) < episode.most:
                self.used[number] = self.used.get(number, 0) + 1
                return episode
        return None

    def refusal(self, elapsed: float) -> Episode | None:
        """The episode that refuses everything now, checks as well as rows."""
        for episode in self.spec.episodes:
            everything = not episode.prompt and episode.most >= EVERYTHING
            if episode.act == "status" and everything and episode.start <= elapsed < episode.end:
                return episode
        return None

    def is_over_its_rate(self) -> bool:
        if self.spec.bucket is None:
            return False
        now = time.monotonic()
        self.tokens = min(self.spec.bucket, self.tokens + (now - self.refilled) * self.spec.bucket)
        self.refilled = now
        if self.tokens < 1:
            return True
        self.tokens -= 1
        return False

    def seconds(self) -> tuple[float, str]:
        spec = self.spec
        seconds = spec.latency + spec.spread * (2 * self.random.random() - 1)
        if self.random.random() < spec.tail:
            return seconds * (5 + 5 * self.random.random()), "slow"
        return seconds, ""


class Server:
    def __init__(self, specs: dict[str, ProviderSpec], log: TextIO) -> None:
        self._providers = {name: _Provider(spec, name) for name, spec in specs.items()}
        self._log = log
        self._began: float | None = None

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/{provider}/v1/chat/completions", self._complete)
        application.router.add_get("/{provider}/v1/models", self._models)
        return application

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": []})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        arrived = time.monotonic()
        provider = self._providers[request.match_info["provider"]]
        body = await request.json()
        prompt = str(body["messages"][-1]["content"])
        resource = f"{request.match_info['provider']}/{body['model']}"
        if MARK not in prompt:
            refused = None if self._began is None else provider.refusal(arrived - self._began)
            await asyncio.sleep(provider.spec.check_seconds or provider.spec.latency)
            if refused is None:
                return _answer(body["model"], "yes")
            return _refusal(refused.status, refused.code, refused.retry_after)
        if self._began is None:
            self._began = arrived
        status, note, retry_after = "abandoned", "", None
        try:
            episode = provider.episode(arrived - self._began, prompt)
            seconds, note = provider.seconds()
            response = _answer(body["model"], f"An answer of {len(prompt)}")
            if episode is not None:
                seconds, note, response = _played(episode, seconds, body["model"], response)
                retry_after = episode.retry_after
                if episode.act == "trickle":
                    await _trickle(request, response, episode.seconds)
                    status = "200"
                    return response
            elif provider.is_over_its_rate():
                retry_after = 1.0
                seconds, response = 0.005, _refusal(429, "rate_limited", retry_after)
            await asyncio.sleep(seconds)
            status = note if note == "reset" else str(response.status)
        finally:
            now = time.monotonic()
            call = Call(resource, arrived, now, status, note, retry_after)
            self._log.write(msgspec.json.encode(call).decode() + "\n")
        if note == "reset" and request.transport is not None:
            request.transport.close()
        return response


def _played(
    episode: Episode, seconds: float, model: str, answer: web.Response
) -> tuple[float, str, web.Response]:
    """Time, note and response of a call in an episode."""
    act = episode.act
    if act == "status":
        return 0.02, "", _refusal(episode.status, episode.code, episode.retry_after)
    if act == "hang":
        return episode.seconds, "hung", answer
    if act == "slow":
        return seconds * episode.factor, "slow", answer
    if act == "trickle":
        return 0.0, "slow", answer
    if act == "reset":
        return 0.02, "reset", answer
    if act == "error_body":
        error = {"error": {"message": "the situation says so", "code": 500, "type": "truth"}}
        return seconds, act, web.json_response(error)
    if act == "malformed":
        return seconds, act, web.Response(text='{"choices": [', content_type="application/json")
    if act == "empty":
        return seconds, act, _answer(model, "")
    return seconds, act, _answer(model, "", "content_filter")


async def _trickle(request: web.Request, answer: web.Response, seconds: float) -> None:
    """Send the answer piece by piece, so that something comes all the time."""
    body = answer.body
    assert isinstance(body, bytes)
    stream = web.StreamResponse(headers={"content-type": "application/json"})
    stream.content_length = len(body)
    await stream.prepare(request)
    pieces = 20
    size = len(body) // pieces + 1
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds / pieces)
        await stream.write(body[start : start + size])
    await stream.write_eof()


def _answer(model: str, text: str, finish: str = "stop") -> web.Response:
    message = {"role": "assistant", "content": text}
    return web.json_response(
        {
            "id": "chatcmpl-truth",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "finish_reason": finish, "message": message}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
        }
    )


def _refusal(status: int, code: str | None, retry_after: float | None) -> web.Response:
    error = {"message": "the situation says so", "type": "truth", "code": code, "param": None}
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    return web.json_response({"error": error}, status=status, headers=headers)


async def _serve(specs: dict[str, ProviderSpec], log: TextIO) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.call_later(LIFETIME_SECONDS, ended.set)
    runner = web.AppRunner(
        Server(specs, log).application(), handler_cancellation=True, shutdown_timeout=0.01
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await ended.wait()
    await runner.cleanup()


def main(specification: Path, log: Path) -> None:
    specs = msgspec.json.decode(specification.read_bytes(), type=dict[str, ProviderSpec])
    with log.open("w", buffering=1) as file:
        asyncio.run(_serve(specs, file))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
