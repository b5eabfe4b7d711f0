"""What an answer holds, and what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.events.failures import AnswerAction, AnswerVerdict
from engine.identity import RequestResourceKey
from engine.models.chat import read_answer, request_body, sendable
from engine.models.client import ModelRequest, ProviderError
from engine.models.streaming import StreamedAnswer

RESOURCE = RequestResourceKey("alpha", "m", "chat")


def request(**parts: Any) -> ModelRequest:
    return ModelRequest(RESOURCE, "writer", "Hello", **parts)


def body(content: Any, finish: str = "stop", usage: Any = None, **message: Any) -> Any:
    return {
        "choices": [{"finish_reason": finish, "message": {"content": content, **message}}],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("answer", "text", "verdict"),
    [
        (body("fine"), "fine", None),
        (body("cut in the mid", "length"), "cut in the mid", "truncated"),
        (body("the first half", "content_filter"), "the first half", "filtered_answer"),
        (body(None, "content_filter"), "", "filtered_answer"),
        (body(None), "", "empty_answer"),
        (body("  \n"), "  \n", "empty_answer"),
        (body(None, refusal="I can't."), "", "refusal"),
        (body(None, "length"), "", "reasoning_only"),
        (body("", reasoning_content="hmm"), "", "reasoning_only"),
        (body("so", reasoning="hmm"), "so", None),
        (body([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", None),
        (body("<think>let me see</think>\nthe answer"), "the answer", "thinking_in_text"),
        (body("let me see</think>\n\nthe answer"), "the answer", "thinking_in_text"),
        (body("<think>still thinking", "length"), "", "reasoning_only"),
        (body("a < b and </p>"), "a < b and </p>", None),
        (body("cut \ud83d"), "cut \ufffd", None),
        (body("\ud83d\ude00"), "\U0001f600", None),
    ],
)
def test_verdicts(answer: Any, text: str, verdict: AnswerVerdict | None) -> None:
    read = read_answer(answer, request())
    assert (read.text, read.verdict) == (text, verdict)


def test_thinking_is_kept_where_the_column_does_not_accept_it() -> None:
    actions: dict[AnswerVerdict, AnswerAction] = {"thinking_in_text": "drop"}
    read = read_answer(body("<think>x</think>y"), request(answer_actions=actions))
    assert read.text == "<think>x</think>y"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (None, None)),
        ({"prompt_tokens": 5, "completion_tokens": 3}, (5, 3)),
        ({"prompt_tokens": "12", "completion_tokens": "3"}, (12, 3)),
        ({"prompt_tokens": {"text": 3}, "completion_tokens": -4}, (None, None)),
        ({"prompt_tokens": 10**30, "completion_tokens": True}, (None, None)),
        ({"prompt_tokens": 3.5, "completion_tokens": 1e30}, (None, None)),
        ({"prompt_tokens": 3.0}, (3, None)),
        ([1], (None, None)),
    ],
)
def test_usage_in_all_its_forms(usage: Any, tokens: tuple[int | None, int | None]) -> None:
    read = read_answer(body("fine", usage=usage), request())
    assert (read.prompt_tokens, read.completion_tokens) == tokens


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"choices": None}, {"choices": []}, {"choices": [1]}, {"choices": [{}]}],
)
def test_what_is_no_chat_completion(answer: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        read_answer(answer, request())
    assert caught.value.failure == "malformed_answer"


def test_a_body_with_options() -> None:
    sent = request(
        system="Be \ud83d brief", temperature=0.5, max_tokens=9, options={"top_p": 0.9, "x": [1]}
    )
    assert json.loads(request_body(sent, {"max_tokens": "max_completion_tokens"})) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be \ufffd brief"},
            {"role": "user", "content": "Hello"},
        ],
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "top_p": 0.9,
        "x": [1],
    }
    assert json.loads(request_body(request(stream=True), {}))["stream"] is True


def test_plain_text_is_sent_as_it_is() -> None:
    assert sendable("Grüße \U0001f600") == "Grüße \U0001f600"


def piece(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    chunk = {"choices": [{"delta": delta, "finish_reason": finish}], **more}
    return b"data: " + json.dumps(chunk).encode() + b"\n"


def test_a_streamed_answer() -> None:
    streamed = StreamedAnswer(0.0, lambda: 0.25)
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    for line in (
        b": keep-alive\n",
        piece(""),
        piece("Hel"),
        b"\n",
        piece("lo", "stop"),
        b'data: {"choices": [], "usage": ' + json.dumps(usage).encode() + b"}\n",
        b"data: [DONE]\n",
    ):
        streamed.feed(line)
    read = streamed.response(request())
    assert (read.text, read.prompt_tokens, read.completion_tokens) == ("Hello", 4, 2)
    assert read.first_token_seconds == 0.25
    assert read.verdict is None


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    streamed = StreamedAnswer(0.0, lambda: 0.25)
    streamed.feed(piece("Hel"))
    with pytest.raises(ProviderError, match="broke off"):
        streamed.response(request())


def test_an_error_within_a_stream() -> None:
    streamed = StreamedAnswer(0.0, lambda: 0.25)
    streamed.feed(b'data: {"error": {"code": 429, "message": "slow down"}}\n')
    assert streamed.error == {"error": {"code": 429, "message": "slow down"}}
