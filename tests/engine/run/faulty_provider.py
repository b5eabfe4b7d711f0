"""A provider on loopback that misbehaves as real ones do, and runs of the engine against it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from aiohttp import web

from engine.clock import LoopClock
from engine.events import Event, EventStream, RequestEvent, RunInfo, SchedulerEvent
from engine.run.execute import RunControl, execute_run
from engine.run.plan import plan_run
from engine.scheduling.plan import RunResult
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow
from replay.verify.report import results
from tests.verified import verify_events


@dataclass
class Call:
    """One request as the provider sees it."""

    number: int
    """Of all requests, from 0."""
    seconds: float
    """Since the first one."""
    prompt: str
    tries: int
    """How often this prompt was sent before."""
    at_once: int
    """Calls that are at the provider, with this one."""
    body: dict[str, Any]
    request: web.Request

    @property
    def is_probe(self) -> bool:
        return self.prompt == "Reply with the word ok."


ACT_SECONDS = 0.3
PREFIXES = ("/v1", "/openai/deployments/x")
Behaviour = Callable[[Call], Awaitable[web.StreamResponse] | web.StreamResponse]


def completion(text: Any = "fine", finish: str = "stop", **message: Any) -> web.Response:
    body = {
        "choices": [{"finish_reason": finish, "message": {"content": text, **message}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    }
    return web.json_response(body)


def embedded(*numbers: float) -> web.Response:
    body = {"data": [{"embedding": list(numbers)}], "usage": {"prompt_tokens": 2}}
    return web.json_response(body)


def failure(
    status: int, code: Any = None, message: str = "no", headers: dict[str, str] | None = None
) -> web.Response:
    body = {"error": {"message": message, "type": "error", "code": code, "param": None}}
    return web.json_response(body, status=status, headers=headers)


def reset(call: Call) -> web.StreamResponse:
    """The connection is reset before an answer."""
    transport = call.request.transport
    assert transport is not None
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return web.Response()


class FaultyProvider:
    """Serves one behaviour; `address` is its base URL."""

    def __init__(self, behaviour: Behaviour, latency_seconds: float = 0.01) -> None:
        self._behaviour = behaviour
        self._latency_seconds = latency_seconds
        self._began: float | None = None
        self._leaves: tuple[float, float] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self.prompts: Counter[str] = Counter()
        self.calls = 0
        self.in_flight = self.most_in_flight = 0
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        """Of each call, since the first one."""
        self.hides_models = False
        """The list of models is never answered."""
        self.address = ""
        self._acts: list[tuple[int, Callable[[], object]]] = []

    async def __aenter__(self) -> FaultyProvider:
        app = web.Application(client_max_size=1 << 26)
        for prefix in PREFIXES:
            app.router.add_post(f"{prefix}/chat/completions", self._serve)
            app.router.add_post(f"{prefix}/embeddings", self._serve)
        app.router.add_post("/v1/chat/completions/", self._serve)
        app.router.add_get("/v1/models", self._list_models)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        port = self._runner.addresses[0][1]
        self.address = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def act_on(self, number: int, act: Callable[[], object]) -> None:
        """Call `act` so long after the call of that number came in, which is `ACT_SECONDS`; each
        further one for the same call after as much again."""
        self._acts.append((number, act))

    def leave_after(self, seconds: float, duration_seconds: float) -> None:
        """`refuse_connections`, so long after the first call."""
        self._leaves = (seconds, duration_seconds)

    async def refuse_connections(self, seconds: float) -> None:
        """Nobody listens at the address for so long, and every connection is closed."""
        host, port = self._runner.addresses[0][:2]
        for site in list(self._runner.sites):
            await site.stop()
        for connection in list(self._runner.server.connections):  # type: ignore[union-attr]
            connection.force_close()
        await asyncio.sleep(seconds)
        await web.TCPSite(self._runner, host, port, backlog=1024, reuse_address=True).start()

    async def _leave(self, seconds: float, duration_seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.refuse_connections(duration_seconds)

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        if self.hides_models:
            await asyncio.sleep(3600)
        return web.json_response({"object": "list", "data": []})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
            if self._leaves is not None:
                self._leaving = asyncio.create_task(self._leave(*self._leaves))
        body = json.loads(await request.read())
        prompt = body["input"] if "input" in body else body["messages"][-1]["content"]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        tries = self.prompts[prompt]
        seconds = now - self._began
        call = Call(self.calls, seconds, prompt, tries, self.in_flight, body, request)
        acts = [act for number, act in self._acts if number == self.calls]
        for place, act in enumerate(acts, start=1):
            asyncio.get_running_loop().call_later(place * ACT_SECONDS, act)
        self.calls += 1
        self.prompts[prompt] += 1
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(call.seconds)
        try:
            await asyncio.sleep(self._latency_seconds)
            answer = self._behaviour(call)
            return await answer if asyncio.iscoroutine(answer) else answer  # type: ignore[return-value]
        finally:
            self.in_flight -= 1


@dataclass
class Trial:
    """How a run against a provider ended."""

    result: RunResult
    events: list[Event]
    rows: list[dict[str, Any]]
    provider: FaultyProvider
    seconds: float

    def dropped(self) -> Counter[str]:
        """Rows that were dropped, by the class of the failure."""
        return Counter(
            str(event.diagnostics.get("class", event.reason_or_result))
            for event in self.scheduler("non_retryable_dropped")
            if isinstance(event, SchedulerEvent)
        )

    def scheduler(self, kind: str) -> list[SchedulerEvent]:
        return [e for e in self.events if isinstance(e, SchedulerEvent) and e.event_kind == kind]

    def requests(self, kind: str) -> list[RequestEvent]:
        return [e for e in self.events if isinstance(e, RequestEvent) and e.event_kind == kind]


@dataclass
class Sink:
    events: list[Event] = field(default_factory=list)

    def write_events(self, events: Any) -> None:
        self.events.extend(events)


def workflow(address: str, **parts: Any) -> LoadedWorkflow:
    """One column `text` of a model with eight calls at once; `parts` replace what is given."""
    run = {"cooldown_seconds": 0.2, **parts.pop("run", {})}
    model = {"provider": "p", "model": "m", "max_parallel_requests": 8, **parts.pop("model", {})}
    column = {"prompt": "About {{ id }}", **parts.pop("column", {})}
    made = {
        "name": "trial",
        "records": 40,
        "providers": {"p": {"type": "openai", "base_url": address, **parts.pop("provider", {})}},
        "models": {"m": model},
        "columns": [
            {"name": "id", "type": "sampler", "uuid": True},
            *parts.pop("before", []),
            {"name": "text", "type": "llm_text", "model": "m", **column},
        ],
        "run": run,
        **parts,
    }
    for provider in made["providers"].values():
        if provider["base_url"] == "ADDRESS":
            provider["base_url"] = address
    return LoadedWorkflow(Workflow.model_validate(made), None, {})


def try_out(
    behaviour: Behaviour,
    folder: Path,
    *,
    on_call: dict[int, Callable[[RunControl], object]] | None = None,
    latency_seconds: float = 0.01,
    limit_seconds: float = 60.0,
    around: Callable[[FaultyProvider], Coroutine[Any, Any, None]] | None = None,
    **parts: Any,
) -> Trial:
    """Run a workflow against a provider of this behaviour, and hold the run against the rules.

    Args:
        behaviour: What the provider does with a call.
        folder: Where the dataset goes.
        on_call: What is done with the control of the run shortly after the call of that number.
        latency_seconds: Of every answer.
        limit_seconds: A run that takes longer fails the test.
        around: Runs beside the run.
        parts: Of the workflow.
    """

    async def main() -> Trial:
        async with FaultyProvider(behaviour, latency_seconds) as provider:
            loop = asyncio.get_running_loop()
            plan = plan_run(workflow(provider.address, **parts))
            clock, sink, control = LoopClock(loop), Sink(), RunControl()
            stream = EventStream(clock, "trial", [sink], loop.call_soon)
            for number, act in (on_call or {}).items():
                provider.act_on(number, partial(act, control))
            beside = None if around is None else loop.create_task(around(provider))
            began = loop.time()
            async with asyncio.timeout(limit_seconds):
                result = await execute_run(
                    plan, stream, clock, dataset=folder / "dataset", control=control
                )
            seconds = loop.time() - began
            if beside is not None:
                await beside
            stream.flush()
            return Trial(result, sink.events, _rows(folder / "dataset"), provider, seconds)

    trial = asyncio.run(main())
    _check(trial)
    return trial


def _rows(dataset: Path) -> list[dict[str, Any]]:
    return [
        row for file in sorted(dataset.glob("*.parquet")) for row in pq.read_table(file).to_pylist()
    ]


def _check(trial: Trial) -> None:
    """What holds of any run: its stream breaks no rule, and the files hold what it says."""
    assert len(trial.rows) == trial.result.rows_done
    if trial.events[-1].event_kind != "scheduler_job_completed":
        return  # it did not get as far as its scheduler
    verifier = verify_events(RunInfo("trial", "trial"), trial.events)
    broken = [
        f"{result.rule}: {deviation.what}: {deviation.examples[0].sentence}"
        for result in results(verifier.book)
        for deviation in result.deviations
    ]
    assert broken == []
