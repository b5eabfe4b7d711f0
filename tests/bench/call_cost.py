"""What a call to a provider costs: CPU of this process, the provider in another one.

    make bench-calls [OPTIONS="--profile 500"]

The client alone, at 64 and 512 calls in flight, and whole runs with their journal at 50 to 5,000.
The provider answers after a while with the same bytes; it costs as little as asyncio lets it.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from console.cli import exit_codes
from engine.clock import LoopClock
from engine.events.journal import JournalWriter
from engine.events.run_folder import RunFolder
from engine.identity import RequestResourceKey
from engine.models.client import ModelRequest
from engine.models.openai_client import OpenAIClient
from engine.run.collector import collect_seldom
from engine.run.execute import RunControl
from engine.run.plan import plan_run
from engine.run.record import journal_run
from engine.workflow.load import LoadedWorkflow
from engine.workflow.schema import Workflow
from tests.bench.command import run_command

CLIENT_CALLS = 6000
CLIENT_TARGETS = {64: 200.0, 512: 300.0}
"""Microseconds of CPU per call, by calls in flight."""
RUN_TARGET = 500.0
MOST_OF_FEWEST = 1.2
"""How much more a call may cost than at the fewest in flight."""
RUNS = {50: 4000, 500: 8000, 2000: 16_000, 5000: 20_000}
"""Calls of a whole run, by calls in flight."""
LATENCY_SECONDS = {50: 0.02, 500: 0.1, 2000: 1.0, 5000: 2.0}
"""So that the provider, not the client, is what a call waits for."""
SERVER_SECONDS = 300.0

_SERVER = r"""
import asyncio, resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
BODY = (b'{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":'
        b'"ok then"}}],"usage":{"prompt_tokens":5,"completion_tokens":3}}')
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY), BODY)

class Provider(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15:].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self.rest) < end + 4 + length:
                return
            self.rest = self.rest[end + 4 + length:]
            asyncio.get_running_loop().call_later(float(sys.argv[1]), self.transport.write, ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(
        Provider, "127.0.0.1", 0, backlog=8192)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(float(sys.argv[2]))
asyncio.run(main())
"""


class Cost(NamedTuple):
    microseconds: float
    """Of CPU per call."""
    rate: float
    """Calls a second."""


@contextmanager
def provider(latency_seconds: float) -> Iterator[str]:
    """A process that answers; gives its base URL."""
    command = [sys.executable, "-c", _SERVER, str(latency_seconds), str(SERVER_SECONDS)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


async def client_cost(address: str, in_flight: int) -> Cost:
    client = OpenAIClient(address, "key", LoopClock(asyncio.get_running_loop()), in_flight)
    key = RequestResourceKey("alpha", "m", "chat")

    async def calls(numbers: Iterator[int]) -> None:
        for number in numbers:
            await client.send(ModelRequest(key, "m", f"Write about {number} please"))

    async def all_of(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(calls(numbers) for _ in range(in_flight)))

    await all_of(in_flight)  # connects
    began, before = time.perf_counter(), time.process_time()
    await all_of(CLIENT_CALLS)
    cpu, seconds = time.process_time() - before, time.perf_counter() - began
    await client.close()
    return Cost(1e6 * cpu / CLIENT_CALLS, CLIENT_CALLS / seconds)


async def run_cost(address: str, in_flight: int, calls: int) -> Cost:
    """A whole run of so many rows with one call each, its journal and its rows written."""
    workflow = Workflow.model_validate(
        {
            "name": "calls",
            "records": calls,
            "providers": {"p": {"type": "openai", "base_url": address}},
            "models": {"m": {"provider": "p", "model": "m", "max_parallel_requests": in_flight}},
            "columns": [
                {"name": "id", "type": "sampler", "uuid": True},
                {"name": "text", "type": "llm_text", "model": "m", "prompt": "About {{ id }}"},
            ],
            "run": {
                "buffer_size": max(500, in_flight),
                "max_concurrent_row_groups": 4,
                "max_in_flight_tasks": 2 * in_flight + 10,
            },
        }
    )
    plan = plan_run(LoadedWorkflow(workflow, None, {}))
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as home:
        folder = RunFolder.create(Path(home) / "run")
        clock, control = LoopClock(loop), RunControl()
        info = plan.describe("bench", clock.wall(), clock.monotonic())
        journal = JournalWriter(folder, info, loop=loop, request_keyframe=control.emit_keyframe)
        began, before = time.perf_counter(), time.process_time()
        result = await journal_run(
            plan, journal, "bench", clock, dataset=folder.dataset, control=control
        )
        cpu, seconds = time.process_time() - before, time.perf_counter() - began
        assert result.rows_done == calls, result
    return Cost(1e6 * cpu / calls, calls / seconds)


def profile(in_flight: int) -> None:
    """Print where the time of a whole run goes."""
    profiler = cProfile.Profile()
    with provider(LATENCY_SECONDS[in_flight]) as address:
        profiler.enable()
        asyncio.run(run_cost(address, in_flight, RUNS[in_flight]))
        profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


@click.command()
@click.option("--profile", "profiled", type=click.Choice([str(n) for n in RUNS]), help="One run.")
@click.option("--most", type=int, default=max(RUNS), show_default=True, help="Calls in flight.")
def main(profiled: str | None, most: int) -> int:
    """Measure the CPU of a call. Exits with 1 where a target is missed."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    collect_seldom()
    if profiled:
        profile(int(profiled))
        return exit_codes.OK
    held = True
    for in_flight, target in CLIENT_TARGETS.items():
        with provider(0.02) as address:
            cost = asyncio.run(client_cost(address, in_flight))
        held &= cost.microseconds <= target
        _tell("client", in_flight, cost, target)
    fewest: Cost | None = None
    for in_flight, calls in RUNS.items():
        if in_flight > most:
            continue
        with provider(LATENCY_SECONDS[in_flight]) as address:
            cost = asyncio.run(run_cost(address, in_flight, calls))
        fewest = fewest or cost
        held &= cost.microseconds <= RUN_TARGET
        held &= cost.microseconds <= MOST_OF_FEWEST * fewest.microseconds
        _tell("whole run", in_flight, cost, RUN_TARGET)
    return exit_codes.OK if held else exit_codes.FINDINGS


def _tell(what: str, in_flight: int, cost: Cost, target: float) -> None:
    click.echo(
        f"{what:<10} {in_flight:>5} in flight: {cost.microseconds:6.0f} us a call"
        f" (at most {target:.0f}), {cost.rate:6.0f} calls/s"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
