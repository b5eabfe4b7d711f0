"""The scripted server as a program and on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.models.provider_script import Latency, ProviderScript
from engine.models.scripted_answers import scripted_text
from tests.scripted_server import COMMAND, ScriptedServer, read_scripts

AT_ONCE = ProviderScript(latency=Latency(distribution="constant", mean=0))


def exchange(*pieces: bytes) -> list[tuple[int, Any]]:
    """All answers to what is sent over one connection, piece by piece, until it closes."""

    async def main() -> bytes:
        async with ScriptedServer({"alpha": AT_ONCE}) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            received = await reader.read()
            writer.close()
            return received

    rest, answers = asyncio.run(main()), []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        answers.append((int(head.split()[1]), json.loads(rest[:length])))
        rest = rest[length:]
    return answers


def post(body: bytes, connection: str = "close") -> bytes:
    return (
        b"POST /alpha/v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        + f"Connection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def put(script: bytes) -> bytes:
    return post(script).replace(b"POST /alpha/v1/chat/completions", b"PUT /alpha/script")


def chat(prompt: str) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()


def text(answer: tuple[int, Any]) -> str:
    assert answer[0] == 200
    return str(answer[1]["choices"][0]["message"]["content"])


def test_requests_on_one_connection_are_answered_in_turn() -> None:
    first, second = exchange(post(chat("a"), "keep-alive") + post(chat("b")))
    assert (text(first), text(second)) == (scripted_text("a"), scripted_text("b"))


def test_a_script_can_be_replaced_while_it_serves() -> None:
    shut = b'{"rate_limits": [{"allow": 0}], "rejection_seconds": 0}'
    pieces = (post(chat("a"), "keep-alive"), put(shut).replace(b"close", b"keep-alive"))
    answers = exchange(b"".join((*pieces, post(chat("a")))))
    assert [status for status, _ in answers] == [200, 200, 429]


def test_a_request_may_come_in_pieces() -> None:
    whole = post(chat("a"))
    [answer] = exchange(*(whole[i : i + 7] for i in range(0, len(whole), 7)))
    assert text(answer) == scripted_text("a")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /alpha/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /nobody/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\n\r\n", 404),
        (b"GET /alpha/v1/chat/completions HTTP/1.0\r\n\r\n", 405),
        (b"GET /alpha/script HTTP/1.0\r\n\r\n", 405),
        (put(b'{"latencyy": 1}'), 400),
        (post(b"not json"), 400),
        (post(b'{"model": "m", "messages": []}'), 400),
        (post(b'{"model": "m", "messages": [{"role": "user"}]}'), 400),
        (post(chat("a")[:-1] + b', "stream": true}'), 400),
    ],
)
def test_each_kind_of_request_gets_its_status(sent: bytes, status: int) -> None:
    [(found, _)] = exchange(sent)
    assert found == status


def test_an_unknown_name_has_no_address() -> None:
    with pytest.raises(KeyError):
        ScriptedServer({"alpha": AT_ONCE}).url("beta")


def test_it_ends_with_callers_still_waiting() -> None:
    async def main() -> bytes:
        slow = ProviderScript(latency=Latency(distribution="constant", mean=300))
        async with ScriptedServer({"alpha": slow}) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(post(chat("a")))
            async with asyncio.timeout(10):
                while server.in_service("alpha") == 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        assert server.in_service("alpha") == 0
        received = await reader.read()
        writer.close()
        return received

    assert asyncio.run(main()) == b""


def test_scripts_are_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "scripts.yaml"
    path.write_text("alpha: {}\nbeta: { rate_limits: [{ from: 3, to: 8, retry_after: 1 }] }\n")
    assert read_scripts(path)["beta"].rate_limits[0].end == 8


@pytest.mark.parametrize(
    ("content", "says"),
    [("alpha: {latencyy: 1}", "alpha, latencyy"), ("[broken", "broken YAML"), ("3", "dictionary")],
)
def test_a_broken_script_file(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "scripts.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        read_scripts(path)


def start(path: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(path), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_program_prints_its_urls_and_ends_when_told(tmp_path: Path) -> None:
    path = tmp_path / "scripts.yaml"
    path.write_text("alpha: {}\nbeta: {}\n")
    with start(path) as program:
        assert program.stdout is not None
        names = {}
        for _ in range(2):
            name, url = program.stdout.readline().split()
            names[name] = url
        assert set(names) == {"alpha", "beta"}
        with urllib.request.urlopen(names["beta"] + "/models", timeout=10) as answer:
            assert answer.status == 200
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0


def test_the_program_ends_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "scripts.yaml"
    path.write_text("alpha: {}\n")
    with start(path, "--for", "0.1") as program:
        out, _ = program.communicate(timeout=20)
        assert program.returncode == 0
        assert out.startswith("alpha http://127.0.0.1:")


def test_the_program_logs_each_chat_request(tmp_path: Path) -> None:
    path, log = tmp_path / "scripts.yaml", tmp_path / "served.jsonl"
    path.write_text(
        "free: {latency: {distribution: constant, mean: 0}}\n"
        "shut: {rate_limits: [{allow: 0}], rejection_seconds: 0}\n"
        "slow: {latency: {distribution: constant, mean: 300}}\n"
    )
    began = time.monotonic()
    with start(path, "--log", str(log)) as program:
        assert program.stdout is not None
        urls = dict(program.stdout.readline().split() for _ in range(3))
        for name, patience in (("free", 10.0), ("shut", 10.0), ("slow", 0.05)):
            call = urllib.request.Request(urls[name] + "/chat/completions", chat("a"))
            with contextlib.suppress(OSError), urllib.request.urlopen(call, timeout=patience):
                pass
        while not log.exists() or log.read_text().count("\n") < 3:
            assert time.monotonic() < began + 30
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
    served = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(one["provider"], one["outcome"]) for one in served] == [
        ("free", "answer"),
        ("shut", "rate_limited"),
        ("slow", "abandoned"),
    ]
    for one in served:
        assert began < one["arrived_at"] <= one["answered_at"] < time.monotonic()


def test_the_program_says_what_is_wrong_with_its_script(tmp_path: Path) -> None:
    with start(tmp_path / "none.yaml") as program:
        out, errors = program.communicate(timeout=20)
        assert program.returncode == 2
        assert out == ""
        assert len(errors.splitlines()) == 1
        assert "none.yaml" in errors
