"""`build_client`: the client that speaks to a provider."""

from __future__ import annotations

import os
from collections.abc import Mapping

from engine.clock import Clock
from engine.errors import UserError
from engine.models.client import ModelClient
from engine.models.network import proxy_for
from engine.models.openai_client import OpenAIClient
from engine.models.scripted import ScriptedClient
from engine.models.settings import Provider, ScriptedProvider


def build_client(
    name: str,
    provider: Provider,
    clock: Clock,
    *,
    max_connections: int = 64,
    environment: Mapping[str, str] | None = None,
) -> ModelClient:
    """`max_connections`: the most requests in flight to this provider (the sum of its caps).

    Raises `UserError` where the environment lacks the provider's key.
    """
    if isinstance(provider, ScriptedProvider):
        return ScriptedClient(provider, clock)
    key = provider_key(name, provider.api_key_env, environment)
    headers = dict(provider.headers)
    if key is not None and provider.api_key_header is not None:
        headers[provider.api_key_header] = key
    return OpenAIClient(
        provider.base_url,
        None if provider.api_key_header is not None else key,
        clock,
        max_connections,
        headers=headers,
        query=provider.query,
        proxy=proxy_for(name, provider.base_url),
    )


def provider_key(
    name: str, variable: str | None, environment: Mapping[str, str] | None = None
) -> str | None:
    """The key that a provider needs, or None. Raises `UserError` where it is not set."""
    if variable is None:
        return None
    key = (os.environ if environment is None else environment).get(variable, "").strip()
    if not key:
        raise UserError(
            f'provider "{name}" needs its key in the environment variable {variable}, '
            "which is not set"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(
            f'the key of provider "{name}" in {variable} holds characters that no HTTP header '
            "takes (a line break, a space, or a letter outside ASCII): set it again"
        )
    return key
