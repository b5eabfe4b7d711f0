"""`check_reachable`: is there anything at a provider's address? Asked before a run begins."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from engine.errors import UserError
from engine.models.build import provider_key
from engine.models.openai_client import is_loopback
from engine.workflow.schema import OpenAIProvider, Provider

REACH_TIMEOUT_SECONDS = 10.0


def check_reachable(
    name: str, provider: Provider, timeout_seconds: float = REACH_TIMEOUT_SECONDS
) -> None:
    """Any HTTP answer will do; no key is sent. Blocks; not for the engine's loop.

    Raises `UserError` where nothing answers, or where the environment lacks the provider's key.
    """
    if not isinstance(provider, OpenAIProvider):
        return
    provider_key(name, provider.api_key_env)
    # Without a map of its own the opener takes proxies from the environment, as the client does.
    proxies = urllib.request.ProxyHandler({} if is_loopback(provider.base_url) else None)
    opener = urllib.request.build_opener(proxies)
    try:
        with opener.open(f"{provider.base_url}/models", timeout=timeout_seconds):
            return
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f'provider "{name}" can\'t be reached at {provider.base_url}: {_cause(reason)}'
        ) from None


def _cause(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    if isinstance(reason, http.client.HTTPException):
        return "what answers there does not speak HTTP"
    return str(reason)
