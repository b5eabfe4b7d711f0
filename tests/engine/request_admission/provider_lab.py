"""Callers without a pause against one scripted provider, under virtual time: request admission,
executor and probes as a run has them, without tasks, journal or rows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.clock import LoopClock
from engine.errors import RetryableTaskError
from engine.events import Event, EventStream, RequestEvent, RuntimeCorrelationProvider
from engine.identity import RequestResourceKey
from engine.models.caller import ModelCaller
from engine.models.client import ModelClient, ModelRequest, ModelResponse, ProviderError
from engine.models.executor import ModelRequestExecutor
from engine.models.provider_script import ProviderScript
from engine.models.scripted import ScriptedClient
from engine.request_admission.config import RequestAdmissionConfig
from engine.request_admission.controller import AdaptiveRequestAdmissionController
from engine.run.provider_watch import ProviderWatch
from engine.virtual_time import run_virtual

CHAT = RequestResourceKey("alpha", "m", "chat")
PAUSE_SECONDS = 1.0
"""Before a call that failed is made again, unless its failure names another delay."""


class Call(NamedTuple):
    """One call that reached the provider. Times are seconds since the first one."""

    began: float
    ended: float
    outcome: str


class Load(NamedTuple):
    """What a provider saw of one client."""

    calls: list[Call]
    limits: list[tuple[float, int]]
    """The limit of the resource whenever it changed."""
    events: list[Event]
    dropped: int

    @property
    def answered(self) -> int:
        return sum(call.outcome == "success" for call in self.calls)

    @property
    def refused(self) -> float:
        return sum(call.outcome == "rate_limited" for call in self.calls) / len(self.calls)

    @property
    def seconds(self) -> float:
        return max(call.ended for call in self.calls)

    @property
    def latency(self) -> float:
        """Mean seconds of an answered call."""
        spans = [call.ended - call.began for call in self.calls if call.outcome == "success"]
        return sum(spans) / len(spans)

    def in_flight(self, since: float = 0.0) -> float:
        """Mean number of calls at once from then on."""
        busy = sum(max(0.0, call.ended - max(since, call.began)) for call in self.calls)
        return busy / (self.seconds - since)

    def rate(self, since: float, until: float) -> float:
        """Answers a second in that time."""
        answers = sum(
            call.outcome == "success" and since <= call.ended < until for call in self.calls
        )
        return answers / (until - since)


class Distant:
    """A provider so many seconds away: what frees a place there learns of it later."""

    def __init__(self, client: ModelClient, seconds: float) -> None:
        self._client = client
        self._seconds = seconds

    async def send(self, request: ModelRequest) -> ModelResponse:
        await asyncio.sleep(self._seconds)
        try:
            return await self._client.send(request)
        finally:
            await asyncio.sleep(self._seconds)

    async def close(self) -> None:
        await self._client.close()


class _Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def write_events(self, events: Any) -> None:
        self.events.extend(events)


class _Client:
    """One process of a user: its request admission, and callers that share a list of work."""

    def __init__(self, client: ModelClient, cap: int, config: RequestAdmissionConfig) -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop, 0)
        self._cap = cap
        self._sink = _Sink()
        self._stream = EventStream(clock, "run", [self._sink], loop.call_soon)
        self._admission = AdaptiveRequestAdmissionController(
            stream=self._stream, clock=clock, loop=loop, config=config
        )
        executor = ModelRequestExecutor(
            admission=self._admission,
            clients={"alpha": client},
            stream=self._stream,
            clock=clock,
            correlation=RuntimeCorrelationProvider(),
        )
        probe = ModelRequest(CHAT, "m", "ok?", timeout_seconds=None)
        self._watch = ProviderWatch(self._admission, executor, {CHAT: probe}, {})
        self._admission.register(CHAT, cap, "m")
        self._caller = ModelCaller(executor)
        self._dropped = 0

    async def run(self, work: Iterator[str], until: float | None) -> Load:
        """Call with each prompt until it is answered, by twice as many callers as the cap."""
        await asyncio.gather(*(self._call_all(work, until) for _ in range(2 * self._cap)))
        await self._watch.close()
        self._admission.shutdown()
        self._stream.flush()
        return _load(self._sink.events, self._dropped)

    async def _call_all(self, work: Iterator[str], until: float | None) -> None:
        loop = asyncio.get_running_loop()
        for prompt in work:
            request = ModelRequest(CHAT, "m", prompt, timeout_seconds=None)
            while until is None or loop.time() < until:
                try:
                    await self._caller.call(request)
                except RetryableTaskError as error:
                    await asyncio.sleep(error.delay_seconds or PAUSE_SECONDS)
                    continue
                except ProviderError:
                    self._dropped += 1
                break


def observe(
    script: Mapping[str, Any], records: int, cap: int, config: RequestAdmissionConfig | None = None
) -> Load:
    """So many calls of one client, each made until it is answered."""
    (load,) = observe_clients(script, records, [cap], config)
    return load


def observe_clients(
    script: Mapping[str, Any],
    records: int,
    caps: Sequence[int],
    config: RequestAdmissionConfig | None = None,
    seconds: float | None = None,
    away: Sequence[float] = (),
) -> list[Load]:
    """The same of clients that know nothing of each other, for at most so many seconds. `away`:
    how far each of them is from the provider."""

    async def main() -> list[Load]:
        clock = LoopClock(asyncio.get_running_loop(), 0)
        provider = ScriptedClient(ProviderScript.model_validate(script), clock)
        ways: list[ModelClient] = [Distant(provider, way) for way in away] or [provider] * len(caps)
        clients = [
            _Client(way, cap, config or RequestAdmissionConfig())
            for way, cap in zip(ways, caps, strict=True)
        ]
        return await asyncio.gather(
            *(
                client.run((f"client {n} record {i}" for i in range(records)), seconds)
                for n, client in enumerate(clients)
            )
        )

    return run_virtual(main())


def _load(events: list[Event], dropped: int) -> Load:
    calls: list[Call] = []
    limits: list[tuple[float, int]] = []
    first: float | None = None
    for event in events:
        if not isinstance(event, RequestEvent):
            continue
        now = event.captured_at_monotonic
        if event.event_kind == "model_request_started" and first is None:
            first = now
        elif event.event_kind == "model_request_completed" and first is not None:
            began = now - event.diagnostics["duration_seconds"]
            calls.append(Call(began - first, now - first, event.reason_or_outcome or ""))
        elif event.event_kind in ("request_limit_decreased", "request_limit_increased"):
            limits.append((now - (first or 0.0), event.diagnostics["current"]))
    return Load(calls, limits, events, dropped)
