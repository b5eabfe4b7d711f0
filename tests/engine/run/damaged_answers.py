"""Answers whose connections break, and that arrive damaged, late or never."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.engine.run.faulty_provider import Call, completion, reset

TIMEOUT_SECONDS = 1.0
"""What a call is allowed where these answers are given."""
BODY = b'{"choices": [{"message": {"content": "fine"}}]}'


def _transport(call: Call) -> asyncio.Transport:
    transport = call.request.transport
    assert isinstance(transport, asyncio.Transport)
    return transport


def _written(call: Call, length: int, body: bytes) -> web.StreamResponse:
    """So many bytes are promised, these are sent, and the connection ends."""
    transport = _transport(call)
    transport.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % length
        + body
    )
    transport.close()
    return web.Response()


def _cut_by_reset(call: Call) -> web.StreamResponse:
    _transport(call).write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY[:20])
    return reset(call)


def _packed(body: bytes) -> web.Response:
    return web.Response(
        body=body, headers={"content-encoding": "gzip", "content-type": "application/json"}
    )


async def _trickle(call: Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": str(len(BODY))})
    await response.prepare(call.request)
    for byte in BODY[:-1]:
        await response.write(bytes([byte]))
        await asyncio.sleep(TIMEOUT_SECONDS / 4)
    return response


def closed_later(call: Call) -> web.StreamResponse:
    """An answer whose connection ends a little later, perhaps under the next call."""
    if call.request.transport is not None:
        asyncio.get_running_loop().call_later(0.05, call.request.transport.close)
    return completion()


WHOLE: dict[str, Callable[[Call], Any]] = {
    "closed after the answer": lambda call: _written(call, len(BODY), BODY),
    "gzip": lambda call: _packed(gzip.compress(BODY)),
}
"""Those that are answers all the same."""
BROKEN: dict[str, Callable[[Call], Any]] = {
    "reset": reset,
    "reset within the answer": _cut_by_reset,
    "shorter than promised": lambda call: _written(call, len(BODY) + 50, BODY),
    "half a JSON": lambda call: web.Response(body=BODY[: len(BODY) // 2]),
    "half a gzip": lambda call: _packed(gzip.compress(BODY)[:20]),
    "no gzip": lambda call: _packed(BODY),
    "a page": lambda call: web.Response(text="<html>Sign in</html>", content_type="text/html"),
    "an empty body": lambda call: web.Response(text=""),
    "never": lambda call: asyncio.sleep(3600),
    "a byte at a time": _trickle,
}
"""Those that cost a repetition."""
