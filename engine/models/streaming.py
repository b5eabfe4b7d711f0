"""`StreamedAnswer`: a chat completion that comes in pieces, as server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from engine.models.chat import judged, malformed
from engine.models.client import ModelRequest, ModelResponse
from engine.models.usage import read_usage


class StreamedAnswer:
    """Feed it the lines.

    Args:
        began: When the request went out, in monotonic seconds.
        monotonic: Returns them now.
    """

    def __init__(self, began: float, monotonic: Callable[[], float]) -> None:
        self._began = began
        self._monotonic = monotonic
        self._pieces: list[str] = []
        self._finish: str | None = None
        self._refused = False
        self._thought = False
        self._usage: dict[str, Any] = {}
        self._first: float | None = None
        self._done = False
        self.error: Any = None
        """The body of an error that came in the stream; None for none."""

    def feed(self, line: bytes) -> None:
        """Takes one line of the event stream; what is no `data:` is left out."""
        if not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self._done = True
            return
        try:
            chunk = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise malformed(": a piece of the stream is no JSON") from None
        if not isinstance(chunk, dict):
            return
        if chunk.get("error"):
            self.error = chunk
            return
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        if isinstance(choice.get("finish_reason"), str):
            self._finish = choice["finish_reason"]
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        if self._first is None and any(
            delta.get(k) for k in ("content", "reasoning_content", "reasoning")
        ):
            self._first = self._monotonic() - self._began
        if isinstance(delta.get("content"), str):
            self._pieces.append(delta["content"])
        self._refused |= bool(delta.get("refusal"))
        self._thought |= bool(delta.get("reasoning_content") or delta.get("reasoning"))

    def response(self, request: ModelRequest) -> ModelResponse:
        """The whole answer. Raises `ProviderError` where the stream ended before it did."""
        if self._finish is None and not self._done:
            raise malformed(": the stream broke off")
        usage = read_usage(self._usage)
        response = judged(
            "".join(self._pieces),
            self._finish,
            refused=self._refused,
            thought=self._thought,
            request=request,
            first_token_seconds=self._first,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        return replace(response, details=usage)
