"""Embeddings: the body of a request, and the vector that an answer holds."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.models.chat import sendable
from engine.models.client import ModelRequest, ModelResponse, ProviderError
from engine.models.usage import read_usage


def embedding_body(request: ModelRequest, renamed: Mapping[str, str | None]) -> bytes:
    """The JSON of a request. `renamed`: as in `request_body`."""
    body: dict[str, Any] = {
        "model": request.resource.model_id,
        "input": sendable(request.prompt),
        **request.options,
    }
    for name, other in renamed.items():
        value = body.pop(name, None)
        if value is not None and other is not None:
            body[other] = value
    return msgspec.json.encode(body)


def read_embedding(body: Any) -> ModelResponse:
    """The vector in a body. Raises `ProviderError` where there is none."""
    data = body.get("data") if isinstance(body, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    vector = _vector(first.get("embedding")) if isinstance(first, dict) else None
    if not vector:
        raise ProviderError(
            "malformed_answer", "MalformedAnswer", "the provider's answer holds no embedding"
        )
    usage = read_usage(body.get("usage"))
    # What an embedding costs is in its prompt alone.
    return ModelResponse("", usage.prompt_tokens, 0, details=usage, vector=vector)


def _vector(value: Any) -> tuple[float, ...] | None:
    """The numbers of an embedding, which may come as base64 of 32-bit floats."""
    if isinstance(value, str):
        try:
            data = base64.b64decode(value, validate=True)
            value = list(struct.unpack(f"<{len(data) // 4}f", data))
        except (binascii.Error, ValueError, struct.error):
            return None
    if not isinstance(value, list):
        return None
    numbers = [
        float(number)
        for number in value
        if isinstance(number, int | float) and not isinstance(number, bool)
    ]
    whole = len(numbers) == len(value) and all(map(math.isfinite, numbers))
    return tuple(numbers) if whole else None
