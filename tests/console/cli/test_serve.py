"""`headgate serve`: the console over a websocket, for who has the token and for nobody else."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from engine.events import JournalEnd, JournalHeader, RequestEvent, RunInfo, encode_lines

HEADGATE = Path(sys.executable).with_name("headgate")
DEADLINE_SECONDS = 90.0


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    events = [RequestEvent("request_queue_formed", 100.0 + n, n) for n in range(1, 5)]
    path = tmp_path / "run.jsonl"
    run = RunInfo("run-1", "served-run", monotonic_start=100.0)
    path.write_bytes(
        encode_lines([JournalHeader(run, 1, 1), *events, JournalEnd("success", 105.0, 0, 4)])
    )
    return path


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[str]:
    """The address that is printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(HEADGATE),
        "serve",
        str(path),
        "--port",
        str(port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), DEADLINE_SECONDS)
        yield line.decode().strip()
    finally:
        process.terminate()
        await process.communicate()


async def screen(session: aiohttp.ClientSession, address: str, wanted: bytes) -> bytes:
    """What the console has drawn once it shows `wanted`."""
    drawn = b""
    url = address.partition("/?")[0].replace("http", "ws")
    async with (
        session.ws_connect(f"{url}/ws?width=100&height=30") as socket,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                drawn += message.data
            if wanted in drawn:
                break
    return drawn


def test_the_console_is_drawn_for_who_has_the_token(lines: Path) -> None:
    async def main() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # also for an address without a name
        async with served(lines) as address, aiohttp.ClientSession(cookie_jar=jar) as session:
            bare = address.partition("?")[0]
            assert address.startswith("http://127.0.0.1:")
            refused = [
                await status(session, bare),
                await status(session, bare + "ws"),
                await status(session, bare + "?token=wrong"),
                await status(session, address, Host="elsewhere.example"),
                await status(session, address, Origin="http://elsewhere.example"),
            ]
            assert refused == [403] * 5
            assert await status(session, address) == 200
            assert await status(session, bare) == 200  # by the cookie
            assert await status(session, bare, Origin="http://elsewhere.example") == 403
            assert b"served-run" in await screen(session, address, b"served-run")

    asyncio.run(main())


async def status(session: aiohttp.ClientSession, url: str, **headers: str) -> int:
    async with session.get(url, headers=headers) as response:
        return response.status
