"""Chat completions: the body of a request, and what an answer holds.

Answers are read as they come, not as they should be: text as a list of parts, usage as text or
missing, thinking beside or within the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.events.failures import AnswerVerdict
from engine.models.client import ModelRequest, ModelResponse, ProviderError, Turn
from engine.models.usage import NO_USAGE, Usage, read_usage

_THINKING_TAG = re.compile(r"<(/?)(think|thinking|reasoning)>", re.IGNORECASE)


def request_body(request: ModelRequest, renamed: Mapping[str, str | None]) -> bytes:
    """The JSON of a request. `renamed`: options that the model wants under another name, or not at
    all."""
    turns = (*request.turns, Turn("user", request.prompt, request.images))
    if request.system is not None:
        turns = (Turn("system", request.system), *turns)
    messages = [{"role": turn.role, "content": _content(turn)} for turn in turns]
    body: dict[str, Any] = {"model": request.resource.model_id, "messages": messages}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    body.update(request.options)
    if request.stream:
        body["stream"] = True
        body.setdefault("stream_options", {"include_usage": True})
    for name, other in renamed.items():
        value = body.pop(name, None)
        if value is not None and other is not None:
            body[other] = value
    return msgspec.json.encode(body)


def _content(turn: Turn) -> str | list[dict[str, Any]]:
    text = sendable(turn.text)
    if not turn.images:
        return text
    images = [{"type": "image_url", "image_url": {"url": sendable(url)}} for url in turn.images]
    return [{"type": "text", "text": text}, *images]


def sendable(text: str) -> str:
    """The text without lone surrogates, which no encoding can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def read_answer(body: Any, request: ModelRequest) -> ModelResponse:
    """The answer in a body. Raises `ProviderError` where it is no chat completion."""
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise malformed()
    text = _text(message.get("content"))
    thinking = message.get("reasoning_content") or message.get("reasoning")
    finish = choice.get("finish_reason")
    usage = read_usage(body.get("usage"))
    return judged(
        text,
        finish if isinstance(finish, str) else None,
        refused=bool(message.get("refusal")),
        thought=bool(thinking),
        request=request,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        details=usage,
    )


def judged(
    text: str,
    finish_reason: str | None,
    *,
    refused: bool,
    thought: bool,
    request: ModelRequest,
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    first_token_seconds: float | None = None,
    details: Usage = NO_USAGE,
) -> ModelResponse:
    """An answer with its verdict."""
    verdict: AnswerVerdict | None = None
    text = sendable(text)
    spoken = without_thinking(text)
    if spoken != text:
        verdict = "thinking_in_text"
        thought = True
        if request.action("thinking_in_text") == "accept":
            text = spoken
    if refused:
        verdict = "refusal"
    elif finish_reason == "content_filter":
        verdict = "filtered_answer"
    elif not spoken.strip():
        used_up = finish_reason in ("length", "max_tokens")
        verdict = "reasoning_only" if thought or used_up else "empty_answer"
    elif finish_reason in ("length", "max_tokens"):
        verdict = "truncated"
    return ModelResponse(
        text,
        prompt_tokens,
        completion_tokens,
        verdict,
        finish_reason,
        first_token_seconds,
        details=details,
    )


def without_thinking(text: str) -> str:
    """The text without the thinking that stands before it; "" where nothing follows."""
    start = text.find("<")
    tag = _THINKING_TAG.match(text, start) if start >= 0 else None
    if tag is None:
        return text
    closes, name = tag[1], tag[2]
    if closes:
        # Some templates put the opening tag into the prompt: only the closing one is answered.
        return text[tag.end() :].lstrip()
    if text[:start].strip():
        return text
    end = re.compile(f"</{name}>", re.IGNORECASE).search(text, tag.end())
    return "" if end is None else text[end.end() :].lstrip()


def malformed(detail: str = "") -> ProviderError:
    """The error of an answer that can't be read; `detail` follows the sentence."""
    message = "the provider's answer is no chat completion"
    return ProviderError("malformed_answer", "MalformedAnswer", message + detail)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return ""
