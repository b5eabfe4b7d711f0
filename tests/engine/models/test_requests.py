"""Bodies of requests with more than a prompt, and embeddings, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import pytest

from engine.clock import LoopClock
from engine.identity import RequestResourceKey
from engine.models.chat import request_body
from engine.models.client import ModelRequest, ModelResponse, ProviderError, Turn
from engine.models.embeddings import embedding_body, read_embedding
from engine.models.openai_client import OpenAIClient
from engine.models.provider_script import Latency, ProviderScript
from engine.models.scripted_answers import scripted_json, scripted_vector
from tests.scripted_server import ScriptedServer

PICTURE = "data:image/png;base64,AAAA"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
AT_ONCE = ProviderScript(latency=Latency(distribution="constant", mean=0))


def request(prompt: str = "Hello", **parts: Any) -> ModelRequest:
    resource = RequestResourceKey("alpha", "gen-8b", "chat")
    return ModelRequest(resource, "writer", prompt, timeout_seconds=20.0, **parts)


def sent(made: ModelRequest) -> ModelResponse:
    """The scripted server's answer."""

    async def main() -> ModelResponse:
        async with ScriptedServer({"alpha": AT_ONCE}) as server:
            clock = LoopClock(asyncio.get_running_loop())
            client = OpenAIClient(server.url("alpha"), None, clock, 4)
            try:
                return await client.send(made)
            finally:
                await client.close()

    return asyncio.run(main())


def test_a_conversation_keeps_its_order_and_its_images() -> None:
    made = request(
        "And this?",
        system="Be brief.",
        turns=(Turn("user", "See", (PICTURE,)), Turn("assistant", "Seen")),
        images=("https://host/b.png",),
    )
    messages = json.loads(request_body(made, {}))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[1]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    assert messages[2]["content"] == "Seen"
    assert messages[3]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "https://host/b.png"},
    }


def test_a_request_goes_on_after_an_answer() -> None:
    made = request("First", images=(PICTURE,), system="s").followed_by("An answer", "Again")
    assert made.turns == (Turn("user", "First", (PICTURE,)), Turn("assistant", "An answer"))
    assert (made.prompt, made.images, made.system) == ("Again", (), "s")
    assert made.texts == ("s", "First", "An answer", "Again")


def test_an_option_is_left_out_or_renamed() -> None:
    made = request(options={"response_format": {"type": "json_object"}}, max_tokens=4)
    renamed = {"response_format": None, "max_tokens": "max_completion_tokens"}
    body = json.loads(request_body(made, renamed))
    assert "response_format" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 4


def test_the_scripted_server_answers_schemas_and_vectors() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    answer = sent(request("Hello", options={"response_format": wanted}))
    assert answer.text == scripted_json(SCHEMA, "Hello")
    embedded = sent(request("Hello", operation="embedding", options={"dimensions": 5}))
    assert embedded.vector == scripted_vector("Hello", 5)
    assert embedded.prompt_tokens == 1
    assert len(sent(request("Hello", operation="embedding")).vector) == AT_ONCE.dimensions


def test_the_body_of_an_embedding() -> None:
    made = request("Hello \ud800", operation="embedding", options={"dimensions": 5})
    body = json.loads(embedding_body(made, {}))
    assert body == {"model": "gen-8b", "input": "Hello \ufffd", "dimensions": 5}


def test_a_vector_may_come_as_base64() -> None:
    encoded = base64.b64encode(struct.pack("<3f", 0.5, 1.0, -2.0)).decode()
    answer = read_embedding({"data": [{"embedding": encoded}], "usage": {"prompt_tokens": "4"}})
    assert (answer.vector, answer.prompt_tokens) == ((0.5, 1.0, -2.0), 4)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": [1, None]}]},
        {"data": [{"embedding": [True]}]},
        {"data": [{"embedding": "no base64!"}]},
        {"data": [{"embedding": "AAA="}]},
    ],
)
def test_what_is_no_vector_is_a_malformed_answer(body: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        read_embedding(body)
    assert caught.value.failure == "malformed_answer"
